"""Initscripts: run at each boot, before commands, and seen to fail."""

from __future__ import annotations

import asyncio

import pytest
from own_place import OwnPlace, eventually

from vini.model import SliverStatus, ViniError
from vini.node import cgroup
from vini.node.container import crun
from vini.topology import parse

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "containers")]
FILE = """
name: init
slivers:
  box:
    runtime: RUNTIME
    initscript: |
      echo boot >>/var/tmp/boots
      echo hello from the script
      exit STATUS
    commands: ["cp /var/tmp/boots /var/tmp/seen"]
"""


def up(own: OwnPlace, runtime: str = "container", status: int = 0) -> None:
    asyncio.run(own.client().up(parse(FILE.replace("RUNTIME", runtime).replace("STATUS", str(status)))))


def inside(own: OwnPlace, *argv: str) -> str:
    return asyncio.run(own.client().output("init", "box", list(argv)))[1]


def states(own: OwnPlace) -> list[SliverStatus]:
    return asyncio.run(own.client().status("init"))


def test_it_runs_at_each_boot_before_commands_and_its_failure_is_told(own: OwnPlace) -> None:
    up(own)
    eventually(lambda: inside(own, "cat", "/var/tmp/seen") == "boot\n")
    log = own.place.sliver("init.box") / "initscript.log"
    eventually(lambda: "hello from the script" in log.read_text())
    cgroup.kill(cgroup.of(own.place, "init.box", crun.GROUP))
    eventually(lambda: inside(own, "cat", "/var/tmp/seen") == "boot\n" * 2)
    with pytest.raises(ViniError, match="`initscript` ended with status 3; its last lines: hello from the script"):
        up(own, status=3)
    assert [s.state for s in states(own)] == ["failed"]
    assert inside(own, "cat", "/var/tmp/boots") == "boot\n" * 3
    up(own)
    eventually(lambda: [s.state for s in states(own)] == ["ready"])
    asyncio.run(own.client().down("init"))


VARIABLES = """
name: init
slivers: {box: {runtime: RUNTIME, environment: {WHO: "VALUE"}, commands: ["echo $WHO >/var/tmp/vini-who"]}}
"""


@pytest.mark.parametrize("runtime", ["light", "container"])
def test_commands_and_what_people_run_have_the_slivers_variables_and_others_when_they_change(
    own: OwnPlace, runtime: str
) -> None:
    def told() -> tuple[str, str]:
        return inside(own, "cat", "/var/tmp/vini-who"), inside(own, "printenv", "WHO")

    text = VARIABLES.replace("RUNTIME", runtime)
    try:
        for who in ("one $man", "another"):
            asyncio.run(own.client().up(parse(text.replace("VALUE", who))))
            assert told() == (f"{who}\n", f"{who}\n")
        asyncio.run(own.client().up(parse(text.replace('environment: {WHO: "VALUE"}, ', ""))))
        assert inside(own, "printenv", "WHO") == ""
    finally:
        inside(own, "rm", "-f", "/var/tmp/vini-who")
        asyncio.run(own.client().down("init"))
