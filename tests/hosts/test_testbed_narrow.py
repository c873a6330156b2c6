"""A network between nodes that carries less than their interfaces say, and tells nobody: links fit all the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from own_place import eventually, run
from testbed import Host, Testbed, testbed

from vini.layout import address, layout
from vini.model import Interface

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan", "vxlan-xdp", "ping")]
SLICE = "home_narrow"
TAKES = 50  # the tunnel, of each packet
LINE = """
name: home_narrow
tunnel: vxlan-xdp
routing: {protocols: static}
slivers:
  a: {node: n1}
  b: {node: n1}
  c: {node: n2}
  d: {node: n2}
links:
  - a -- b
  - b -- c
  - c -- d
"""
_SEND = """
import socket, sys
s = socket.create_connection((sys.argv[2], 7777), timeout=90, source_address=(sys.argv[1], 0))
s.sendall(bytes(1 << 20)); s.shutdown(1); print(s.recv(99).decode())
"""
_RECEIVE = """
import socket
s = socket.create_server(("", 7777)); s.settimeout(90); c, _ = s.accept(); n = 0
while b := c.recv(1 << 16):
    n += len(b)
c.sendall(b"got %d" % n); c.close()
"""


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    with testbed(("n1", "n2"), tmp_path_factory.mktemp) as made:
        made.vini("slice", "create", SLICE, "--description", "a line", "--url", "https://example.org")
        yield made
        made.vini("down", "-s", SLICE)


def mtus(host: Host, sliver: str) -> dict[str, int]:
    own = (o for o in host.observe() if isinstance(o, Interface) and o.ns == f"{SLICE}.{sliver}")
    return {o.dev: o.mtu for o in own if o.dev != "lo"}


def test_a_narrow_path_nobody_tells_of(bed: Testbed) -> None:
    """The other node's cable carries 1400 bytes, and a bridge says nothing of what it drops."""
    n1, n2 = bed.hosts["n1"], bed.hosts["n2"]
    run("ip", "link", "set", n2.wire, "mtu", "1400")
    try:
        path = bed.directory / "narrow.yaml"
        path.write_text(LINE)
        bed.vini("up", str(path), "--slice", SLICE, "--timeout", "120")
        eventually(lambda: _are_narrow(n1, n2))
        assert mtus(n1, "b")["to-a"] == mtus(n2, "c")["to-d"] == 1500
        assert all(row["state"] == "ready" for row in _status(bed)["slivers"])
        eventually(lambda: "packets may have 1400 bytes" in bed.vini("nodes"))
        own = own_addresses(bed)
        big = ("ping", "-c1", "-W2", "-M", "do", "-s", "1472", "-I", own["a"], own["d"])
        out = run(*n1.enter(f"{SLICE}.a", *big), check=False)
        assert "mtu = 1350" in out or "mtu=1350" in out, out
        assert "got 1048576" in _tcp(bed, n1, n2)
        n1.kill()
        n1.start()  # takes the path to be as it was
        eventually(n1.is_connected)
        assert mtus(n1, "b")["to-c"] == 1400 - TAKES
        run("ip", "link", "set", n2.wire, "mtu", "1500")
        eventually(lambda: mtus(n1, "b")["to-c"] == mtus(n2, "c")["to-b"] == 1500 - TAKES, 240)
    finally:
        run("ip", "link", "set", n2.wire, "mtu", "1500")


def own_addresses(bed: Testbed) -> dict[str, str]:
    made = layout(bed.client().topologies()[SLICE])
    return {s: address(made, s, 4) for s in "ad"}


def _are_narrow(n1: Host, n2: Host) -> bool:
    """A cable of a pair lets 4 bytes more in than it lets out, for the tag of a VLAN."""
    return mtus(n1, "b")["to-c"] == 1400 - TAKES and mtus(n2, "c")["to-b"] in (1400 - TAKES, 1404 - TAKES)


def _tcp(bed: Testbed, n1: Host, n2: Host) -> str:
    """Between the slivers' own addresses, which is where static routes lead."""
    own = own_addresses(bed)
    listener = subprocess.Popen([*n2.enter(f"{SLICE}.d", sys.executable, "-c", _RECEIVE)])
    try:
        eventually(lambda: "7777" in run(*n2.enter(f"{SLICE}.d", "ss", "-Htln")))
        return run(*n1.enter(f"{SLICE}.a", sys.executable, "-c", _SEND, own["a"], own["d"]))
    finally:
        listener.wait(100)


def _status(bed: Testbed) -> dict[str, list[dict[str, str]]]:
    return json.loads(bed.vini("status", "-s", SLICE, "--json"))[0]
