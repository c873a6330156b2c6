"""A data plane that is a process: what a sliver needs for it."""

from typing import Literal

import pytest

from vini.model import File, Process, Sysctl, TopologyError, Unsupported
from vini.plugins.process_program import COUNTERS, objects


def test_a_command_runs_as_a_service_beside_a_kernel_that_does_not_forward() -> None:
    quiet, process = objects("s.a", "process", "my-forwarder --fast | tee log")
    assert quiet == Sysctl("s.a", (("ipv4/ip_forward", "0"), ("ipv6/conf/all/forwarding", "0")))
    assert isinstance(process, Process) and not process.once and not process.rooted
    assert process.argv[-3:] == ("sh", "-c", "my-forwarder --fast | tee log")


def test_beside_a_process_the_kernel_forwards_where_that_is_asked_for() -> None:
    kernel, _ = objects("s.a", "process", "my-tun", forward=True)
    assert kernel == Sysctl("s.a", (("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")))


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\nimport\n", "line 2, column 7: This is no Python: "),
        ("return 1\n", "This is no Python: 'return' outside"),
        ("\0", "null"),
    ],
)
def test_a_text_that_is_no_python_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(TopologyError, match="hub.py") as refused:
        objects("s.a", "python", text, name="hub.py")
    assert said in str(refused.value)


def test_a_warning_is_no_mistake(recwarn: pytest.WarningsRecorder) -> None:
    objects("s.a", "python", "'\\d'\n")
    assert not recwarn.list


@pytest.mark.parametrize("kind", ["process", "python"])
def test_a_process_is_ready_when_it_lives_on(kind: Literal["process", "python"]) -> None:
    process = objects("s.a", kind, "x")[-1]
    assert isinstance(process, Process) and process.ready
    if kind == "python":
        assert COUNTERS in process.ready.argv[-1]
