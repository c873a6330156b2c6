"""Links from node to node whose VXLAN headers are put on and taken off at XDP, on two test hosts."""

from __future__ import annotations

import os
from socket import if_nametoindex

import pytest
from msgspec.structs import replace
from own_place import eventually
from two_hosts import UNDERLAYS, Host, Pair, carries_up_to, line, pair_over, tcp

from vini.edit import set_program
from vini.model import Hook, Impairment, Program, Routing, VxlanXdp, Way
from vini.node import netns, xdp
from vini.node.carried import Carried
from vini.node.carrier import Carrier
from vini.node.netlink import Socket
from vini.node.programs import Programs

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "ping", "vxlan-xdp")]

ROOM = {"IPv4": 1450, "IPv6": 1430}
LOOKUP = """input -> l :: lookup -> t :: dec-ttl -> out
l[kernel] -> kernel
t[expired] -> kernel
"""
OSPF = Routing(("ospf",), daemon="bird")


def test_packets_cross_as_long_as_its_mtu_and_senders_learn_that(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Over both IP versions; and another pass touches nothing."""
    for version in UNDERLAYS:
        with pair_over(version, tmp_path_factory) as pair:
            carries_up_to(pair, "vxlan-xdp", ROOM[version])
            assert {type(o) for h in pair.hosts.values() for o in h.tunnels()} == {VxlanXdp}


@pytest.mark.needs("bird")
def test_programs_run_at_xdp_on_it_beside_a_routing_daemon(tmp_path_factory: pytest.TempPathFactory) -> None:
    """And what XDP can't send, the node's kernel does."""
    with pair_over("IPv4", tmp_path_factory) as pair:
        topology = line(OSPF, "vxlan-xdp")
        for sliver in ("b", "c"):
            topology = set_program(topology, sliver, Program("elements", LOOKUP))
        pair.up(topology)
        hooks = {(o.ns, o.dev): o.hook for h in pair.hosts.values() for o in h.want if isinstance(o, Hook)}
        assert hooks["v.b", "to-c"] == hooks["v.c", "to-b"] == "xdp"
        eventually(lambda: pair.pings("a", "d"))
        assert tcp(pair, "a", "d", 1 << 22) == 1 << 22
        before = _forwarded(pair)
        assert all(pair.pings("a", "d") for _ in range(5))
        assert all(now >= then + 10 for then, now in zip(before, _forwarded(pair), strict=True))
        _goes_by_the_kernel_where_xdp_cannot(pair)
        _heals(pair)


def _forwarded(pair: Pair) -> list[int]:
    """What each program has seen."""
    return [Programs(pair.of(sliver)[0].own.place).spent(f"v.{sliver}").passed for sliver in ("b", "c")]


def _goes_by_the_kernel_where_xdp_cannot(pair: Pair) -> None:
    """To an unknown neighbour, through an interface that takes nothing from XDP, into one without native XDP."""
    one, two = pair.hosts.values()
    one.inside("ip", "neighbour", "flush", "dev", "eth0")
    assert "192.0.2.2" not in one.inside("ip", "neighbour")
    assert pair.pings("a", "d")
    carrier = Carrier(one.own.place)
    for index, entry in carrier.leaving().items():
        assert entry.direct
        carrier.set_leaving(index, replace(entry, direct=False))
    assert all(pair.pings("a", "d") for _ in range(3))
    two.inside("ip", "link", "set", "dev", "eth0", "xdpdrv", "off")
    assert not pair.pings("a", "d")  # nobody takes the headers off
    with netns.inside(two.path), Socket() as socket:
        arrive = Carrier(two.own.place).program("arrive")
        assert socket.transact([xdp.set_program(if_nametoindex("eth0"), arrive, generic=True)]) == [0]
        os.close(arrive)
    assert all(pair.pings("a", "d") for _ in range(3))
    assert two.is_as_asked()
    two.inside("ip", "link", "set", "dev", "eth0", "xdpgeneric", "off")


def _heals(pair: Pair) -> None:
    """One pass brings back what a hand took away."""
    pair.up(pair.topology, generation=2)
    eventually(lambda: pair.pings("a", "d"))


@pytest.mark.needs("element")
def test_shapes_and_silence_hold_on_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pair_over("IPv4", tmp_path_factory) as pair:
        pair.up(line(tunnel="vxlan-xdp", impairment=Impairment(delay_ms=30)))
        eventually(lambda: pair.pings("a", "d"))
        out = pair.enter("b", "ping", "-c1", "-W2", pair.address("c"), "-I", pair.address("b"))
        assert float(out.partition("time=")[2].split()[0]) >= 60, out
        assert tcp(pair, "a", "d", 1 << 18) == 1 << 18
        pair.up(line(tunnel="vxlan-xdp", fault="silent"), generation=2)
        assert not pair.pings("a", "d")
        pair.up(line(tunnel="vxlan-xdp", fault="carrier"), generation=3)
        assert not pair.pings("a", "d")
        pair.up(line(tunnel="vxlan-xdp"), generation=4)
        eventually(lambda: pair.pings("a", "d"))


def test_what_arrives_at_xdp_shows_that_the_path_lives(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No socket sees it; the pairs that it is handed to count it, each for its own path."""
    for version in UNDERLAYS:
        with pair_over(version, tmp_path_factory) as pair:
            one, two = pair.hosts.values()
            way, other = (one.node.address, two.node.address), (one.node.address, one.node.address)
            carried = Carried(one.own.place)

            def arrived(host: Host = one, of: Carried = carried, way: Way = way, other: Way = other) -> dict[Way, int]:
                with netns.inside(host.path):
                    return of.packets({way, other})

            assert arrived() == {}, "there are no tunnels"
            pair.up(line(tunnel="vxlan-xdp"))
            eventually(lambda p=pair: p.pings("a", "d"))
            eventually(lambda a=arrived, w=way: a().keys() == {w})
            before = arrived()[way]
            assert all(pair.pings("a", "d") for _ in range(5))
            assert arrived()[way] >= before + 5
