"""Links from a container to another node: the tunnel is beyond its reach, and all else is as on other links."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import ge

import pytest
from msgspec.structs import replace
from own_place import eventually
from two_hosts import PLACED, Host, Pair, connected, learns_mtu, line, pair_over, tcp

from vini import embed as embedding
from vini.model import Impairment, Interface, Shape, SliceSpec, Topology
from vini.node import netns
from vini.node.drivers.exits import Exits
from vini.node.usage import look
from vini.node.usage.meter import HERE, metered
from vini.plugins.wires import wires

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan", "ping", "containers")]

ROOM = {"IPv4": 1450, "IPv6": 1430}
TIMESTAMPS = 12  # bytes of an option that Linux sends with each segment


@contextmanager
def contained_pair(version: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with pair_over(version, tmp_path_factory) as pair:
        for host in pair.hosts.values():
            host.node = replace(host.node, capabilities=host.node.capabilities | {"containers"})
        yield pair


def middle(contained: str = "bc", **of_middle: object) -> Topology:
    return line(contained=contained, **of_middle)


def test_packets_cross_as_long_as_its_mtu_and_tcp_learns_that(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Over both IP versions, from a container to a container; and another pass touches nothing."""
    for version, room in ROOM.items():
        with contained_pair(version, tmp_path_factory) as pair:
            pair.up(middle())
            one = pair.hosts["one"]
            assert {(o.ns, o.dev) for h in pair.hosts.values() for o in h.tunnels()} == {("v._tunnels", "tunnel100")}
            mtus = {o.mtu for o in one.want if isinstance(o, Interface)}
            assert mtus == {room, 1500, 65536}
            for family, headers in ((4, 28), (6, 48)):
                eventually(lambda p=pair, f=family: p.pings("a", "d", family=f))
                assert pair.pings("b", "c", "-M", "do", "-s", str(room - headers), family=family)
                assert not pair.pings("b", "c", "-M", "do", "-s", str(room + 1 - headers), family=family)
            eventually(lambda p=pair, r=room: f"mtu {r}" in learns_mtu(p))
            with connected(pair, "a", "d") as ends:
                fits = room - 40 - TIMESTAMPS
                assert [s.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) for s in ends] == [fits, fits]
            assert tcp(pair, "a", "d", 8 << 20) == 8 << 20
            before = [one.inside("ip", "-d", "link", ns="v._tunnels"), pair.enter("b", "ip", "-d", "address")]
            pair.up(middle(), generation=2)
            assert [one.inside("ip", "-d", "link", ns="v._tunnels"), pair.enter("b", "ip", "-d", "address")] == before


@pytest.mark.needs("element")
def test_the_first_number_that_a_testbed_gives_is_as_good(tmp_path_factory: pytest.TempPathFactory) -> None:
    """By its index no pair is taken for the TAP of an interface that each namespace has."""
    with contained_pair("IPv4", tmp_path_factory) as pair:
        pair.first = 1
        pair.up(middle(impairment=Impairment(delay_ms=5)))
        eventually(lambda: pair.pings("a", "d"))


@pytest.mark.needs("element")
def test_shapes_and_faults_hold_on_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Also for what is sent past the vif's queue (packet(7), PACKET_QDISC_BYPASS)."""
    with contained_pair("IPv4", tmp_path_factory) as pair:
        pair.up(middle(impairment=Impairment(delay_ms=30)))
        eventually(lambda: pair.pings("a", "d"))
        out = pair.enter("b", "ping", "-c1", "-W2", pair.address("c"), "-I", pair.address("b"))
        assert float(out.partition("time=")[2].split()[0]) >= 60, out
        assert tcp(pair, "a", "d", 1 << 18) == 1 << 18
        assert _past_the_queue(pair) == 0
        pair.up(middle(), generation=2)
        assert _past_the_queue(pair) == 3
        pair.up(middle(fault="silent"), generation=3)
        assert not pair.pings("a", "d")
        assert _past_the_queue(pair, lambda: pair.up(middle(), generation=4)) == 0
        pair.up(middle(fault="carrier"), generation=5)
        assert not pair.pings("a", "d")
        pair.up(middle(), generation=6)
        eventually(lambda: pair.pings("a", "d"))


def _past_the_queue(pair: Pair, then: Callable[[], None] = lambda: None) -> int:
    """How many of three such frames from b come out at c, before all filters there; `then` lets pings pass."""
    (_, source), (_, sink) = pair.of("b"), pair.of("c")
    frame = b"\xff" * 6 + b"\x02" + bytes(5) + b"\x88\xb5" + b"past the queue".ljust(46, b"\0")  # IEEE 802 experimental
    with netns.inside(sink):
        ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
    with netns.inside(source):
        mouth = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with ear, mouth:
        ear.bind(("to-b", 3))
        mouth.bind(("to-c", 0))
        mouth.setsockopt(263, 20, 1)  # SOL_PACKET, PACKET_QDISC_BYPASS
        for _ in range(3):
            mouth.send(frame)
        then()
        eventually(lambda: pair.pings("b", "c"))  # what was sent before has arrived
        ear.setblocking(False)
        found = 0
        while True:
            try:
                found += ear.recv(2048) == frame
            except BlockingIOError:
                return found


@pytest.mark.needs("element")
def test_a_link_that_agents_before_this_one_made_is_made_anew(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tunnel was in the container, held by exits, and has the same number now."""
    shaped = middle(impairment=Impairment(delay_ms=5))
    with contained_pair("IPv4", tmp_path_factory) as pair:
        with monkeypatch.context() as patch:
            patch.setattr(embedding, "wires", lambda *of: wires(*of[:-1], ()))
            pair.up(shaped)
        one = pair.hosts["one"]
        old = {(o.ns, o.dev): o for o in one.tunnels()}
        assert set(old) == {("v.b", "to-c")} and "vini_exit" in exits(one)
        as_an_agent_does(pair, shaped, 2)
        assert exits(one) == ""
        for generation, topology in enumerate((shaped, middle()), 3):
            with netns.inside(one.path):  # as an agent left it that forgot them
                assert Exits(one.own.place).ensure([Shape(*vif, "element") for vif in old], old) == {}
            with pytest.raises(AssertionError):
                one.is_as_asked()
            as_an_agent_does(pair, topology, generation)
            assert exits(one) == ""


def as_an_agent_does(pair: Pair, topology: Topology, generation: int) -> None:
    """Pass after pass: a vif that was made anew has its Shape when the element has heard of the old one's end."""
    vnis = {"b--c": pair.first}
    specs = embedding.embed(topology, [h.node for h in pair.hosts.values()], generation, placed=PLACED, vnis=vnis)
    for host in pair.hosts.values():
        eventually(lambda h=host: h.one_pass(specs[h.name]) == {} and h.is_as_asked())
    assert pair.pings("a", "d") and pair.pings("d", "a")


def exits(host: Host) -> str:
    return host.inside("sh", "-c", "tc filter show dev eth0 egress")


@pytest.mark.needs("element")
def test_what_he_used_is_counted_where_he_can_not_reach_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Also if he takes his vif away before each look; and not what the Gate kept back."""
    with contained_pair("IPv4", tmp_path_factory) as pair:
        pair.up(middle("b", impairment=Impairment(delay_ms=5)))
        one = pair.hosts["one"]
        assert ", 50 received" in pair.enter("b", "ping", "-c50", "-i0.01", "-s1000", pair.address("c"))
        before = used(one)
        assert min(before) > 50 * 1000
        with netns.inside(pair.of("b")[1]), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as mouth:
            mouth.bind(("to-c", 0))
            mouth.setsockopt(263, 20, 1)  # SOL_PACKET, PACKET_QDISC_BYPASS
            for _ in range(200):
                mouth.send(b"\xff" * 6 + b"\x02" + bytes(5) + b"\x88\xb5" + bytes(1000))
        assert pair.pings("b", "c")  # what was sent before has arrived
        assert used(one)[1] < before[1] + 200 * 1000
        pair.enter("b", "ip", "link", "delete", "to-c")
        assert all(map(ge, used(one), before))


def used(host: Host) -> tuple[int, int]:
    """Bytes that b got and sent by tunnels, as its meter finds them."""
    of = metered(SliceSpec("v", host.name, 1, host.want), HERE)
    seen = look.look(host.own.place, {"v.b": of["v.b"].tunnels})["v.b"].counters
    bytes_in, bytes_out = zip(*(n for name, n in seen.items() if name.startswith("tunnel ")), strict=True)
    return sum(bytes_in), sum(bytes_out)


BY_HIM = (
    "ip link delete to-c",
    "ip link set to-c name lost",
    "ip link set to-c down",
    "ip address flush dev to-c",
)
BY_AN_OPERATOR = (
    "ip link delete tunnel100",
    "ip link delete pair100",
    "ip link set tunnel100 down",
    "ip link set tunnel100 type vxlan id 100 remote 192.0.2.77",
    "bridge fdb add 02:00:00:00:00:99 dev tunnel100 dst 192.0.2.9 vni 7",
    "tc qdisc del dev tunnel100 clsact",
    "tc filter del dev pair100 ingress",
    "tc filter del dev tunnel100 egress",
    "sysctl -q net.ipv6.conf.pair100.disable_ipv6=0",
)
DEEDS = ((BY_HIM, "v.b"), (BY_AN_OPERATOR, "v._tunnels"))


def test_what_a_hand_spoils_one_pass_heals(tmp_path_factory: pytest.TempPathFactory) -> None:
    with contained_pair("IPv4", tmp_path_factory) as pair:
        pair.up(middle("b"))
        eventually(lambda: pair.pings("a", "d"))
        one = pair.hosts["one"]
        for generation, (deed, ns) in enumerate(((d, ns) for ds, ns in DEEDS for d in ds), 2):
            one.inside("sh", "-ec", deed, ns=ns)
            with pytest.raises(AssertionError):
                one.is_as_asked()
            pair.up(middle("b"), generation=generation)
            eventually(lambda: pair.pings("a", "d"))


def test_the_nodes_kernel_has_no_address_there_and_so_nothing_to_say(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No neighbour discovery, no multicast reports: what comes out at the other node was sent by the container."""
    with contained_pair("IPv4", tmp_path_factory) as pair:
        pair.up(middle("b"))
        eventually(lambda: pair.pings("a", "d"))
        found = pair.hosts["one"].inside("ip", "-o", "address", ns="v._tunnels")
        assert {row.split()[1] for row in found.splitlines()} == {"lo"}


def test_slivers_become_containers_and_move_and_become_light_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    with contained_pair("IPv4", tmp_path_factory) as pair:
        steps = (
            (middle(""), PLACED), (middle("b"), PLACED), (middle("bc"), PLACED), (middle("bc"), {**PLACED, "c": "one"}),
            (middle("bcd"), PLACED), (middle("c"), PLACED), (middle(""), PLACED),
        )  # fmt: skip
        for generation, (topology, placed) in enumerate(steps, 1):
            pair.up(topology, placed, generation)
            eventually(lambda: pair.pings("a", "d"))
