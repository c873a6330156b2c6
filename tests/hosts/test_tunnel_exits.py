"""Nothing leaves the node by a shaped tunnel that its Shape has not released; and nothing else is kept back."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from own_place import eventually
from two_hosts import CAPABLE, Pair, line, pair_over

from vini.model import Impairment, Shape, Topology
from vini.node import bpf, netns, tc
from vini.node.drivers.exits import Exits, _ways
from vini.node.netlink import Socket

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "ping")]
SHAPED = Impairment(delay_ms=5.0)
HERE = pytest.mark.needs("vxlan", "element")
KINDS = [
    pytest.param("vxlan", "IPv4", marks=HERE),
    pytest.param("vxlan", "IPv6", marks=HERE),
    pytest.param("gretap", "IPv4", marks=pytest.mark.needs_kernel("gretap", "netem")),
    pytest.param("gretap", "IPv6", marks=pytest.mark.needs_kernel("gretap", "netem")),
    pytest.param("wireguard", "IPv4", marks=pytest.mark.needs_kernel("wireguard", "netem")),
]


class Wire:
    """From b by to-c as everybody sends, or past all filters and queues (packet(7), PACKET_QDISC_BYPASS); and whoever
    listens at the other end."""

    def __init__(self, pair: Pair):
        with netns.inside(pair.of("c")[1]):
            self.listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
        self.listener.bind(("to-b", 0x88B5))
        self.listener.settimeout(20)
        with netns.inside(pair.of("b")[1]):
            self.plain = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            self.past = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.past.setsockopt(263, 20, 1)
        for s in (self.plain, self.past):
            s.bind(("to-c", 0))

    @staticmethod
    def send(by: socket.socket, number: int) -> None:
        by.send(b"\xff" * 6 + bytes(6) + b"\x88\xb5" + number.to_bytes(50, "big"))

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        for s in (self.listener, self.plain, self.past):
            s.close()

    def arrived(self, last: int) -> list[int]:
        """The numbers of all that has come, up to that one."""
        out = [0]
        while out[-1] != last:
            out.append(int.from_bytes(self.listener.recv(2048)[14:64], "big"))
        return out[1:]


@pytest.fixture
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with pair_over(request.param, tmp_path_factory) as made:
        yield made


@pytest.mark.parametrize(("kind", "version"), KINDS)
def test_what_passes_a_shape_by_does_not_leave(kind, version, tmp_path_factory):
    def asked(**of_middle: object) -> Topology:
        return line(tunnel=kind, **of_middle)

    with pair_over(version, tmp_path_factory) as pair:
        for host in pair.hosts.values() if kind != "vxlan" else ():  # a machine with another kernel shapes by netem
            host.node = replace(host.node, capabilities=CAPABLE - {"element"} | {"netem"})
        pair.up(asked())
        eventually(lambda: pair.pings("b", "c"))
        with Wire(pair) as wire:
            wire.send(wire.past, 1)
            assert wire.arrived(1) == [1], "this is no way round a Shape, and shows nothing"
            pair.up(asked(impairment=SHAPED), generation=2)
            eventually(lambda: pair.pings("a", "d"))
            wire.send(wire.past, 2)
            wire.send(wire.plain, 3)
            assert wire.arrived(3) == [3]
            pair.up(asked(fault="silent"), generation=3)
            wire.send(wire.past, 4)
            pair.up(asked(), generation=4)
            wire.send(wire.past, 5)
            assert wire.arrived(5) == [5]


@HERE
@pytest.mark.parametrize("pair", ["IPv4"], indirect=True)
class TestAsPartOfAShape:
    def at_the_node(self, pair: Pair) -> str:
        """What there is at the node's own interface."""
        return pair.hosts["one"].inside("sh", "-c", "tc qdisc show dev eth0 clsact; tc filter show dev eth0 egress")

    def test_what_a_hand_takes_away_is_seen_and_put_back(self, pair):
        pair.up(line(impairment=SHAPED))
        before = self.at_the_node(pair)
        one = pair.hosts["one"]
        for damage in ("tc qdisc del dev eth0 clsact", "tc filter del dev eth0 egress prio 86"):
            one.inside("sh", "-c", damage)
            with pytest.raises(AssertionError):
                one.is_as_asked()
            pair.up(line(impairment=SHAPED))
            assert _without_ids(self.at_the_node(pair)) == _without_ids(before) != ""

    def test_one_that_was_left_behind_keeps_nothing_back(self, pair):
        pair.up(line())
        eventually(lambda: pair.pings("b", "c"))
        one = pair.hosts["one"]
        with netns.inside(one.path):
            stray = {(o.ns, o.dev): o for o in one.tunnels()}
            assert Exits(one.own.place).ensure([Shape(*vif, "element") for vif in stray], stray) == {}
        assert not pair.pings("b", "c")
        with pytest.raises(AssertionError):
            one.is_as_asked()
        pair.up(line())
        eventually(lambda: pair.pings("b", "c"))
        assert self.at_the_node(pair) == ""

    def test_none_is_left_when_the_slice_has_gone(self, pair):
        """Nor is anything of others touched."""
        one = pair.hosts["one"]
        pair.up(line(impairment=SHAPED))
        one.one_pass(None)
        assert self.at_the_node(pair) == ""
        with netns.inside(one.path), Socket() as there:
            index, program = socket.if_nametoindex("eth0"), bpf.load(bpf.GATE)
            put = tc.set_filter(index, program, "others", priority=tc.EXIT_PRIORITY - 1)
            assert there.transact([tc.add_clsact(index), put]) == [0, 0]
            os.close(program)
        others = self.at_the_node(pair)
        pair.up(line(impairment=SHAPED), generation=2)
        one.one_pass(None)
        assert self.at_the_node(pair) == others != ""

    def test_they_are_at_every_interface_by_which_packets_may_leave(self, pair):
        one = pair.hosts["one"]
        pair.up(line())
        one.inside("sh", "-c", "ip link add eth1 type veth peer name eth2; ip link set eth1 up; ip link set eth2 up; "
            "ip address add 198.51.100.1/24 dev eth1; "
            "ip route add 203.0.113.0/24 nexthop via 192.0.2.2 nexthop via 198.51.100.2")  # fmt: skip
        with netns.inside(one.path), Socket() as there:
            (vxlan,) = one.tunnels()
            indexes = {socket.if_nametoindex(dev) for dev in ("eth0", "eth1")}
            assert _ways(there, replace(vxlan, remote="203.0.113.9")) == indexes
            assert _ways(there, replace(vxlan, remote="198.18.0.1")) == set()


def _without_ids(shown: str) -> str:
    """Programs are loaded anew."""
    return " ".join(word for word in shown.split() if "vini" in word or word in ("clsact", "handle", "pref"))
