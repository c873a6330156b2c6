"""The SIGCOMM 2006 experiment, for real: the sequence of ways and the levels of the round trip, not the times."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from itertools import dropwhile, groupby, takewhile
from pathlib import Path
from statistics import median

import pytest
from msgspec.structs import replace
from pyarrow import parquet

from vini import edit
from vini.experiment.actions import Exec
from vini.experiment.reader import load
from vini.experiment.record import changed
from vini.experiment.runner import run
from vini.experiment.timeline import Event, Experiment

pytestmark = [pytest.mark.alone, pytest.mark.waits, pytest.mark.root, pytest.mark.needs("frr", "iperf3")]
EXAMPLE = Path(__file__).parents[2] / "examples/abilene-failure.yaml"
NORTH = ["washington", "new-york", "chicago", "indianapolis", "kansas-city", "denver", "seattle"]
SOUTH = ["washington", "atlanta", "houston", "los-angeles", "sunnyvale", "seattle"]
THIRD = ["washington", "new-york", "chicago", "indianapolis", "kansas-city", *SOUTH[2:]]

# Half the paper's timers, and so half its times, so that CI needs less of them; the shipped example has the paper's.
HELLO_S, DEAD_S = 2.0, 6.0
FAIL_S, RESTORE_S, END_S = 5.0, 20.0, 34.0
LASTING_S = 3.0  # ways that routers take on the way to the next one are gone sooner
EDGE_S = 1.0  # routers learn of a change one after the other, and a busy machine tells of it late
SLOW_MS = 1500  # how long the routers before Kansas City wait until they compute their routes anew
EARLY_MS, LATE_MS = 0.1, 2.2  # of the quickest echo, against the links' delays: 73.8 to 76 ms, 93 to 95.2 ms
BEFORE_MBIT, AFTER_MBIT = 1.72, 1.41  # 16 KB in each round trip
WINDOW = 0.25  # how far off: `-w 16k` is about 18 KB on the wire (docs/reference/experiment.md)


def quicker(vtysh: Callable[[str], str]) -> Experiment:
    """The example, sooner over, and with routers before Kansas City that compute as late as those of 2006.

    FRR computes at once: the third way, from Kansas City's new routes to those of the others, lasts as long as the
    news travels, and not every run sees it.  So it can be seen in each.  `vtysh` talks to a sliver's daemons.
    """
    wish = load(EXAMPLE)
    fail, restore = wish.timeline
    slowly = f"-c 'configure terminal' -c 'router ospf' -c 'timers throttle spf {SLOW_MS} {SLOW_MS} {SLOW_MS}'"
    slow = [Event(Exec(name, f"{vtysh(name)} {slowly}"), at_s=0.0) for name in NORTH[: NORTH.index("kansas-city")]]
    return replace(
        wish,
        topology=edit.set_routing(wish.topology, {"hello_s": HELLO_S, "dead_s": DEAD_S}),
        timeline=(*slow, replace(fail, at_s=FAIL_S), replace(restore, at_s=RESTORE_S)),
        duration_s=END_S,
        calm_s=DEAD_S,
    )


def first_cut(phases: list[dict]) -> tuple[float, float]:
    """From when to when no packet can have gone there and back after the link had failed."""
    since = dropwhile(_there_and_back, phases)
    cut = list(takewhile(lambda p: not _there_and_back(p), since))
    return cut[0]["from_s"], cut[-1]["to_s"]


def _there_and_back(phase: dict) -> bool:
    return phase["arrives"] and phase["return_arrives"]


def quickest(phase: dict) -> float:
    """Of its echoes, above the sum of the links' delays: a busy machine delays some, but none arrives early."""
    return phase["min_rtt_ms"] - phase["computed_rtt_ms"]


def goodput(done: Path, phase: dict) -> float:
    """The median of what TCP got while a way lasted, without the intervals in which it waited for its timer."""
    rows = parquet.read_table(done / "probes" / "tcp.parquet").to_pylist()
    begins, ends = phase["from_s"] + EDGE_S, phase["to_s"] - EDGE_S
    got = [r["mbit_s"] for r in rows if r["side"] == "received" and begins < r["t"] and r["t"] + r["seconds"] < ends]
    return median(x for x in got if x > 0)


def test_sequence_of_ways_levels_of_the_round_trip_and_goodput(own, tmp_path):
    def vtysh(sliver: str) -> str:
        return f"vtysh --vty_socket {own.place.sockets(f'abilene.{sliver}')}/frr"

    done = asyncio.run(run(quicker(vtysh), own.client(), tmp_path / "runs", print))
    assert changed(done) == []
    found = json.loads((done / "summary.json").read_text())
    assert found["failure_kinds"] == ["silent"]
    assert {e["outcome"] for e in found["events"]} == {""}
    phases = found["paths"]["way"]["phases"]

    # The ways, and their levels.
    lasting = [p for p in phases if _there_and_back(p) and p["to_s"] - p["from_s"] >= LASTING_S]
    assert [p["path"] for p in lasting] == [NORTH, SOUTH, NORTH]
    assert [p["computed_rtt_ms"] for p in lasting] == [73.8, 93.0, 73.8]
    for phase in lasting:
        assert -EARLY_MS <= quickest(phase) <= LATE_MS, phase

    # In between a cut, then the third way, half of 113.6 ms; back it is half of 93.0 ms, since Seattle knows already.
    begins, ends = first_cut(phases)
    assert FAIL_S <= begins < ends < RESTORE_S
    echoes = parquet.read_table(done / "probes" / "rtt.parquet").to_pylist()
    inside = [e["rtt_ms"] for e in echoes if begins + EDGE_S < e["t"] < ends - EDGE_S]
    assert inside and set(inside) == {None}
    until_restored = [p for p in phases if p["from_s"] < RESTORE_S]
    assert [w for w in ways_in_turn(until_restored) if w in (NORTH, THIRD, SOUTH)] == [NORTH, THIRD, SOUTH]
    third = max((p for p in until_restored if p["path"] == THIRD), key=lambda p: p["pings"])
    assert (third["return_path"], third["computed_rtt_ms"]) == (SOUTH[::-1], 113.6 / 2 + 93.0 / 2)
    assert third["pings"] and -EARLY_MS <= quickest(third) <= LATE_MS, third

    # TCP with a window of 16 KB is as much slower as the round trip is longer.
    before, after = goodput(done, lasting[0]), goodput(done, lasting[1])
    assert before == pytest.approx(BEFORE_MBIT, rel=WINDOW)
    assert after == pytest.approx(AFTER_MBIT, rel=WINDOW)
    assert after / before == pytest.approx(73.8 / 93.0, rel=0.12)


def ways_in_turn(phases: list[dict]) -> list[list[str]]:
    """The ways that led there and back, one after the other."""
    return [way for way, _ in groupby(p["path"] for p in phases if _there_and_back(p))]
