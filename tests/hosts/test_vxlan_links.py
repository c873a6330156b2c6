"""Links from node to node: two test hosts, each a network namespace with the real drivers at home in it."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from own_place import eventually
from two_hosts import PLACED, STATIC, UNDERLAYS, Pair, connected, learns_mtu, line, pair_over, tcp

from vini.model import End, Interface, Link, Program, Routing, Sliver, Topology, Vxlan

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan", "ping")]

ROOM = {"IPv4": 1450, "IPv6": 1430}
TIMESTAMPS = 12  # bytes of an option that Linux sends with each segment


@pytest.fixture(params=UNDERLAYS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two hosts joined by a veth pair; at the end nothing is left on either."""
    with pair_over(request.param, tmp_path_factory) as made:
        yield made


# --- what it carries --------------------------------------------------------------------------------------


def test_packets_cross_and_each_fits_that_its_mtu_allows(pair):
    pair.up(line())
    room = ROOM[pair.version]
    for family, headers in ((4, 28), (6, 48)):
        eventually(lambda f=family: pair.pings("a", "d", family=f))
        assert pair.pings("b", "c", "-M", "do", "-s", str(room - headers), family=family)
        assert not pair.pings("b", "c", "-M", "do", "-s", str(room + 1 - headers), family=family)
    assert {o.mtu for h in pair.hosts.values() for o in h.want if isinstance(o, Interface)} == {room, 1500, 65536}


@pytest.mark.parametrize("family", [4, 6])
def test_who_sends_what_is_too_long_is_told_the_least_mtu_of_the_path(pair, family):
    """b, whose link to c takes less, says so by ICMP."""
    pair.up(line())
    eventually(lambda: pair.pings("a", "d", family=family))
    eventually(lambda: f"mtu {ROOM[pair.version]}" in learns_mtu(pair, family))


@pytest.mark.parametrize("family", [4, 6])
def test_tcp_sends_megabytes_in_segments_that_are_cut_on_the_way(pair, family):
    pair.up(line())
    eventually(lambda: pair.pings("a", "d", family=family))
    assert tcp(pair, "a", "d", 8 << 20, family) == 8 << 20
    assert tcp(pair, "d", "a", 1 << 20, family) == 1 << 20


@pytest.mark.parametrize("family", [4, 6])
def test_neither_side_of_tcp_sends_what_a_tunnel_on_the_way_does_not_carry_though_nobody_tells_it(pair, family):
    """Segments are cut for the tunnel before the first is sent: what both announced was lowered on its way (MSS)."""
    pair.up(line())
    eventually(lambda: pair.pings("a", "d", family=family))
    fits = ROOM[pair.version] - (60 if family == 6 else 40) - TIMESTAMPS
    with connected(pair, "a", "d", family) as ends:
        assert [s.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) for s in ends] == [fits, fits]
    on_one_host = fits - ROOM[pair.version] + 1500
    with connected(pair, "a", "b", family) as ends:
        assert [s.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) for s in ends] == [on_one_host, on_one_host]


def test_an_mtu_that_is_asked_for_and_fits_is_given(pair):
    pair.up(line(mtu=1400))
    eventually(lambda: pair.pings("b", "c", "-M", "do", "-s", str(1400 - 28)))
    assert not pair.pings("b", "c", "-M", "do", "-s", str(1401 - 28))


@pytest.mark.parametrize("fault", ["carrier", pytest.param("silent", marks=pytest.mark.needs("element"))])
def test_a_fault_takes_the_link_away_and_back_from_both_sides(pair, fault):
    pair.up(line())
    eventually(lambda: pair.pings("b", "c"))
    before = {o for h in pair.hosts.values() for o in h.tunnels()}
    pair.up(line(fault=fault), generation=2)
    assert not pair.pings("b", "c", "-W", "0.5")
    assert not pair.pings("c", "b", "-W", "0.5")
    pair.up(line(), generation=3)
    eventually(lambda: pair.pings("b", "c"))
    assert {o for h in pair.hosts.values() for o in h.tunnels()} == before


@pytest.mark.needs("bird")
def test_routers_find_each_other_over_it(pair):
    """OSPF compares MTUs before it makes a neighbour (RFC 2328, 10.6)."""
    pair.up(line(Routing(("ospf",), daemon="bird")))
    eventually(lambda: pair.pings("a", "d"))
    eventually(lambda: pair.pings("d", "a"))


def test_a_lan_spans_hosts_and_all_on_it_have_one_mtu(pair):
    everyone = {"sw": Sliver("sw", mode="switch"), **{h: Sliver(h) for h in ("h", "i", "j")}}
    links = tuple(Link((End(h), End("sw"))) for h in ("h", "i", "j"))
    pair.up(Topology("v", everyone, links), {"sw": "one", "h": "one", "i": "two", "j": "two"})
    for source, to in (("h", "i"), ("i", "j"), ("j", "h")):
        eventually(lambda s=source, t=to: pair.pings(s, t))
    vifs = [o for h in pair.hosts.values() for o in h.want if isinstance(o, Interface) and o.dev != "lo"]
    assert {o.mtu for o in vifs} == {ROOM[pair.version]}


@pytest.mark.needs("programs")
def test_a_program_forwards_over_it_by_tc(pair):
    topology = line()
    sorts = "input -> sort :: classify(ip)\nsort[ip] -> fib :: lookup -> out\n"
    text = sorts + "fib[kernel] -> kernel\nsort[other] -> kernel\n"
    router = Sliver("b", routing=STATIC, program=Program("elements", text))
    pair.up(Topology("v", {**topology.slivers, "b": router}, topology.links))
    eventually(lambda: pair.pings("a", "d"))
    assert tcp(pair, "a", "d", 1 << 20) == 1 << 20


# --- what becomes of it -------------------------------------------------------------------------------------

DEEDS = (
    "ip link delete to-c",
    "ip link set to-c type vxlan id 100 remote 192.0.2.77",
    "bridge fdb delete 00:00:00:00:00:00 dev to-c",
    "ip link set to-c name lost",
    "ip link set to-c down",
    "ip address flush dev to-c",
    "tc filter del dev to-c egress",
    "tc qdisc del dev to-c clsact",
)


@pytest.mark.parametrize("deed", DEEDS)
def test_what_a_hand_spoils_one_pass_heals(pair, deed):
    if pair.version == "IPv6":
        deed = deed.replace("192.0.2.77", "2001:db8::77")
    pair.up(line())
    eventually(lambda: pair.pings("a", "d"))
    one = pair.hosts["one"]
    before = {o for o in one.want if isinstance(o, Vxlan)}
    pair.enter("b", "sh", "-c", deed)
    with pytest.raises(AssertionError):
        one.is_as_asked()
    pair.up(line(), generation=2)
    eventually(lambda: pair.pings("a", "d"))
    assert set(one.tunnels()) == before


def test_a_sliver_that_moves_to_the_other_host_takes_its_links_along(pair):
    """What led to another host leads to a neighbour now, and the other way round."""
    pair.up(line())
    eventually(lambda: pair.pings("a", "d"))
    pair.up(line(), {**PLACED, "c": "one"}, generation=2)
    eventually(lambda: pair.pings("a", "d"))
    assert [o.key[1:] for h in pair.hosts.values() for o in h.tunnels()] == [("v.c", "to-d"), ("v.d", "to-c")]


def test_another_pass_touches_nothing(pair):
    pair.up(line())
    look = [pair.enter(s, "ip", "-d", "address") for s in PLACED]
    pair.up(line(), generation=2)
    assert [pair.enter(s, "ip", "-d", "address") for s in PLACED] == look
