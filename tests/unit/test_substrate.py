"""The declared substrate: which links a path leads over, what rides on one that is down, and what fits."""

from __future__ import annotations

import pytest

from vini.model import CapacityError, End, Impairment, Link, Node, Ride, SliceSpec, Sliver, Topology
from vini.placement import place
from vini.rules import Invalid
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
            with pytest.raises(CapacityError, match="asks for a delay of 11 ms, .* the substrate takes 12 ms"):
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
    with pytest.raises(CapacityError, match="too far away for a link's delay"):
        place(Topology("s", {n: Sliver(n) for n in "ab"}, links), nodes, {}, {}, far)


def test_the_first_sliver_does_not_go_where_no_neighbour_can_join_it() -> None:
    """The node that comes first is far from all others, and has room for one only."""
    sites = {"a1": "cern", "b1": "home", "b2": "mit"}
    made = Substrate([link("x", "a1", "site:home", delay=12.0), link("y", "site:home", "site:mit", delay=2.0)], sites)
    nodes = [Node(n, frozenset({"vxlan", "netem"}), address=f"192.0.2.{i}", memory_mib=1) for i, n in enumerate(sites)]
    links = (Link((End("a"), End("b")), impairment=Impairment(delay_ms=5.0)),)
    placed = place(Topology("s", {n: Sliver(n) for n in "ab"}, links), nodes, {}, {}, made.distances(list(sites)))
    assert set(placed.values()) == {"b1", "b2"}


def test_a_link_leads_somewhere() -> None:
    with pytest.raises(Invalid):
        check_ends("n1", "n1")
