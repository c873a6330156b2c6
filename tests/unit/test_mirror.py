"""What rides on a path fails with it, exactly as if its user had asked for a fault of each of these links."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import placed_topologies, specs_of

from vini import mirror
from vini.embed import embed
from vini.layout import link_name
from vini.model import (
    AnyObject,
    Bridge,
    End,
    File,
    Interface,
    Link,
    Node,
    Route,
    Routing,
    SliceSpec,
    Sliver,
    SliverStatus,
    Topology,
    Tunnel,
)
from vini.placement import crossing
from vini.plan import in_order, plan

ROUTER = Routing(("ospf",), daemon="bird")
ADDRESSES = {"n1": "192.0.2.1", "n2": "192.0.2.2", "n3": "192.0.2.3"}
NODES = [Node(n, frozenset({"root", "vxlan", "bird"}), address=a) for n, a in ADDRESSES.items()]
TO_N2, TO_N3 = (("192.0.2.1", ADDRESSES[n]) for n in ("n2", "n3"))


def made(topology: Topology, placed: dict[str, str]) -> dict[str, SliceSpec]:
    vnis = {link: 1 + i for i, link in enumerate(crossing(topology, placed))}
    return embed(topology, NODES, placed=placed, vnis=vnis)


def star(**more: object) -> tuple[Topology, dict[str, str]]:
    """The host h on n1, whose neighbours r1, r2 and r3 are on n2, n3 and n1."""
    slivers = {"h": Sliver("h"), **{r: Sliver(r, routing=ROUTER) for r in ("r1", "r2", "r3")}}
    links = tuple(Link((End("h"), End(r))) for r in ("r1", "r2", "r3"))
    return Topology("s", slivers, links, **more), {"h": "n1", "r1": "n2", "r2": "n3", "r3": "n1"}


def without_notices(objects: frozenset[AnyObject]) -> frozenset[AnyObject]:
    return frozenset(o for o in objects if not (isinstance(o, File) and o.path == mirror.NOTICE))


def ways_of(spec: SliceSpec) -> set[tuple[str, str]]:
    outside = {r.way for r in spec.rides if r.way}
    return outside or {(o.local, o.remote) for o in spec.objects if isinstance(o, Tunnel)}


@given(placed_topologies())
def test_a_failed_path_is_the_fault_of_every_link_on_it(pair):
    topology, placed = pair
    links = tuple(replace(x, fault="none") if x.fault == "silent" else x for x in topology.links)
    topology = replace(topology, links=links)  # a link has one fault that is asked for
    for node, spec in specs_of(topology, placed).items():
        crossed = set(crossing(topology, placed))
        links = tuple(replace(x, fault="carrier") if link_name(x) in crossed else x for x in topology.links)
        asked = specs_of(replace(topology, links=links), placed)[node]
        now = mirror.mirrored(spec, ways_of(spec))
        if topology.substrate == "heal":
            assert now == spec.objects
            assert not spec.rides and not spec.spares
        else:
            assert without_notices(now) == without_notices(asked.objects)
            assert {link for of in mirror.faults(spec, ways_of(spec)).values() for link in of} <= crossed


@given(placed_topologies(), st.booleans())
def test_a_path_that_comes_back_leaves_nothing_behind(pair, other):
    for spec in specs_of(*pair).values():
        failed = ways_of(spec) if not other else {("192.0.2.77", "192.0.2.78")}
        down = mirror.mirrored(spec, failed)
        assert {k for o in down for k in o.on} <= {o.key for o in down}
        assert mirror.mirrored(spec, set()) == spec.objects
        if other:
            assert down == spec.objects
        assert all(op.object.ns in {r.ns for r in spec.rides} for op in plan(down, spec.objects))


def test_only_the_links_on_that_path_fail():
    spec = made(*star())["n1"]
    assert mirror.paths(spec) == {("s.h", "to-r1"): TO_N2, ("s.h", "to-r2"): TO_N3}
    now = {o.key: o for o in mirror.mirrored(spec, {TO_N2})}
    up = {dev: now["interface", "s.h", dev].up for dev in ("to-r1", "to-r2", "to-r3")}
    assert up == {"to-r1": False, "to-r2": True, "to-r3": True}


def test_a_host_sends_by_its_next_neighbour_while_the_first_is_cut_off():
    spec = made(*star())["n1"]

    def default(*failed: tuple[str, str]) -> list[str]:
        return [o.dev for o in mirror.mirrored(spec, failed) if isinstance(o, Route) and o.to == "0.0.0.0/0"]

    assert default() == ["to-r1"]
    assert default(TO_N2) == ["to-r2"]
    assert default(TO_N2, TO_N3) == ["to-r3"]
    assert default(TO_N3) == ["to-r1"]


def test_a_file_in_the_sliver_tells_why():
    spec = made(*star())["n1"]
    (notice,) = mirror.mirrored(spec, {TO_N2, TO_N3}) - without_notices(mirror.mirrored(spec, {TO_N2, TO_N3}))
    why = "the path between nodes n1 and {} is down"
    text = f"h--r1\tto-r1\t{why.format('n2')}\nh--r2\tto-r2\t{why.format('n3')}\n"
    assert notice == File("s.h", "failed-links", text)


def test_the_status_of_both_ends_tells_the_same():
    specs = made(*star())
    rows = [SliverStatus("s.h", "ready"), SliverStatus("s.r3", "ready")]
    one, other = mirror.told(rows, specs.values(), {TO_N2})
    assert one.faults == {"h--r1": "the path between nodes n1 and n2 is down"}
    assert other == rows[1]
    back = (TO_N2[1], TO_N2[0])
    assert mirror.faults(specs["n2"], {back}) == {"s.r1": one.faults}
    assert mirror.concerned(specs.values(), {back}) == {"s.r1"}


def test_a_port_of_a_switch_fails_as_any_vif():
    slivers = {"sw": Sliver("sw", mode="switch"), "a": Sliver("a"), "b": Sliver("b")}
    topology = Topology("s", slivers, tuple(Link((End(h), End("sw"))) for h in ("a", "b")))
    now = mirror.mirrored(made(topology, {"sw": "n1", "a": "n2", "b": "n1"})["n1"], {TO_N2})
    ports = {o.dev: o.up for o in now if isinstance(o, Interface) and o.master}
    assert ports == {"to-a": False, "to-b": True}
    assert any(isinstance(o, Bridge) for o in in_order(now))


@given(placed_topologies())
def test_what_an_operator_takes_down_is_as_a_path_that_failed_but_for_the_reason(pair):
    for spec in specs_of(*pair).values():
        down = replace(spec, rides=tuple(replace(ride, down="works") for ride in spec.rides))
        assert without_notices(mirror.mirrored(down, ())) == without_notices(mirror.mirrored(spec, ways_of(spec)))
        assert {why for links in mirror.faults(down, ()).values() for why in links.values()} <= {"works"}
        assert mirror.faults(down, ()).keys() == mirror.faults(spec, ways_of(spec)).keys()
        assert mirror.concerned([down], ()) == set(), "no path changed"


def test_an_operators_reason_goes_before_the_paths():
    spec = made(*star())["n1"]
    down = replace(spec, rides=tuple(replace(r, down="works" if r.node == "n2" else "") for r in spec.rides))
    assert mirror.faults(down, {TO_N2, TO_N3}) == {
        "s.h": {"h--r1": "works", "h--r2": "the path between nodes n1 and n3 is down"}
    }
