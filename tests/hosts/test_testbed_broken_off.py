"""Commands of operators that are killed (SIGKILL) in the middle: typed again, they end well and say what they did."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from own_place import eventually
from testbed import Testbed, wired

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan")]

# In place of which step: the answer that the central has given, the identity on the disk, the agent that is begun.
JOINING = (
    "vini.node.join.Identity",
    "vini.node.identity.write",
    "vini.client.Client.greeting",
    "vini.node.attempt.over",
)
LEAVING = ("vini.node.identity.forget", "vini.node.files.permit.forget")


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    with wired(("n1",), tmp_path_factory.mktemp) as made:
        made.init()
        made.central.up()
        made.login()
        yield made


def killed_at(step: str) -> tuple[str, str]:
    """The command line of a Python whose `vini` dies there."""
    module, _, name = step.rpartition(".")
    owner = module.removesuffix(".Client")
    return "-c", (
        f"import os, sys, {owner}; from vini.cli import main; "
        f"setattr({module}, {name!r}, lambda *a, **k: os.kill(os.getpid(), 9)); main()"
    )


def test_a_machine_whose_joining_was_broken_off_joins_by_the_same_token(bed: Testbed) -> None:
    n1 = bed.hosts["n1"]
    for step in JOINING:
        words = ("node", "join", bed.central.url, bed.token(), "--name", "n1")
        said = n1.vini(*words, check=False, python=killed_at(step))
        assert "This machine is node" not in said and "Traceback" not in said, f"{step}: {said}"
        assert "This machine is node n1 of site home now" in n1.vini(*words), step
        eventually(n1.is_connected)
        assert not (n1.state / "uplink" / "joining.json").exists()
        events = [e["what"] for e in bed.client().call("GET", "/events", dict, what="join", limit=100)["items"]]
        assert len(events) == 1 + JOINING.index(step)
        n1.vini("node", "leave")
        bed.vini("node", "delete", "n1")


def test_who_left_half_leaves_whole(bed: Testbed) -> None:
    n1 = bed.hosts["n1"]
    for step in LEAVING:
        bed.join(n1)
        n1.vini("node", "permit", "--commands")
        n1.vini("node", "leave", check=False, python=killed_at(step))
        assert re.search("is (no node any more|no node of a testbed)", n1.vini("node", "leave")), step
        assert "without commands" in n1.vini("node", "permit")
        eventually(lambda: not (n1.state / "uplink" / "identity.json").exists())
        bed.vini("node", "delete", "n1")
