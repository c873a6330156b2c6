"""What is wanted of links while the network below carries shorter packets than they need."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import placed_topologies, specs_of

from vini.embed import embed
from vini.model import AnyObject, End, Interface, Link, Node, Route, Routing, SliceSpec, Sliver, Topology, Tunnel, Way
from vini.placement import crossing
from vini.plan import plan
from vini.rules import narrow
from vini.topology import parse

CAN = frozenset({"root", "vxlan", "vxlan-xdp", "gretap", "wireguard", "containers"})
FOUR, SIX = ("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")


def spec_of(way: Way, tunnel: str, runtime: str = "light", substrate: str = "mirror") -> SliceSpec:
    """The part of `a` on the first of two nodes; it has a link to `b` on the other one, and to `c` beside it."""
    nodes = [Node(f"n{i}", CAN, address=a, wireguard="k" * 43 + "=") for i, a in enumerate(way, 1)]
    slivers = {n: Sliver(n, runtime=runtime, routing=Routing(("static",))) for n in "abc"}
    links = (Link((End("a"), End("b"))), Link((End("a"), End("c"))))
    topology = Topology("s", slivers, links, tunnel=tunnel, substrate=substrate)
    placed = {"a": "n1", "b": "n2", "c": "n1"}
    vnis = dict.fromkeys(crossing(topology, placed), 7)
    return embed(topology, nodes, placed=placed, vnis=vnis, port=20_001)["n1"]


def mtus(objects: frozenset[AnyObject]) -> dict[tuple[str, str], int]:
    return {(o.ns, o.dev): o.mtu for o in objects if isinstance(o, Interface) and o.dev != "lo"}


LOSSY = [
    (FOUR, "vxlan-xdp", 50), (SIX, "vxlan-xdp", 70), (FOUR, "gretap", 42), (SIX, "gretap", 62), (SIX, "vxlan", 70),
]  # fmt: skip


@pytest.mark.parametrize("substrate", ["mirror", "heal"])
@pytest.mark.parametrize(("way", "tunnel", "takes"), LOSSY)
def test_where_packets_would_be_lost_links_have_what_fits(way: Way, tunnel: str, takes: int, substrate: str) -> None:
    spec = spec_of(way, tunnel, substrate=substrate)
    before = mtus(spec.objects)
    assert before["s.a", "to-b"] == 1500 - takes and narrow.lengths(spec) == {way: 1500}
    now = mtus(narrow.narrowed(spec, spec.objects, {way: 1400}))
    assert now == {**before, ("s.a", "to-b"): 1400 - takes}
    assert narrow.concerned([spec], {way}) == {"s.a"} and narrow.concerned([spec], {FOUR[::-1]}) == set()


@pytest.mark.parametrize(("tunnel", "way"), [("vxlan", FOUR), ("wireguard", FOUR)])
def test_what_is_cut_on_the_way_stays_as_it_was_asked_for(tunnel: str, way: Way) -> None:
    spec = spec_of(way, tunnel)
    assert narrow.narrowed(spec, spec.objects, {way: 1400}) == spec.objects


def test_of_a_container_all_that_leads_to_its_tunnel_fits() -> None:
    spec = spec_of(FOUR, "gretap", runtime="container")
    now = mtus(narrow.narrowed(spec, spec.objects, {FOUR: 1400}))
    led = [now[at] for at in (("s.a", "to-b"), ("s._tunnels", "tunnel7"), ("s._tunnels", "pair7"))]
    assert led == [1358] * 3 and now["s.a", "to-c"] == 1500
    assert narrow.concerned([spec], {FOUR}) == {"s.a", "s._tunnels"}


LAN = """
name: s
tunnel: {}
routing: {{protocols: static}}
slivers:
  sw1: {{mode: switch, node: n1}}
  sw2: {{mode: switch, node: n1}}
  h1: {{node: n1}}
  h2: {{node: n2}}
  h3: {{node: n1}}
  h4: {{node: n1}}
links: [h1 -- sw1, h2 -- sw1, sw1 -- sw2, h3 -- sw2, h3 -- h4]
"""


@pytest.mark.parametrize("tunnel", ["vxlan-xdp", "gretap"])
def test_of_a_lan_all_that_is_here_fits(tunnel: str) -> None:
    """Switches tell no sender that a frame was too long; what is no part of the LAN stays."""
    topology = parse(LAN.format(tunnel))
    nodes = [Node(f"n{i}", CAN | {"netem"}, address=a) for i, a in enumerate(FOUR, 1)]
    placed = {name: sliver.node for name, sliver in topology.slivers.items()}
    spec = embed(topology, nodes, placed=placed, vnis=dict.fromkeys(crossing(topology, placed), 7))["n1"]
    before, now = mtus(spec.objects), mtus(narrow.narrowed(spec, spec.objects, {FOUR: 1400}))
    beside = {("s.h3", "to-h4"), ("s.h4", "to-h3")}
    assert len(before) == 9 and {at for at in before if now[at] == before[at]} == beside
    takes = 50 if tunnel == "vxlan-xdp" else 42
    assert {now[at] for at in now.keys() - beside} == {1400 - takes}
    assert narrow.concerned([spec], {FOUR}) == {"s.h1", "s.h3", "s.sw1", "s.sw2"}
    assert narrow.lengths(spec) == {FOUR: 1500}


def test_ipv6_keeps_the_least_that_it_needs() -> None:
    spec = spec_of(SIX, "vxlan-xdp")
    assert mtus(narrow.narrowed(spec, spec.objects, {SIX: 1280}))["s.a", "to-b"] == 1280


def test_what_a_program_adds_to_a_packet_still_fits() -> None:
    spec = spec_of(FOUR, "vxlan-xdp")
    route = Route("s.a", "10.9.0.0/16", "10.0.0.2", "to-b", 1420)
    spec = replace(spec, objects=spec.objects | {route})
    (now,) = (o for o in narrow.narrowed(spec, spec.objects, {FOUR: 1400}) if isinstance(o, Route) and o.to == route.to)
    assert now == replace(route, mtu=1320)


@given(placed_topologies(), st.integers(1280, 1500))
def test_a_path_that_becomes_wide_leaves_nothing_behind(pair: tuple[Topology, dict[str, str]], width: int) -> None:
    for spec in specs_of(*pair).values():
        ways = {(o.local, o.remote) for o in spec.objects if isinstance(o, Tunnel)}
        assert narrow.narrowed(spec, spec.objects, {("192.0.2.77", "192.0.2.78"): width}) == spec.objects
        now = narrow.narrowed(spec, spec.objects, dict.fromkeys(ways, width))
        steps = plan(spec.objects, now)
        assert all(op.in_place and op.object.ns in narrow.concerned([spec], ways) for op in steps)
        assert {o.key for o in now} == {o.key for o in spec.objects}
