"""A data plane that is a process: what a sliver needs for it."""

import pytest

from vini.model import File, Process, Sysctl, Unsupported
from vini.plugins.process_program import objects


def test_a_command_runs_as_a_service_beside_a_kernel_that_does_not_forward() -> None:
    quiet, process = objects("s.a", "process", "my-forwarder --fast | tee log")
    assert quiet == Sysctl("s.a", (("ipv4/ip_forward", "0"), ("ipv6/conf/all/forwarding", "0")))
    assert isinstance(process, Process) and not process.once and not process.rooted
    assert process.argv[-3:] == ("sh", "-c", "my-forwarder --fast | tee log")


def test_a_python_program_is_a_file_that_the_agents_interpreter_runs() -> None:
    _, file, process = objects("s.a", "python", "print(1)\n", rooted=True)
    assert isinstance(file, File) and file.text == "print(1)\n"
    assert isinstance(process, Process) and process.rooted
    assert process.argv[2:] == ("{python}", "-u", "{run}/" + file.path)


def test_another_text_is_another_command_line_so_the_process_is_restarted() -> None:
    first, second = (objects("s.a", "python", text)[2] for text in ("print(1)\n", "print(2)\n"))
    assert isinstance(first, Process) and isinstance(second, Process)
    assert first.argv != second.argv and "argv" not in first.changeable


def test_python_in_an_image_is_refused_and_a_command_runs_there() -> None:
    with pytest.raises(Unsupported, match="Sliver 'a' has an image.*program: {process: python3 FILE}"):
        objects("s.a", "python", "print(1)\n", image=True)
    process = objects("s.a", "process", "./forwarder", image=True)[1]
    assert isinstance(process, Process) and process.rooted
