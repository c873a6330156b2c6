"""Ways of packets from forwarding tables: the Abilene experiment's numbers, computed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from vini import topology
from vini.edit import set_cost, set_fault
from vini.experiment.paths import Phase, computed_rtt_ms, delays_ms, described, paths_seen, sequence, told, way, ways
from vini.experiment.probes.path import RouteChange, applied, parse_change
from vini.experiment.statistics import Row
from vini.layout import layout
from vini.model import Topology
from vini.reach import FibEntry, NextHop, Ways
from vini.static import static_routes

TEXT = (Path(__file__).parents[2] / "examples/abilene.yaml").read_text()
ABILENE = topology.parse(TEXT, "abilene.yaml")
# The state of the experiment after t = 10 s: packets vanish, and it is each router's own matter what it knows.
BROKEN = set_fault(ABILENE, "denver", "kansas-city", "silent")
NORTH = ("washington", "new-york", "chicago", "indianapolis", "kansas-city", "denver", "seattle")
SOUTH = ("washington", "atlanta", "houston", "los-angeles", "sunnyvale", "seattle")
BEYOND = ("kansas-city", "houston", "los-angeles", "sunnyvale", "denver", "seattle")  # who hears of it first
THIRD = (*NORTH[:5], "houston", "los-angeles", "sunnyvale", "seattle")


def fibs(*informed: str) -> dict[str, list[FibEntry]]:
    """Shortest paths of each router; the informed ones know that Denver-Kansas City is gone."""
    without = set_cost(ABILENE, "denver", "kansas-city", 60_000)
    return {s: _routes(without if s in informed else ABILENE, s) for s in ABILENE.slivers}


def _routes(known: Topology, sliver: str) -> list[FibEntry]:
    found = static_routes(layout(known), sliver)
    return [FibEntry(to, via, vif.dev) for to, (via, vif) in found.items()]


def only(*slivers: str) -> Ways:
    """The ways where there is one."""
    return Ways(slivers[0], {a: (b,) for a, b in pairwise(slivers)})


def texts(phase: Phase) -> tuple[str, bool]:
    return phase.there.text, phase.there.arrives


def snapshot(t: float, now: Topology, *informed: str) -> Row:
    found = ways(now, fibs(*informed), "washington", "seattle")
    there, back = map(way, found)
    rtt_ms, rtt_max_ms = computed_rtt_ms(now, *found)
    return {
        "t": t,
        "there": there.text,
        "there_arrives": there.arrives,
        "back": back.text,
        "back_arrives": back.arrives,
        "computed_rtt_ms": rtt_ms,
        "computed_rtt_max_ms": rtt_max_ms,
        "origin": "snapshot",
        "took_ms": 50.0,
    }


@pytest.mark.parametrize(("slivers", "rtt_ms"), [(NORTH, 73.8), (SOUTH, 93.0), (THIRD, 113.6)])
def test_levels_of_the_round_trip(slivers, rtt_ms):
    assert delays_ms(ABILENE, only(*slivers)) == pytest.approx((rtt_ms / 2, rtt_ms / 2))


def test_default_way_there_and_back():
    there, back = ways(ABILENE, fibs(), "washington", "seattle")
    assert (there, back) == (only(*NORTH), only(*NORTH[::-1]))
    assert way(there).listed() == list(NORTH) and way(there).arrives
    assert computed_rtt_ms(ABILENE, there, back) == pytest.approx((73.8, 73.8))


def test_silent_failure_ends_the_way_where_the_router_does_not_know():
    there, back = ways(BROKEN, fibs(), "washington", "seattle")
    assert way(there).listed() == list(NORTH[:5]) and not there.arrives
    assert way(back).listed() == ["seattle", "denver"] and not back.arrives
    assert computed_rtt_ms(BROKEN, there, back) == (None, None)
    assert told(way(there).listed(), there.arrives).endswith("kansas-city – lost")


def test_third_way_while_only_kansas_city_and_beyond_know():
    there, back = ways(BROKEN, fibs(*BEYOND), "washington", "seattle")
    assert there == only(*THIRD)
    # Houston's shortest way to Washington is by Atlanta in any case, so the way back is not the same.
    assert back == only(*SOUTH[::-1])
    assert computed_rtt_ms(BROKEN, there, back) == pytest.approx(((113.6 + 93.0) / 2,) * 2)


def test_routers_that_disagree_can_loop_and_that_ends_too():
    there, _ = ways(BROKEN, fibs("denver", "seattle"), "washington", "seattle")
    listed = way(there).listed()
    assert not there.arrives and len(set(listed)) == len(listed)


SQUARE = topology.parse(
    """
name: square
routing: ospf
slivers: {a: {}, b: {}, c: {}, d: {}}
links: [a -- b: {delay: 1ms}, b -- d: {delay: 2ms}, a -- c: {delay: 10ms}, c -- d: {delay: 20ms}]
""",
    "square.yaml",
)


def both(topology: Topology) -> dict[str, list[FibEntry]]:
    """In a square with equal costs a and d have two next hops to each other; in dict and list orders that vary."""
    found = {s: _routes(topology, s) for s in topology.slivers}
    for here, there in (("a", "d"), ("d", "a")):
        to = layout(topology).loopbacks[there][0]
        entry = FibEntry(to, "", "to-c", others=(NextHop("", "to-b"),))
        found[here] = [entry if e.to == to else e for e in found[here]][::-1]
    return found


def test_equal_paths_are_all_named_and_the_text_does_not_depend_on_any_order():
    tables = both(SQUARE)
    there, back = ways(SQUARE, tables, "a", "d")
    assert way(there).text == "a b d | a c d" and way(back).text == "d b a | d c a"
    assert (way(there).equal_paths, there.arrives) == (2, True)
    tables["a"] = [FibEntry(e.to, "", e.hops[-1].dev, others=e.hops[:-1]) for e in tables["a"]]
    assert way(ways(SQUARE, dict(reversed(tables.items())), "a", "d")[0]) == way(there)
    assert told(way(there).listed()) == "one of 2 equal paths: a – b – d | a – c – d"


def test_what_equal_paths_add_up_to_is_told_from_the_fastest_to_the_slowest():
    found = ways(SQUARE, both(SQUARE), "a", "d")
    assert delays_ms(SQUARE, found[0]) == (3, 30)
    assert computed_rtt_ms(SQUARE, *found) == (6, 60)


def test_a_silent_failure_of_one_of_two_equal_paths_is_a_way_that_does_not_arrive():
    cut = set_fault(SQUARE, "b", "d", "silent")
    found = ways(cut, both(cut), "a", "d")
    assert way(found[0]).text == "a b (lost) | a c d" and not found[0].arrives
    assert computed_rtt_ms(cut, *found) == (None, None)
    said = told(way(found[0]).listed(), arrives=False)
    assert said == "one of 2 equal paths, and some packets are lost: a – b – (lost) | a – c – d"


def test_more_equal_paths_than_a_person_reads_are_told_by_their_branches():
    hops = {f"x{i}": (f"y{i}", f"z{i}") for i in range(5)} | {f"{n}{i}": (f"x{i + 1}",) for i in range(5) for n in "yz"}
    text = way(Ways("x0", hops)).text
    assert text.startswith("x0>y0+z0 x1>y1+z1") and "," not in text
    assert way(Ways("x0", dict(reversed(hops.items())))).text == text
    assert told(text).startswith("one of more than 16 equal paths: x0>y0+z0")


def test_phases_do_not_end_because_equal_paths_are_listed_in_another_order():
    def seen(t: float, tables: dict[str, list[FibEntry]]) -> Row:
        there, back = map(way, ways(SQUARE, tables, "a", "d"))
        row = {"t": t, "there": there.text, "there_arrives": there.arrives, "back": back.text}
        rtts = {"computed_rtt_ms": 6.0, "computed_rtt_max_ms": 60.0}
        return row | rtts | {"back_arrives": back.arrives, "origin": "snapshot", "took_ms": 1.0}

    tables = both(SQUARE)
    other = tables | {"a": [FibEntry(e.to, "", e.hops[-1].dev, others=e.hops[:-1]) for e in tables["a"]]}
    single = {s: _routes(SQUARE, s) for s in SQUARE.slivers}
    phases = paths_seen([seen(0, tables), seen(1, other), seen(2, tables), seen(3, single)], 4.0)
    assert sequence(phases) == ["a b d | a c d", ["a", "b", "d"]]
    shown = described(phases, [])
    assert [(p["path"], p["equal_paths"]) for p in shown] == [("a b d | a c d", 2), (["a", "b", "d"], 1)]


def test_paths_seen_in_their_order_with_measured_levels():
    everyone = tuple(ABILENE.slivers)
    rows = [
        snapshot(0.0, ABILENE), snapshot(9.8, ABILENE), snapshot(10.0, BROKEN), snapshot(16.8, BROKEN),
        snapshot(17.0, BROKEN, *BEYOND), snapshot(17.5, BROKEN, *everyone), snapshot(34.0, ABILENE, *everyone),
        snapshot(38.0, ABILENE),
    ]  # fmt: skip
    phases = paths_seen(rows, 50.0)
    assert [(p.from_s, p.to_s, *texts(p)) for p in phases] == [
        (0.0, 10.0, " ".join(NORTH), True),
        (10.0, 17.0, " ".join(NORTH[:5]), False),
        (17.0, 17.5, " ".join(THIRD), True),
        (17.5, 38.0, " ".join(SOUTH), True),
        (38.0, 50.0, " ".join(NORTH), True),
    ]
    assert sequence(phases) == [list(NORTH), list(THIRD), list(SOUTH), list(NORTH)]
    assert sequence(phases, least_s=1.0) == [list(NORTH), list(SOUTH), list(NORTH)]
    pings = [{"t": t, "rtt_ms": rtt} for t, rtt in ((1.0, 74.0), (2.0, 75.0), (12.0, None), (20.0, 93.2))]
    levels = [(p["median_rtt_ms"], p["pings"], p["lost"]) for p in described(phases, pings)]
    assert levels == [(74.5, 2, 0), (None, 1, 1), (None, 0, 0), (93.2, 1, 0), (None, 0, 0)]


def test_echoes_at_the_edge_of_a_phase_are_counted_in_none():
    """The cut lasts from a look at 10.00 s (which took 50 ms) to one at 17 s; the last that saw it began at 16.8 s."""
    rows = [
        snapshot(8.0, ABILENE), snapshot(9.8, ABILENE), snapshot(10.0, BROKEN), snapshot(16.8, BROKEN),
        snapshot(17.0, BROKEN, *BEYOND),
    ]  # fmt: skip
    edges = [
        (9.0, 80.0), (9.71, 80.0),  # back before the last look that found all well began
        (9.73, 80.0), (9.99, None), (10.01, 80.0), (10.049, 80.0),  # who knows
        (10.06, None), (16.70, None),
        (16.71, None), (16.9, 95.0),  # may have been on their way when routers heard of it
    ]  # fmt: skip
    pings = [{"t": t, "rtt_ms": rtt} for t, rtt in edges]
    found = described(paths_seen(rows, 20.0), pings)
    assert [(p["from_s"], p["to_s"], p["arrives"], p["pings"], p["lost"]) for p in found] == [
        (8.0, 10.0, True, 2, 0),
        (10.0, 17.0, False, 2, 2),
        (17.0, 20.0, True, 0, 0),
    ]


def test_a_change_of_routes_begins_a_phase_and_only_a_snapshot_makes_it_last():
    """The kernel's news of a change comes late on a busy machine; what other tables held then, nobody looked at."""
    rows = [
        snapshot(1.0, ABILENE), snapshot(2.0, BROKEN) | {"origin": "change", "took_ms": None},
        snapshot(3.0, BROKEN), snapshot(3.5, BROKEN) | {"origin": "change", "took_ms": None}, snapshot(4.0, ABILENE),
    ]  # fmt: skip
    assert [(p.from_s, p.to_s, p.sure_from_s, p.sure_to_s) for p in paths_seen(rows, 5.0)] == [
        (1.0, 2.0, 1.05, 1.0),
        (2.0, 4.0, 2.0, 3.0),
        (4.0, 5.0, 4.05, 4.0),
    ]


def test_nothing_seen():
    assert paths_seen([], 10.0) == [] and sequence([]) == []


def test_route_changes_as_the_kernel_reports_them():
    stamp = "[2026-11-23T05:40:00.250000] "
    came = parse_change(stamp + "10.192.0.7 nhid 30 via 10.0.0.3 dev to-x proto ospf metric 20 ")
    assert came and (came.gone, came.prefix, came.hops) == (False, "10.192.0.7/32", (("10.0.0.3", "to-x"),))
    assert came.at % 1 == 0.25
    went = parse_change(stamp + "Deleted 10.0.0.0/31 dev to-y proto kernel scope link src 10.0.0.1 ")
    assert went and (went.gone, went.prefix, went.hops) == (True, "10.0.0.0/31", (("", "to-y"),))
    hops = "nexthop via 10.0.0.3 dev to-x weight 1 \\\tnexthop via inet6 fe80::1 dev to-y weight 2 \\"
    several = parse_change(stamp + "default nhid 4 proto ospf metric 20 \\\t" + hops)
    assert several and several.prefix == "0.0.0.0/0"
    assert several.hops == (("10.0.0.3", "to-x"), ("fe80::1", "to-y"))
    for line in ("local 10.0.0.1 dev lo table local ", "unreachable 10.0.0.0/8 dev lo ", "fd00::/8 dev x ", ""):
        assert parse_change(stamp + line) is None


def test_a_dead_next_hop_forwards_nothing_and_an_end_counts_it():
    stamp = "[2026-11-23T05:40:00.250000] "
    dead, alive = "nexthop via 10.0.0.3 dev x weight 1 dead linkdown", "nexthop via 10.1.0.3 dev y weight 1"
    hops = f"10.0.0.0/8 proto ospf \\\t{dead} \\\t{alive} \\"
    came, went = parse_change(stamp + hops), parse_change(stamp + "Deleted " + hops)
    assert came and came.hops == (("10.1.0.3", "y"),)
    assert went and went.hops == (("10.0.0.3", "x"), ("10.1.0.3", "y"))
    assert applied(applied([], came), went) == []


def test_change_replaces_and_a_stale_end_changes_nothing():
    to, v1, v2 = "10.0.0.0/8", ("v1", "x"), ("v2", "y")
    old, new = FibEntry(to, *v1), FibEntry(to, *v2)
    many = FibEntry(to, *v1, others=(NextHop(*v2),))
    assert applied([old], RouteChange(0, False, to, (v2,))) == [new]
    assert applied([old], RouteChange(0, False, to, (v1, v2))) == [many]
    assert applied([new], RouteChange(0, True, to, (v1,))) == [new]
    assert applied([many], RouteChange(0, True, to, (v1,))) == [many]
    assert applied([many], RouteChange(0, True, to, (v2, v1))) == []
    assert applied([old, new], RouteChange(0, True, to, (v1,))) == [new]
