"""The whole way on one machine: a grant, a sliver in the world, and the letter of complaint that is answered."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest
from outside_world import NODE, NODE6, ROUTER6, SERVER, SERVER6, World, world
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
        return run(*argv, "vini.cli", *words, both=True)

    yield call
    call("down", "--all")
    call("agent", "stop")


@pytest.mark.parametrize(
    ("to", "server", "node", "icmp"),
    [
        ("5.5.0.0/16", SERVER, NODE, "icmp"),
        pytest.param("2a00:5::/32", SERVER6, f"[{NODE6}]", "icmpv6", marks=pytest.mark.needs("outside-ipv6")),
    ],
    ids=["IPv4", "IPv6"],
)
def test_a_grant_lets_a_sliver_out_and_who_sent_is_found_by_one_command(world, vini, to, server, node, icmp):
    vini("outside", "grant", "lab", "--to", to, "--allow", "icmp", "--allow", "udp/53")
    vini("up", "lab.yaml")
    eventually(lambda: (world.own.place.run / "flows.running").exists())
    assert "1 received" in vini("exec", "client", "--", "ping", "-c1", "-W5", server)
    said = eventually(lambda: json.loads(vini("audit", "who", node, server, "--protocol", icmp, "--json")))
    (flow,) = said["this machine"]["flows"]
    assert (flow["slice"], flow["sliver"], flow["seen_as"].rpartition(":")[0]) == ("lab", "client", node)
    vini("outside", "revoke", "lab")
    out = vini("exec", "client", "--", "sh", "-c", f"ping -c1 -W1 {server}; ip -br link")
    assert "outside" not in out and "bytes from" not in out
    eventually(lambda: not (world.own.place.run / "flows.running").exists())


@pytest.mark.needs("outside-ipv6")
def test_doctor_tells_where_a_machine_has_no_ipv6_route(world, vini):
    assert "no IPv6 route" not in vini("doctor")
    world.on_host("ip", "-6", "route", "delete", "default")
    try:
        assert 'This machine has no IPv6 route to the world: slivers that are granted one hear "no route"' in vini(
            "doctor"
        )
    finally:
        world.on_host("ip", "route", "add", "default", "via", ROUTER6)
