"""The SIGCOMM 2006 experiment, for real: the sequence of ways and the levels of the round trip, not the times."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

from vini import bus
from vini.client import Client
from vini.experiment.reader import load
from vini.experiment.record import changed
from vini.experiment.runner import run
from vini.node.place import Place

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="brings up a slice: needs root"),
    pytest.mark.skipif(not Path("/usr/lib/frr/ospfd").exists(), reason="needs FRR: apt-get install frr"),
    pytest.mark.skipif(not shutil.which("iperf3"), reason="needs iperf3: apt-get install iperf3"),
]
EXAMPLE = Path(__file__).parents[2] / "examples/abilene-failure.yaml"
NORTH = ["washington", "new-york", "chicago", "indianapolis", "kansas-city", "denver", "seattle"]
SOUTH = ["washington", "atlanta", "houston", "los-angeles", "sunnyvale", "seattle"]


async def play(tmp_path: Path) -> Path:
    place = Place(mark=f"ex{os.getpid()}", run=tmp_path / "run", state=tmp_path / "state")
    client = Client(place)
    try:
        return await run(load(EXAMPLE), client, tmp_path / "runs", print)
    finally:
        await bus.Bus(place.run / "agent.socket").ask(bus.Stop())


def test_sequence_of_ways_and_levels_of_the_round_trip(tmp_path):
    done = asyncio.run(play(tmp_path))
    assert changed(done) == []
    found = json.loads((done / "summary.json").read_text())
    assert found["failure_kinds"] == ["silent"]
    way = found["paths"]["way"]
    assert way["settled_sequence"] == [NORTH, SOUTH, NORTH]
    settled = [p for p in way["phases"] if p["arrives"] and p["return_arrives"] and p["to_s"] - p["from_s"] >= 1]
    assert [p["computed_rtt_ms"] for p in settled] == [73.8, 93.0, 73.8]
    for phase in settled:
        assert phase["computed_rtt_ms"] <= phase["median_rtt_ms"] < phase["computed_rtt_ms"] + 8
    cut = [p for p in way["phases"] if not p["arrives"] and p["pings"] > 0]
    assert cut and all(p["lost"] == p["pings"] for p in cut)
