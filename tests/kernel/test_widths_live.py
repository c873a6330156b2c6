"""How long packets may be on the way to another node: three networks, of which the one in the middle takes less."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from own_place import NETNS, eventually, run

from vini.node import netns, underlay, widths

pytestmark = [pytest.mark.root]
Names = list[str]


@pytest.fixture
def chain(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    """A node, two routers, and another node in a row."""
    monkeypatch.setattr(widths, "_PATIENCE_S", 0.3)  # nothing here is far, and most packets get no answer
    mark = f"vw{tmp_path_factory.mktemp('w').stat().st_ino % 10**6}"
    names = [f"{mark}-{c}" for c in "abcd"]
    for name in names:
        run("ip", "netns", "add", name)
    try:
        for i, (left, right) in enumerate(pairwise(names), 1):
            run("ip", "-n", left, "link", "add", "right", "type", "veth", "peer", "name", "left", "netns", right)
            for name, dev, host in ((left, "right", 1), (right, "left", 2)):
                run("ip", "-n", name, "address", "add", f"192.0.{i}.{host}/24", "dev", dev)
                run("ip", "-n", name, "address", "add", f"2001:db8:{i}::{host}/64", "dev", dev, "nodad")
                run("ip", "-n", name, "link", "set", dev, "up")
        for name in names:
            setting = ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
            run("ip", "netns", "exec", name, "sysctl", "-q", "-w", *setting)
        for i, name in enumerate(names):
            for j in range(1, 4):
                right = i < 3 and j > i + 1
                if right or (i > 0 and j < i):
                    near = (i + 1, 2) if right else (i, 1)
                    run("ip", "-n", name, "route", "add", f"192.0.{j}.0/24", "via", f"192.0.{near[0]}.{near[1]}")
                    run("ip", "-n", name, "route", "add", f"2001:db8:{j}::/64", "via", f"2001:db8:{near[0]}::{near[1]}")
        yield names
    finally:
        for name in names:
            run("ip", "netns", "delete", name)


ENDS = {4: ("192.0.1.1", "192.0.3.2"), 6: ("2001:db8:1::1", "2001:db8:3::2")}


def narrow(chain: Names, mtu: int) -> None:
    run("ip", "-n", chain[1], "link", "set", "right", "mtu", str(mtu))
    run("ip", "-n", chain[2], "link", "set", "left", "mtu", str(mtu))


def measured(local: str, remote: str, mtu: int) -> int | None:
    return asyncio.run(widths.measured(local, remote, mtu))


def within(chain: Names, look: Callable[[], int | None]) -> int | None:
    with netns.inside(NETNS / chain[0]):
        return look()


@pytest.mark.parametrize("version", [4, 6])
def test_the_narrowest_network_on_the_way_is_found(chain: Names, version: int) -> None:
    local, remote = ENDS[version]
    eventually(lambda: within(chain, lambda: measured(local, remote, 1500)) is not None)  # neighbours are found
    for room in (1500, 1400, 1280):
        narrow(chain, room)
        assert within(chain, lambda: measured(local, remote, underlay.mtu_of(local))) == room
    run("ip", "-n", chain[3], "link", "set", "left", "down")
    assert within(chain, lambda: measured(local, remote, 1500)) is None, "who does not answer is not judged"


def test_one_that_says_nothing_of_what_it_drops_is_found_too(chain: Names) -> None:
    """A black hole: no ICMP comes back."""
    narrow(chain, 1300)
    for family in ("ip", "ip6"):
        run("ip", "netns", "exec", chain[0], "nft", f"add table {family} deaf")
        run(
            "ip",
            "netns",
            "exec",
            chain[0],
            "nft",
            f"add chain {family} deaf in {{ type filter hook input priority 0; }}",
        )
    run("ip", "netns", "exec", chain[0], "nft", "add rule ip deaf in icmp type destination-unreachable drop")
    run("ip", "netns", "exec", chain[0], "nft", "add rule ip6 deaf in icmpv6 type packet-too-big drop")
    for local, remote in ENDS.values():
        assert within(chain, lambda a=local, b=remote: measured(a, b, 1500)) == 1300


def test_an_address_is_found_however_it_is_written(chain: Names) -> None:
    run("ip", "-n", chain[0], "link", "set", "right", "mtu", "1450")
    assert within(chain, lambda: underlay.mtu_of("2001:DB8:1:0::1")) == 1450
    assert within(chain, lambda: underlay.mtu_of("no address")) == 1500
