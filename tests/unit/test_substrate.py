"""The declared substrate: which links a path leads over, what rides on one that is down, and what fits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from vini.embed import embed
from vini.model import CapacityError, End, Impairment, Link, Node, Ride, Shape, SliceSpec, Sliver, Topology
from vini.placement import as_before, place
from vini.rules import Invalid, underlay
from vini.rules.nouns import SubstrateLink
from vini.rules.substrate import Substrate, check_ends

SITES = {"n1": "home", "n2": "home", "n3": "mit", "n4": "cern"}


def link(name: str, a: str, b: str, rate: float = 0.0, delay: float = 1.0, down: str = "") -> SubstrateLink:
    return SubstrateLink(1, name, rate, delay, down, 0.0, a, b)


def names(substrate: Substrate, one: str, other: str) -> list[str]:
    return [k.name for k in substrate.path(one, other)]


def test_a_node_without_a_link_of_its_own_is_at_its_site() -> None:
    made = Substrate([link("long", "site:home", "site:mit"), link("own", "n1", "site:mit")], SITES)
    assert names(made, "n2", "n3") == ["long"]
    assert names(made, "n1", "n3") == ["own"]
    assert names(made, "n1", "n2") == ["own", "long"] == names(made, "n2", "n1")
    assert names(made, "n3", "n4") == [], "of that nothing is declared"


def test_the_shortest_way_is_taken_whether_or_not_it_is_down() -> None:
    direct = link("direct", "site:home", "site:cern", delay=30.0, down="new fibre")
    around = [link("one", "site:home", "site:mit", delay=20.0), link("two", "site:mit", "site:cern", delay=20.0)]
    made = Substrate([direct, *around], SITES)
    assert names(made, "n1", "n4") == ["direct"]
    assert made.why_down("n4", "n1") == "substrate link direct is down: new fibre"
    assert made.why_down("n1", "n3") == ""


def test_rides_know_what_is_down() -> None:
    rides = (Ride("a--b", "s.a", "to-b", "n3"), Ride("a--c", "s.a", "to-c", "n2"))
    spec = SliceSpec("s", "n1", 3, rides=rides)
    down = Substrate([link("x", "site:home", "site:mit", down="works")], SITES).marked(spec)
    assert [r.down for r in down.rides] == ["substrate link x is down: works", ""]
    up = Substrate([link("x", "site:home", "site:mit")], SITES)
    assert up.marked(down) == spec and up.marked(spec) is spec


def pair(rate: float) -> Topology:
    links = (Link((End("a"), End("b")), impairment=Impairment(rate_mbit=rate)),)
    return Topology("s", {n: Sliver(n) for n in "ab"}, links)


def test_what_does_not_fit_names_the_link_and_by_how_much() -> None:
    made = Substrate([link("x", "site:home", "site:mit", 100.0), link("y", "site:mit", "site:cern", 80.0)], SITES)
    others = {("n2", "n3"): 60.0, ("n1", "n2"): 999.0}
    made.check(pair(40.0), {"a": "n1", "b": "n3"}, others)
    with pytest.raises(CapacityError) as told:
        made.check(pair(90.0), {"a": "n1", "b": "n4"}, others)
    assert "of the 100 Mbit/s of link 'x' (site:home -- site:mit) other slices have 60" in str(told.value)
    assert "this asks for 90, 50 too many; 40 fit" in str(told.value)
    assert "link 'y' (site:mit -- site:cern) other slices have 0, and this asks for 90, 10 too many" in str(told.value)
    made.check(pair(1000.0), {"a": "n1", "b": "n2"}, others)


def test_links_go_where_the_network_still_carries_them() -> None:
    """Of three sites in a row others fill the first way, so neither end is where that is needed."""
    made = Substrate([link("x", "site:home", "site:mit", 100.0), link("y", "site:mit", "site:cern", 100.0)], SITES)
    nodes = [Node(n, frozenset({"vxlan", "element"}), address=f"192.0.2.{n[1]}") for n in ("n1", "n3", "n4")]
    topology = pair(60.0)
    topology = replace(topology, slivers={n: replace(s, apart="x") for n, s in topology.slivers.items()})
    carrying = made.carrying({("n1", "n3"): 50.0})
    assert set(place(topology, nodes, {}, {}).values()) == {"n1", "n3"}
    for _ in range(2):
        placed = place(topology, nodes, {}, {}, carrying=carrying)
        assert set(placed.values()) == {"n3", "n4"}, "what one slice takes while it is placed is nobody's yet"
    made.check(topology, placed, {("n1", "n3"): 50.0})
    with pytest.raises(CapacityError):
        place(pinned(topology, a="n1", b=""), nodes, {}, {}, carrying=carrying)
    with pytest.raises(CapacityError):  # it says no rate, and every way has one
        without = replace(topology, links=(Link((End("a"), End("b"))),))
        place(without, nodes, {}, {}, carrying=made.carrying({}))


def pinned(topology: Topology, **to: str) -> Topology:
    return replace(topology, slivers={n: replace(s, node=to[n]) for n, s in topology.slivers.items()})


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 60)), min_size=1, max_size=12))
def test_what_is_placed_by_what_is_carried_fits(asked: list[tuple[int, int, int]]) -> None:
    """Whatever is moved and changes places on the way."""
    made = Substrate([link("x", "site:home", "site:mit", 100.0), link("y", "site:mit", "site:cern", 70.0)], SITES)
    can = frozenset({"vxlan", "element"})
    nodes = [Node(n, can, address=f"192.0.2.{n[1]}", memory_mib=2) for n in SITES]
    links = {(min(a, b), max(a, b)): rate for a, b, rate in asked if a != b}
    topology = Topology(
        "s", {f"s{i}": Sliver(f"s{i}") for i in range(6)},
        tuple(Link((End(f"s{a}"), End(f"s{b}")), impairment=Impairment(rate_mbit=r)) for (a, b), r in links.items()),
    )  # fmt: skip
    others = {("n1", "n3"): 20.0}
    try:
        placed = place(topology, nodes, {}, {}, carrying=made.carrying(others))
    except CapacityError:
        return
    made.check(topology, placed, others)


def test_where_a_link_is_bounded_what_rides_on_it_says_how_much_it_takes() -> None:
    bounded = Substrate([link("x", "site:home", "site:mit", 100.0)], SITES)
    with pytest.raises(CapacityError, match="Link 'a--b' says no rate, and rides on substrate link 'x'"):
        bounded.check(pair(0.0), {"a": "n1", "b": "n3"}, {})
    bounded.check(pair(0.0), {"a": "n1", "b": "n2"}, {})
    Substrate([link("x", "site:home", "site:mit")], SITES).check(pair(0.0), {"a": "n1", "b": "n3"}, {})


def test_a_delay_below_that_of_the_substrate_is_refused() -> None:
    made = Substrate([link("x", "site:home", "site:mit", delay=12.0)], SITES)
    for asked, ok in ((0.0, True), (12.0, True), (11.0, False)):
        links = (Link((End("a"), End("b")), impairment=Impairment(delay_ms=asked)),)
        topology = Topology("s", {n: Sliver(n) for n in "ab"}, links)
        made.check_delays(topology, {"a": "n1", "b": "n2"})
        if ok:
            made.check_delays(topology, {"a": "n1", "b": "n3"})
        else:
            with pytest.raises(CapacityError, match="asks for a delay of 11 ms, .* the network takes 12 ms, 1 ms more"):
                made.check_delays(topology, {"a": "n1", "b": "n3"})


def test_slivers_go_where_their_delay_can_be_had() -> None:
    """Each node has room for one sliver; the first that comes to mind is too far away."""
    made = Substrate([link("x", "site:home", "site:cern", delay=12.0), link("y", "n3", "site:home", delay=2.0)], SITES)
    assert made.distances(["n1", "n2", "n3", "n4"]) == {
        ("n1", "n3"): 2.0, ("n2", "n3"): 2.0, ("n1", "n4"): 12.0, ("n2", "n4"): 12.0, ("n3", "n4"): 14.0,
    }  # fmt: skip
    can = frozenset({"vxlan", "netem"})
    nodes = [Node(n, can, address=f"192.0.2.{n[1]}", memory_mib=1) for n in ("n1", "n3", "n4")]
    far = made.distances([n.name for n in nodes])
    for asked, where in ((5.0, {"n1", "n3"}), (0.0, {"n1", "n3"})):
        links = (Link((End("a"), End("b")), impairment=Impairment(delay_ms=asked)),)
        placed = place(Topology("s", {n: Sliver(n) for n in "ab"}, links), nodes, {}, {}, far)
        assert set(placed.values()) == where
    links = (Link((End("a"), End("b")), impairment=Impairment(delay_ms=1.0)),)
    with pytest.raises(CapacityError, match=r"'a--b' asks for a delay of 1 ms, .* takes .* \(none is near 'n1'\)"):
        place(Topology("s", {n: Sliver(n) for n in "ab"}, links), nodes, {}, {}, far)


def test_the_first_sliver_does_not_go_where_no_neighbour_can_join_it() -> None:
    """The node that comes first is far from all others, and has room for one only."""
    sites = {"a1": "cern", "b1": "home", "b2": "mit"}
    made = Substrate([link("x", "a1", "site:home", delay=12.0), link("y", "site:home", "site:mit", delay=2.0)], sites)
    nodes = [Node(n, frozenset({"vxlan", "netem"}), address=f"192.0.2.{i}", memory_mib=1) for i, n in enumerate(sites)]
    links = (Link((End("a"), End("b")), impairment=Impairment(delay_ms=5.0)),)
    placed = place(Topology("s", {n: Sliver(n) for n in "ab"}, links), nodes, {}, {}, made.distances(list(sites)))
    assert set(placed.values()) == {"b1", "b2"}


FAR = {("n1", "n2"): 3.0, ("n1", "n3"): 20.0, ("n2", "n3"): 21.0}


def test_of_what_is_declared_and_what_was_measured_the_longer_counts() -> None:
    declared = [link("x", "site:home", "site:mit", delay=12.0), link("y", "site:mit", "site:cern", delay=5.0)]
    made = Substrate(declared, SITES, FAR | {("n1", "n4"): 2.0})
    assert made.distances(SITES) == {
        ("n1", "n2"): 3.0, ("n1", "n3"): 20.0, ("n2", "n3"): 21.0, ("n1", "n4"): 17.0, ("n2", "n4"): 17.0,
        ("n3", "n4"): 5.0,
    }  # fmt: skip
    assert made.delay_ms("n3", "n1") == 20.0 and made.delay_ms("n4", "n1") == 17.0


def asking(delay: float, **pins: str) -> Topology:
    links = (Link((End("a"), End("b")), impairment=Impairment(delay_ms=delay)),)
    return Topology("s", {n: Sliver(n, node=pins.get(n, "")) for n in "ab"}, links)


def test_a_refusal_names_link_nodes_how_much_and_the_nearest_that_fits() -> None:
    with pytest.raises(CapacityError) as told:
        Substrate([], SITES, FAR).check_delays(asking(4.5), {"a": "n1", "b": "n3"}, nodes=SITES)
    assert str(told.value) == (
        "Link 'a--b' asks for a delay of 4.5 ms, but between nodes 'n1' and 'n3', where its slivers are, the network "
        "takes 20 ms, 15.5 ms more; ask for as much, or pin them to nearer nodes (from 'n1' the nearest that fits is "
        "'n2', 3 ms)."
    )


def test_what_was_accepted_is_neither_moved_nor_refused_because_the_network_takes_longer_now() -> None:
    nodes = [
        Node(n, frozenset({"vxlan", "netem"}), address=f"192.0.2.{n[1]}", memory_mib=1) for n in ("n1", "n2", "n3")
    ]
    made, held = Substrate([], SITES, FAR), {"a": "n1", "b": "n3"}
    for asked, stays in ((5.0, True), (6.0, True), (4.0, False)):
        before, now = asking(5.0), asking(asked)
        settled = as_before(before, now)
        placed = place(now, nodes, {}, held, made.distances(SITES), settled)
        assert (placed == held) == stays
        if stays:
            made.check_delays(now, held, held, settled)
        else:
            assert set(placed.values()) == {"n1", "n2"}
            with pytest.raises(CapacityError):
                made.check_delays(now, held, held, settled)
    assert as_before(Topology("s"), asking(5.0)) == set()


def held_on(topology: Topology, placed: dict[str, str], taken: dict[str, float]) -> dict[str, SliceSpec]:
    nodes = [Node(n, frozenset({"vxlan", "netem"}), address=f"192.0.2.{n[1]}") for n in sorted(SITES)]
    return embed(topology, nodes, placed=placed, vnis={"a--b": 7}, underlay=taken)


def delays(specs: dict[str, SliceSpec]) -> set[float]:
    return {o.delay_us / 1e3 for s in specs.values() for o in s.objects if isinstance(o, Shape)}


def test_only_what_the_path_does_not_take_is_emulated() -> None:
    topology, at = asking(30.0), {"a": "n1", "b": "n3"}
    taken = underlay.taken(topology, at, FAR, {})
    assert taken == {"a--b": 20.0}
    made = held_on(topology, at, taken)
    assert delays(made) == {10.0}
    assert {n: s.underlay_ms for n, s in made.items()} == {"n1": taken, "n3": taken}
    assert delays(held_on(topology, at, {})) == {30.0}, "of what nobody measured nothing is taken away"
    assert underlay.taken(topology, {"a": "n1", "b": "n1"}, FAR, {}) == {}
    assert underlay.taken(asking(0.0), at, FAR, {}) == {}, "it takes what it takes"


def test_what_is_emulated_stays_as_it_is_while_the_path_takes_about_as_long() -> None:
    topology, at = asking(30.0), {"a": "n1", "b": "n3"}
    held = held_on(topology, at, {"a--b": 20.0})
    for now, reckoned in ((21.9, 20.0), (18.1, 20.0), (23.0, 23.0), (0.5, 0.5)):
        assert underlay.taken(topology, at, {("n1", "n3"): now}, held) == {"a--b": reckoned}
    assert underlay.taken(topology, at, {}, held) == {"a--b": 20.0}, "that nobody knows it now changes nothing"
    unknown = held_on(topology, at, {})
    assert underlay.taken(topology, at, {("n1", "n3"): 0.9}, unknown) == {}, (
        "nor that somebody does, where it is little"
    )
    assert underlay.taken(topology, at, FAR, unknown) == {"a--b": 20.0}
    assert underlay.taken(topology, {"a": "n1", "b": "n2"}, FAR, held) == {"a--b": 3.0}


def test_a_link_leads_somewhere() -> None:
    with pytest.raises(Invalid):
        check_ends("n1", "n1")
