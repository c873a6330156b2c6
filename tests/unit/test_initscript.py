"""Initscripts in topology files, and what they become."""

from __future__ import annotations

import pytest

from vini.embed import embed
from vini.model import File, Node, Process, TopologyError, Unsupported
from vini.topology import dump, parse

NODE = Node("n", frozenset({"root", "cgroup2", "containers"}))
FILE = """
name: s
slivers:
  a:
    runtime: RUNTIME
    initscript: |
      #!/usr/bin/env python3 -I
      print(1)
    commands: [{run: "sleep 9", service: true}]
"""


@pytest.mark.parametrize(("runtime", "file"), [("light", "initscript"), ("container", "root/run/initscript")])
def test_it_runs_once_before_the_commands_by_the_interpreter_of_its_first_line(runtime: str, file: str) -> None:
    made = embed(parse(FILE.replace("RUNTIME", runtime)), [NODE])["n"].objects
    (script,) = [o for o in made if isinstance(o, File) and "initscript" in o.path]
    assert (script.path, script.text) == (file, "#!/usr/bin/env python3 -I\nprint(1)\n")
    first, then = sorted((o for o in made if isinstance(o, Process)), key=lambda p: len(p.after))
    assert (first.name, first.argv, first.once) == (
        "initscript", ("/usr/bin/env", "python3", "-I", "{run}/initscript"), True
    )  # fmt: skip
    assert then.after == ("initscript",)


def test_another_text_is_another_process_and_a_text_without_an_interpreter_is_the_shells() -> None:
    def process(text: str) -> Process:
        made = embed(parse("name: s\nslivers: {a: {initscript: |-\n}}".replace("|-\n", f'"{text}"')), [NODE])[
            "n"
        ].objects
        (found,) = [o for o in made if isinstance(o, Process)]
        return found

    one, other = process("echo 1\\necho 2"), process("echo 1\\necho 3")
    assert one.argv == ("sh", "{run}/initscript")
    assert one.config != other.config


def test_a_name_is_the_centrals() -> None:
    named = parse("name: s\nslivers: {a: {initscript: princeton_boot}}")
    assert parse(dump(named)) == named
    with pytest.raises(Unsupported, match="names the initscript 'princeton_boot', which only a testbed's central"):
        embed(named, [NODE])
    with pytest.raises(TopologyError, match="neither a script nor the name of one"):
        parse("name: s\nslivers: {a: {initscript: echo hello}}")
