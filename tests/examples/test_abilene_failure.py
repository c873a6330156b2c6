"""The SIGCOMM 2006 experiment, for real: the sequence of ways and the levels of the round trip, not the times."""

from __future__ import annotations

import asyncio
import json
from itertools import dropwhile, takewhile
from pathlib import Path

import pytest
from msgspec.structs import replace
from pyarrow import parquet

from vini import edit
from vini.experiment.reader import load
from vini.experiment.record import changed
from vini.experiment.runner import run
from vini.experiment.timeline import Experiment

pytestmark = [pytest.mark.alone, pytest.mark.root, pytest.mark.needs("frr", "iperf3")]
EXAMPLE = Path(__file__).parents[2] / "examples/abilene-failure.yaml"
NORTH = ["washington", "new-york", "chicago", "indianapolis", "kansas-city", "denver", "seattle"]
SOUTH = ["washington", "atlanta", "houston", "los-angeles", "sunnyvale", "seattle"]


HELLO_S, DEAD_S = 2.0, 6.0
FAIL_S, RESTORE_S, END_S = 5.0, 18.0, 32.0
LASTING_S = 3.0  # ways that routers take on the way to the next one are gone sooner
EDGE_S = 1.0  # routers learn of a change one after the other, and a busy machine tells of it late


def quicker() -> Experiment:
    """The example with OSPF's timers, and so all times, less than half as long.  What is to be seen is the same."""
    wish = load(EXAMPLE)
    fail, restore = wish.timeline
    return replace(
        wish,
        topology=edit.set_routing(wish.topology, {"hello_s": HELLO_S, "dead_s": DEAD_S}),
        timeline=(replace(fail, at_s=FAIL_S), replace(restore, at_s=RESTORE_S)),
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


def test_sequence_of_ways_and_levels_of_the_round_trip(own, tmp_path):
    done = asyncio.run(run(quicker(), own.client(), tmp_path / "runs", print))
    assert changed(done) == []
    found = json.loads((done / "summary.json").read_text())
    assert found["failure_kinds"] == ["silent"]
    phases = found["paths"]["way"]["phases"]
    lasting = [p for p in phases if _there_and_back(p) and p["to_s"] - p["from_s"] >= LASTING_S]
    assert [p["path"] for p in lasting] == [NORTH, SOUTH, NORTH]
    assert [p["computed_rtt_ms"] for p in lasting] == [73.8, 93.0, 73.8]
    for phase in lasting:  # the quickest: a busy machine delays some, but none arrives early
        assert phase["computed_rtt_ms"] <= phase["min_rtt_ms"] < phase["computed_rtt_ms"] + 8
    begins, ends = first_cut(phases)
    assert FAIL_S <= begins < ends < RESTORE_S
    echoes = parquet.read_table(done / "probes" / "rtt.parquet").to_pylist()
    inside = [e["rtt_ms"] for e in echoes if begins + EDGE_S < e["t"] < ends - EDGE_S]
    assert inside and set(inside) == {None}
