"""The whole way on one machine: a grant, a sliver in the world, and the letter of complaint that is answered."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest
from outside_world import NODE, SERVER, World, world
from own_place import eventually, run

__all__ = ["world"]
pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "outside", "containers")]
NET = """
name: lab
slivers:
  client: {outside: true, runtime: container}
"""


@pytest.fixture
def vini(world: World, tmp_path) -> Iterator:
    """A command that root types on the test host."""
    environment = [f"{k}={v}" for k, v in world.own.environment.items()]
    (tmp_path / "lab.yaml").write_text(NET)

    def call(*words: str) -> str:
        argv = ["nsenter", f"--net={world.host}", "--", "env", "-C", tmp_path, *environment, sys.executable, "-m"]
        return run(*argv, "vini.cli", *words)

    yield call
    call("down", "--all")
    call("agent", "stop")


def test_a_grant_lets_a_sliver_out_and_who_sent_is_found_by_one_command(world, vini):
    vini("outside", "grant", "lab", "--to", "5.5.0.0/16", "--allow", "icmp", "--allow", "udp/53")
    vini("up", "lab.yaml")
    eventually(lambda: (world.own.place.run / "flows.running").exists())
    assert "1 received" in vini("exec", "client", "--", "ping", "-c1", "-W5", SERVER)
    said = eventually(lambda: json.loads(vini("audit", "who", NODE, SERVER, "--protocol", "icmp", "--json")))
    (flow,) = said["this machine"]["flows"]
    assert (flow["slice"], flow["sliver"], flow["seen_as"].partition(":")[0]) == ("lab", "client", NODE)
    vini("outside", "revoke", "lab")
    out = vini("exec", "client", "--", "sh", "-c", f"ping -c1 -W1 {SERVER}; ip -br link")
    assert "outside" not in out and "bytes from" not in out
    eventually(lambda: not (world.own.place.run / "flows.running").exists())
