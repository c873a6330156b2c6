"""A run on a network that others change under it: what is recorded, and what is not trusted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from experiment_network import SQUARE, FakeNetwork, virtually

from vini.edit import set_cost
from vini.experiment.actions import Fail, Restore
from vini.experiment.conditions import Limits
from vini.experiment.probes import Path as PathProbe
from vini.experiment.record import changed
from vini.experiment.runner import run
from vini.experiment.timeline import Event, Experiment
from vini.experiment.witness import _locked
from vini.model import Conflict

CALM = Limits(load_per_core=1e9, busy=2, steal=2, memory_free_mb=0)
WISH = Experiment(
    name="failover",
    topology=SQUARE,
    duration_s=18.0,
    timeline=(Event(Fail(("north", "east"), "silent"), at_s=3.0), Event(Restore(("north", "east")), at_s=10.0)),
    probes={"way": PathProbe("west", "east", 0.1)},
    calm_s=0.1,
)
Meddle = Callable[[FakeNetwork], Coroutine[Any, Any, object]]


def meddled(tmp_path: Path, network: FakeNetwork, at_s: float, meddle: Meddle, wish: Experiment = WISH) -> Path:
    """The record of a run during which somebody does something, that long after the slice came up."""

    async def both() -> Path:
        own = asyncio.create_task(run(wish, network, tmp_path, lambda _: None, limits=CALM, seen_by=network))
        while not network.puts:
            await asyncio.sleep(0.05)
        await asyncio.sleep(at_s)
        await meddle(network)
        return await own

    return virtually(both())


def summary(done: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((done / "summary.json").read_text())
    return found


async def nothing(network: FakeNetwork) -> None: ...


async def dearer(network: FakeNetwork) -> None:
    await network.put(set_cost(await network.topology("square"), "west", "south", 77), "link west--south", "ann")


async def taken_down(network: FakeNetwork) -> None:
    await network.down("square")


def test_what_the_run_itself_asks_for_is_nobody_elses_doing(tmp_path):
    found = summary(meddled(tmp_path, FakeNetwork(), 1.0, nothing))
    assert found["trustworthy"] and found["reasons"] == []
    assert [e["action"] for e in found["events"]] == ["fail", "restore"]
    assert found["conditions"]["agent_changes"] == 0


def test_one_is_told_of_as_one(tmp_path):
    said: list[str] = []
    wish = Experiment(**{f: getattr(WISH, f) for f in WISH.__struct_fields__} | {"timeline": WISH.timeline[:1]})
    virtually(run(wish, FakeNetwork(), tmp_path, said.append, limits=CALM))
    assert "t = 0: 1 probe, 1 event, 18 s" in said and "bringing up 4 slivers and 4 links" in said


@pytest.mark.parametrize("at_s", [0.05, 5.0], ids=["while-it-settles", "while-it-measures"])
def test_anothers_change_is_an_event_and_a_reason_not_to_trust(tmp_path, at_s):
    done = meddled(tmp_path, FakeNetwork(), at_s, dearer)
    found = summary(done)
    assert not found["trustworthy"]
    (reason,) = found["reasons"]
    assert "changed by another command during the run: ann, link west--south (generation " in reason
    (event,) = [e for e in pq.read_table(done / "events.parquet").to_pylist() if e["action"] == "foreign"]
    assert event["what"] == "ann: link west--south" and event["edits"] and event["planned_s"] is None
    assert event["number"] == 2 and "ann: link west--south" in (done / "events.csv").read_text()
    page = (done / "report.html").read_text()
    assert "ann: link west--south" in page and "Not trustworthy." in page


def test_an_agent_that_died_and_was_replaced_is_a_condition_and_a_reason(tmp_path):
    network = FakeNetwork()
    network.agents = [77] * 6 + [None] * 4 + [78]
    done = meddled(tmp_path, network, 1.0, nothing)
    found = summary(done)
    assert not found["trustworthy"] and found["conditions"]["agent_changes"] == 2
    assert [r.partition("s, ")[2] for r in found["reasons"]] == [
        "the agent (process 77) before, no agent now.",
        "no agent before, the agent (process 78) now.",
    ]
    assert {r["agent"] for r in pq.read_table(done / "conditions.parquet").to_pylist()} == {77, None, 78}
    assert [e["action"] for e in found["events"]].count("agent") == 2


def test_a_slice_that_is_taken_down_ends_the_run_and_what_was_measured_is_kept(tmp_path):
    network = FakeNetwork()
    done = meddled(tmp_path, network, 5.0, taken_down)
    assert changed(done) == [] and not list(tmp_path.glob("*.partial"))
    found = summary(done)
    assert 4 < found["measured_s"] < 7 and not found["trustworthy"] and not found["interrupted"]
    assert any(r.startswith("The slice was taken down by ") for r in found["reasons"])
    assert any("root, down" in r for r in found["reasons"])
    assert len(pq.read_table(done / "probes/way.parquet").to_pylist()) > 30
    assert found["paths"]["way"]["phases"]
    assert [e["what"] for e in found["events"] if e["outcome"] == "did not happen"] == ["north–east restored"]
    assert network.wanted is None


def test_what_others_took_down_stays_down_also_where_it_was_up_before(tmp_path):
    network = FakeNetwork()
    network.wanted = SQUARE
    network.puts = []
    meddled(tmp_path, network, 5.0, taken_down)
    assert network.wanted is None


def test_a_slice_that_is_taken_down_before_t_0_is_told_and_leaves_nothing(tmp_path):
    with pytest.raises(Conflict, match="Somebody took slice 'square' down before t = 0"):
        meddled(tmp_path, FakeNetwork(), 0.05, taken_down)
    assert list(tmp_path.iterdir()) == []


def test_an_event_that_waits_for_convergence_does_not_cost_the_record(tmp_path):
    timeline = (WISH.timeline[0], Event(Restore(("north", "east")), after="converged"))
    wish = Experiment(**{f: getattr(WISH, f) for f in WISH.__struct_fields__} | {"timeline": timeline})
    found = summary(meddled(tmp_path, FakeNetwork(dead_s=9.0), 5.0, taken_down, wish))
    assert not found["trustworthy"] and found["paths"]["way"]["phases"]


def test_a_slice_is_one_runs_until_that_ends(tmp_path):
    path = tmp_path / "run-x.lock"
    in_use = r"A run \(process \d+\) is using slice 'x'. Wait for its end"
    with _locked(path, "x"), pytest.raises(Conflict, match=in_use):
        _locked(path, "x")
    _locked(path, "x").close()
