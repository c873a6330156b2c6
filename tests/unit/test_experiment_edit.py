"""Edits of a topology."""

from __future__ import annotations

import pytest
from experiment_network import SQUARE, link
from msgspec.structs import replace

from vini.edit import find_link, set_cost, set_fault, set_impairment, set_routing, set_sliver_cost
from vini.model import End, Impairment, NotFound, TopologyError, ViniError


def test_fault_changes_one_link_and_nothing_else():
    broken = set_fault(SQUARE, "east", "north", "silent")
    assert [x.fault for x in broken.links] == ["none", "silent", "none", "none"]
    assert set_fault(broken, "north", "east", "none") == SQUARE
    assert set_fault(SQUARE, "north--east", "", "silent") == broken


def test_impairment_keeps_what_is_not_named():
    shaped = set_impairment(SQUARE, "west", "north", loss=0.1, rate_mbit=5)
    assert shaped.links[0].impairment == Impairment(delay_ms=5, loss=0.1, rate_mbit=5)


def test_impairment_one_way_stays_one_way_when_both_change():
    one = set_impairment(SQUARE, "north", "west", one_way=True, delay_ms=50)
    west, north = one.links[0].ends
    assert west.impairment is None and north.impairment == Impairment(delay_ms=50)
    with pytest.raises(TopologyError, match="Without a rate nothing waits"):
        set_impairment(SQUARE, "west", "north", aqm="codel")
    both = set_impairment(one, "west", "north", loss=0.2)
    assert both.links[0].ends[1].impairment == Impairment(delay_ms=50, loss=0.2)
    assert both.links[0].impairment == Impairment(delay_ms=5, loss=0.2)


def test_cost_of_a_link_and_of_a_sliver():
    assert set_cost(SQUARE, "west", "north", 77).links[0].cost == 77
    out = set_sliver_cost(SQUARE, "north", 999)
    costs = {e.sliver: e.cost for x in out.links[:2] for e in x.ends}
    assert costs == {"west": None, "north": 999, "east": None}
    assert set_cost(out, "west", "north", 5).links[0].ends[1].cost is None


def test_routing_of_all_and_of_some():
    slow = set_routing(SQUARE, {"hello_s": 9.0})
    assert {s.routing.hello_s for s in slow.slivers.values() if s.routing} == {9.0}
    some = set_routing(SQUARE, {"hello_s": 9.0}, ["west"])
    assert [s.routing.hello_s for s in some.slivers.values() if s.routing] == [9.0, 1.0, 1.0, 1.0]


def test_errors_name_the_nearest():
    with pytest.raises(NotFound, match="no sliver nord in square. Did you mean north"):
        find_link(SQUARE, "nord", "east")
    with pytest.raises(NotFound, match="no link between north and south in square. north is linked to east, west"):
        find_link(SQUARE, "north", "south")
    with pytest.raises(NotFound, match="no link west--nort in square. Did you mean west--north"):
        find_link(SQUARE, "west--nort")
    with pytest.raises(NotFound, match="west is a sliver of square; name the one at the other end too: .*west--north"):
        find_link(SQUARE, "west")
    with pytest.raises(ViniError, match="dealy_ms is no impairment of a link. Did you mean delay_ms"):
        set_impairment(SQUARE, "west", "north", dealy_ms=1)
    with pytest.raises(NotFound, match="no sliver wst"):
        set_routing(SQUARE, {}, ["wst"])


def test_parallel_links_need_their_name():
    second = replace(link("west", "north"), name="second", ends=(End("west", "b0"), End("north", "b0")))
    double = replace(SQUARE, links=(*SQUARE.links, second))
    choices = r"west--north \(west:to-north -- north:to-west\), second \(west:b0 -- north:b0\).*a vif of it: west:b0\."
    with pytest.raises(ViniError, match=f"2 links between west and north: {choices}"):
        set_fault(double, "west", "north", "silent")
    for a, b in (("second", ""), ("west:b0", ""), ("north", "west:b0"), ("north:b0", "west"), ("west:b0", "north:b0")):
        assert set_fault(double, a, b, "silent").links[-1].fault == "silent"
    assert find_link(double, "west:to-north", "north") == 0
    with pytest.raises(NotFound, match="west has no vif b1. Did you mean b0?"):
        find_link(double, "west:b1", "north")
    with pytest.raises(NotFound, match=r"no link between west:b0 and north:to-west.*linked to north \(west:b0\)"):
        find_link(double, "west:b0", "north:to-west")


def test_one_of_two_parallel_links_is_shaped_one_way():
    second = replace(link("west", "north"), name="second", ends=(End("west", "b0"), End("north", "b0")))
    double = replace(SQUARE, links=(*SQUARE.links, second))
    for a, b in (("north:b0", ""), ("north:b0", "west"), ("north", "west:b0")):
        shaped = set_impairment(double, a, b, one_way=True, delay_ms=50)
        assert shaped.links[:-1] == SQUARE.links
        assert [e.impairment and e.impairment.delay_ms for e in shaped.links[-1].ends] == [None, 50]


def test_one_way_needs_to_know_which_way():
    with pytest.raises(ViniError, match="Name the end that packets leave by, west:to-north or north:to-west"):
        set_impairment(SQUARE, "west--north", "", one_way=True, delay_ms=50)
