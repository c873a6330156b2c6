"""Ways of packets from forwarding tables: the Abilene experiment's numbers, computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from vini import topology
from vini.edit import set_cost, set_fault
from vini.experiment.network import Fib
from vini.experiment.paths import Way, computed_rtt_ms, described, one_way_ms, paths_seen, sequence, ways
from vini.experiment.probes.path import RouteChange, applied, parse_change
from vini.experiment.statistics import Row
from vini.layout import layout
from vini.model import Topology
from vini.static import static_routes

TEXT = (Path(__file__).parents[2] / "examples/abilene.yaml").read_text()
ABILENE = topology.parse(TEXT, "abilene.yaml")
# The state of the experiment after t = 10 s: packets vanish, and it is each router's own matter what it knows.
BROKEN = set_fault(ABILENE, "denver", "kansas-city", "silent")
NORTH = ("washington", "new-york", "chicago", "indianapolis", "kansas-city", "denver", "seattle")
SOUTH = ("washington", "atlanta", "houston", "los-angeles", "sunnyvale", "seattle")
BEYOND = ("kansas-city", "houston", "los-angeles", "sunnyvale", "denver", "seattle")  # who hears of it first
THIRD = (*NORTH[:5], "houston", "los-angeles", "sunnyvale", "seattle")


def fibs(*informed: str) -> dict[str, Fib]:
    """Shortest paths of each router; the informed ones know that Denver-Kansas City is gone."""
    without = set_cost(ABILENE, "denver", "kansas-city", 60_000)
    return {s: _routes(without if s in informed else ABILENE, s) for s in ABILENE.slivers}


def _routes(known: Topology, sliver: str) -> Fib:
    found = static_routes(known, layout(known), sliver)
    return [(to, via, vif.dev) for to, (via, vif) in found.items()]


def snapshot(t: float, now: Topology, *informed: str) -> Row:
    there, back = ways(now, fibs(*informed), "washington", "seattle")
    return {
        "t": t,
        "there": " ".join(there.slivers),
        "there_arrives": there.arrives,
        "back": " ".join(back.slivers),
        "back_arrives": back.arrives,
        "computed_rtt_ms": computed_rtt_ms(now, there, back),
        "took_ms": 1.0,
    }


@pytest.mark.parametrize(("way", "rtt_ms"), [(NORTH, 73.8), (SOUTH, 93.0), (THIRD, 113.6)])
def test_levels_of_the_round_trip(way, rtt_ms):
    assert 2 * one_way_ms(ABILENE, way) == pytest.approx(rtt_ms)


def test_default_way_there_and_back():
    there, back = ways(ABILENE, fibs(), "washington", "seattle")
    assert (there, back) == (Way(NORTH, True), Way(NORTH[::-1], True))
    assert computed_rtt_ms(ABILENE, there, back) == pytest.approx(73.8)


def test_silent_failure_ends_the_way_where_the_router_does_not_know():
    there, back = ways(BROKEN, fibs(), "washington", "seattle")
    assert there == Way(NORTH[:5], False)
    assert back == Way(("seattle", "denver"), False)
    assert computed_rtt_ms(BROKEN, there, back) is None
    assert str(there).endswith("kansas-city > (lost)")


def test_third_way_while_only_kansas_city_and_beyond_know():
    there, back = ways(BROKEN, fibs(*BEYOND), "washington", "seattle")
    assert there == Way(THIRD, True)
    # Houston's shortest way to Washington is by Atlanta in any case, so the way back is not the same.
    assert back == Way(SOUTH[::-1], True)
    assert computed_rtt_ms(BROKEN, there, back) == pytest.approx((113.6 + 93.0) / 2)


def test_routers_that_disagree_can_loop_and_that_ends_too():
    there, _ = ways(BROKEN, fibs("denver", "seattle"), "washington", "seattle")
    assert not there.arrives and len(set(there.slivers)) == len(there.slivers)


def test_paths_seen_in_their_order_with_measured_levels():
    everyone = tuple(ABILENE.slivers)
    rows = [
        snapshot(0.0, ABILENE), snapshot(5.0, ABILENE), snapshot(10.0, BROKEN), snapshot(17.0, BROKEN, *BEYOND),
        snapshot(17.5, BROKEN, *everyone), snapshot(34.0, ABILENE, *everyone), snapshot(38.0, ABILENE),
    ]  # fmt: skip
    phases = paths_seen(rows, 50.0)
    assert [(p.from_s, p.to_s, p.there.slivers, p.there.arrives) for p in phases] == [
        (0.0, 10.0, NORTH, True),
        (10.0, 17.0, NORTH[:5], False),
        (17.0, 17.5, THIRD, True),
        (17.5, 38.0, SOUTH, True),
        (38.0, 50.0, NORTH, True),
    ]
    assert sequence(phases) == [list(NORTH), list(THIRD), list(SOUTH), list(NORTH)]
    assert sequence(phases, least_s=1.0) == [list(NORTH), list(SOUTH), list(NORTH)]
    pings = [{"t": t, "rtt_ms": rtt} for t, rtt in ((1.0, 74.0), (2.0, 75.0), (12.0, None), (20.0, 93.2))]
    levels = [(p["median_rtt_ms"], p["pings"], p["lost"]) for p in described(phases, pings)]
    assert levels == [(74.5, 2, 0), (None, 1, 1), (None, 0, 0), (93.2, 1, 0), (None, 0, 0)]


def test_nothing_seen():
    assert paths_seen([], 10.0) == [] and sequence([]) == []


def test_route_changes_as_the_kernel_reports_them():
    stamp = "[2026-11-23T05:40:00.250000] "
    came = parse_change(stamp + "10.192.0.7 nhid 30 via 10.0.0.3 dev to-x proto ospf metric 20 ")
    assert came and (came.gone, came.prefix, came.via, came.dev) == (False, "10.192.0.7/32", "10.0.0.3", "to-x")
    assert came.at % 1 == 0.25
    went = parse_change(stamp + "Deleted 10.0.0.0/31 dev to-y proto kernel scope link src 10.0.0.1 ")
    assert went and (went.gone, went.prefix, went.via, went.dev) == (True, "10.0.0.0/31", "", "to-y")
    several = parse_change(stamp + "default proto ospf metric 20 \\	nexthop via 10.0.0.3 dev to-x weight 1 \\")
    assert several and (several.prefix, several.via) == ("0.0.0.0/0", "10.0.0.3")
    for line in ("local 10.0.0.1 dev lo table local ", "unreachable 10.0.0.0/8 dev lo ", "fd00::/8 dev x ", ""):
        assert parse_change(stamp + line) is None


def test_change_replaces_and_a_stale_end_changes_nothing():
    old, new = ("10.0.0.0/8", "v1", "x"), ("10.0.0.0/8", "v2", "y")
    assert applied([old], RouteChange(0, False, *new)) == [new]
    assert applied([new], RouteChange(0, True, *old)) == [new]
    assert applied([old, new], RouteChange(0, True, *old)) == [new]
