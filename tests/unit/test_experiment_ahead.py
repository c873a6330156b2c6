"""Edits that are sent ahead of their moment: how far ahead, and what is told of how they were made."""

# ruff: noqa: ARG002 - a fake has the seam's signatures
from __future__ import annotations

import asyncio
import csv
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from experiment_network import SQUARE, FakeNetwork, virtually
from msgspec.structs import replace

from vini import bus
from vini.bus import Act
from vini.client import times
from vini.client.times import Ahead as Clock
from vini.client.times import NodeClock, measured
from vini.experiment.actions import Fail, Restore
from vini.experiment.ahead import MARGIN, Ahead, Sent, judged
from vini.experiment.conditions import Limits
from vini.experiment.network import Departures
from vini.experiment.probes import Ping
from vini.experiment.probes.ping import moment, understand
from vini.experiment.runner import run
from vini.experiment.timeline import Event, Experiment
from vini.experiment.witness import Asked
from vini.model import Topology, Unsupported, ViniError

AGAINST = "against each other, limit 10 ms: one of them was set, or goes wrong."
TABLES = ("conditions", "clocks")
CALM = Limits(load_per_core=1e9, busy=2, steal=2, memory_free_mb=0)
SENT = Sent(7, 1000.0, SQUARE)
AHEAD = {"n1": 3600.0, "n2": -42.0}
CLOCKS = {n: Clock(ahead, 0.002) for n, ahead in AHEAD.items()}


def act(node: str, late_s: float, waited: bool = True) -> Act:
    due = 1000.0 + AHEAD[node]
    return Act(7, due, due + late_s, due + late_s + 0.5, waited)


def test_times_are_this_machines_whatever_the_nodes_clocks_show() -> None:
    told = judged(SENT, {"n1": act("n1", 0.001), "n2": act("n2", 0.005)}, CLOCKS, [])
    assert (told.began, told.done, told.outcome) == (pytest.approx(1000.001), pytest.approx(1000.505), "")
    assert (told.spread_ms, told.late_ms) == (pytest.approx(4.0), pytest.approx(5.0))


@pytest.mark.parametrize(
    "first, missing, words",
    [
        ({"n1": act("n1", 0.0), "n2": act("n2", 0.3, waited=False)}, [], "reached node n2 300 ms too late"),
        ({"n1": act("n1", 0.0), "n2": act("n2", 0.03)}, [], "was made 30 ms late by node n2"),
        ({"n1": act("n1", 0.0)}, ["n2"], "was not made by node n2"),
        ({}, ["n1", "n2"], "was not made by node n1"),
    ],
)
def test_what_went_wrong_is_told(first, missing, words) -> None:
    assert words in judged(SENT, first, CLOCKS, missing).outcome


@pytest.mark.parametrize(
    ("set_by", "words"),
    [
        (0.013, ""),  # no more than what is not known of it
        (0.015, "was made 15 ms before its moment by node n2, whose clock was taken for another one"),
        (-3600.0, "was made 3600000 ms after its moment by node n2"),
    ],
)
def test_a_clock_that_was_taken_for_another_one_is_told(set_by: float, words: str) -> None:
    """Each node was in time by its own: only what is known of it now shows that they did not act together."""
    clocks = CLOCKS | {"n2": Clock(AHEAD["n2"] + set_by, 0.002)}
    told = judged(SENT, {"n1": act("n1", 0.0), "n2": act("n2", 0.0)}, clocks, [])
    assert words in told.outcome and bool(words) == bool(told.outcome)
    assert told.spread_ms == pytest.approx(abs(set_by) * 1000)


def test_an_event_is_as_late_as_links_changed_where_any_did() -> None:
    """Others have nothing to do, and are done at once."""
    linked = {n: replace(act(n, 0.0), linked=1000.008 + AHEAD[n]) for n in AHEAD}
    clocks = CLOCKS | {"n3": Clock(0.0, 0.002)}
    told = judged(SENT, linked | {"n3": Act(7, 1000.0, 1000.0001, 1000.0002, True)}, clocks, [])
    assert (told.began, told.spread_ms) == (pytest.approx(1000.008), pytest.approx(0.0, abs=0.001))


def test_a_link_that_failed_is_told() -> None:
    told = judged(SENT, {"n1": act("n1", 0.0), "n2": replace(act("n2", 0.0), failed="refused")}, CLOCKS, [])
    assert told.outcome == "failed on node n2: refused"


class Nodes(FakeNetwork):
    """A testbed of two nodes; a change takes `delivery_s` to them, and those in `late` take it so much late."""

    lead_s = 1.0

    def __init__(self, delivery_s: float = 0.25) -> None:
        super().__init__()
        self.delivery_s = delivery_s
        self.late: dict[str, float] = {}
        self.sent: list[tuple[float, float]] = []  # loop time, and the moment
        self.lacks = ""

    async def edit(self, slice_: str, change: Callable[[Topology], Topology], what: str, at: float = 0.0) -> bus.Report:
        if at:
            self.sent.append((asyncio.get_running_loop().time(), at))
        await asyncio.sleep(self.delivery_s)
        await super().edit(slice_, change, what)
        return bus.Report((), slice=slice_, generation=len(self.log))

    async def clocks(self, slice_: str) -> dict[str, NodeClock]:
        return {
            "n1": NodeClock(("west", "north"), Clock(AHEAD["n1"], 0.002)),
            "n2": NodeClock(("south", "east"), Clock(AHEAD["n2"], 0.002)),
        }

    async def acts(self, slice_: str, after: int = 0) -> dict[str, tuple[Act, ...]]:
        at = self.sent[-1][1]
        found = {n: (at + a, self.late.get(n, 0.0)) for n, a in AHEAD.items()}
        return {n: (Act(after + 1, due, due + late, due + late, not late),) for n, (due, late) in found.items()}

    async def output(self, slice_: str, sliver: str, argv) -> tuple[int, str]:
        return int(sliver == self.lacks), ""


def test_how_long_ahead_follows_from_what_delivery_took() -> None:
    network = Nodes(0.4)

    async def rehearse() -> Ahead:
        await network.up(SQUARE)
        ahead = Ahead(network, SQUARE.name)
        await ahead.rehearse("rehearsal")
        return ahead

    assert virtually(rehearse()).lead_s == pytest.approx(1.0 + MARGIN * 0.4)


def played(tmp_path: Path, network: Nodes, **changes) -> dict:
    timeline = (
        Event(Fail(("north", "east"), "carrier"), at_s=0.5),
        Event(Restore(("north", "east")), at_s=6.0),
    )
    made = replace(Experiment("ahead", SQUARE, 10.0, timeline=timeline, calm_s=0.1), **changes)
    record = virtually(run(made, network, tmp_path, lambda _: None, limits=CALM, seen_by=network))
    if "duration_s" not in changes:
        assert (record / "clocks.csv").read_text().count("n2,-42.0,0.002") >= 2, "at t = 0, and later"
    return json.loads((record / "summary.json").read_text())


def test_edits_are_sent_ahead_and_t_0_waits_for_the_first(tmp_path: Path) -> None:
    network = Nodes()
    found = played(tmp_path, network)
    lead = 1.0 + MARGIN * 0.25
    assert [at - network.sent[0][1] for _, at in network.sent] == [0, pytest.approx(5.5)]
    assert network.sent[1][0] - network.sent[0][0] == pytest.approx(5.5)
    zero = network.sent[0][0] + lead - 0.5
    assert network.sent[1][0] == pytest.approx(zero + 6.0 - lead)
    assert [(e["t"], e["late_ms"], e["outcome"]) for e in found["events"]] == [(0.5, 0.0, ""), (6.0, 0.0, "")]
    assert found["trustworthy"], found["reasons"]
    assert found["nodes"]["n1"] == {"slivers": ["west", "north"], "clock_ahead_s": 3600.0, "clock_error_s": 0.002}


def test_a_run_is_marked_where_an_event_reached_a_node_too_late(tmp_path: Path) -> None:
    network = Nodes()
    network.late = {"n2": 0.25}
    found = played(tmp_path, network)
    assert not found["trustworthy"]
    assert any("reached node n2 250 ms too late" in r for r in found["reasons"]), found["reasons"]
    assert found["events"][0]["spread_ms"] == pytest.approx(250)


def test_a_central_that_is_away_for_a_while_ends_no_watch(tmp_path: Path) -> None:
    """Of the machine, of others, of clocks; the run says so once, and is not trustworthy."""

    class Interrupted(Nodes):
        refused = 0

        async def clocks(self, slice_: str) -> dict[str, NodeClock]:
            self._may_be_away()
            return await super().clocks(slice_)

        async def departures(self, slice_: str) -> Departures | None:
            self._may_be_away()
            return {"west:to-north": (10, 0)}

        async def topology(self, slice_: str) -> Topology:
            self._may_be_away()
            return await super().topology(slice_)

        def _may_be_away(self) -> None:
            since = asyncio.get_running_loop().time() - self.sent[0][0] if self.sent else 0.0
            if 2.0 < since < 5.0:
                self.refused += 1
                raise ViniError("The central can't be reached.")

    network = Interrupted()
    found = played(tmp_path, network, duration_s=22.0)
    assert network.refused > 5
    assert [r for r in found["reasons"] if "could not go on" in r] == [
        "The run could not go on as planned: The central can't be reached."
    ]
    (record,) = tmp_path.iterdir()
    times = {name: [float(r["t"]) for r in csv.DictReader((record / f"{name}.csv").open())] for name in TABLES}
    assert all(of_it[-1] > 18.0 for of_it in times.values()), times


def test_a_record_is_told_of_where_the_slice_can_not_be_put_back(tmp_path: Path) -> None:
    class Ended(Nodes):
        async def down(self, slice_: str) -> bus.Report:
            raise ViniError("The central can't be reached.")

    with pytest.raises(ViniError, match=f"The run is recorded in {tmp_path}/ahead-.*, but .* can't be reached"):
        played(tmp_path, Ended())
    (record,) = tmp_path.iterdir()
    assert (record / "SHA256SUMS").exists()


def test_a_run_is_marked_where_clocks_are_hardly_known(tmp_path: Path) -> None:
    class Vague(Nodes):
        async def clocks(self, slice_: str) -> dict[str, NodeClock]:
            known = await super().clocks(slice_)
            return known | {"n1": replace(known["n1"], clock=Clock(0.0, 0.03))}

    assert "The clock of node n1 was known to 30 ms only, limit 10 ms." in played(tmp_path, Vague())["reasons"]


@pytest.mark.parametrize(("by_s", "told"), [(0.013, False), (0.015, True), (-3600.0, True)])
def test_a_run_is_marked_where_a_clock_was_set_meanwhile(tmp_path: Path, by_s: float, told: bool) -> None:
    class Set(Nodes):
        async def clocks(self, slice_: str) -> dict[str, NodeClock]:
            known = await super().clocks(slice_)
            now = asyncio.get_running_loop().time() - (self.sent[0][0] if self.sent else 1e9)
            moved = Clock(AHEAD["n1"] + (by_s if now > 4.0 else 0.0), 0.002)
            return known | {"n1": replace(known["n1"], clock=moved)}

    reasons = [r for r in played(tmp_path, Set(), duration_s=22.0)["reasons"] if "against each other" in r]
    ms = f"{abs(by_s) * 1000 - 4:.0f} ms"
    assert reasons == ([f"The clock of node n1 and this machine's moved by {ms} {AGAINST}"] if told else [])


def test_a_run_is_marked_where_a_path_below_it_failed(tmp_path: Path) -> None:
    network = Nodes()
    network.befell = [
        Asked(10.0, "node n1", "path failed: long ago", 0),
        Asked(time.time() + 5, "node n1", "path failed: now", 0),
    ]
    found = played(tmp_path, network)
    assert [r.partition(" (t =")[0] for r in found["reasons"]] == [
        "A path below the slice changed: node n1, path failed: now"
    ]
    assert [e["what"] for e in found["events"] if e["action"] == "path"] == ["node n1: path failed: now"]


def test_what_a_node_lacks_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    network = Nodes()
    network.lacks = "south"
    probed = {"p": Ping("south", "east")}
    tools = (("nothing-of-this-name", "some-package"),)
    Ping.tools, before = tools, Ping.tools
    try:
        with pytest.raises(Unsupported, match="nothing-of-this-name on the node of south.*some-package"):
            played(tmp_path, network, probes=probed)
    finally:
        Ping.tools = before
    assert list(tmp_path.iterdir()) == [] and network.wanted is None


def test_stamps_of_another_machine_become_times_of_the_run() -> None:
    """Its clocks began elsewhere: CLOCK_MONOTONIC with its boot, the other is an hour ahead."""
    lines = ["c 5000000000000 77000000000", "s 0 78000000000", "r 0 78010000000 64"]
    wall, monotonic = moment(lines) or (0, 0)
    zero_wall_there = 4999.0  # t = 0 was a second before the moment
    rows = understand(lines, (monotonic - wall) / 1e9 + zero_wall_there)
    assert [(r["t"], r["rtt_ms"]) for r in rows] == [(pytest.approx(2.0), pytest.approx(10.0))]


def test_the_quickest_answer_tells_a_clock_best(monkeypatch: pytest.MonkeyPatch) -> None:
    passed = [0.0]
    monkeypatch.setattr(times.time, "time", lambda: 5000.0 + passed[0])
    monkeypatch.setattr(times.time, "monotonic", lambda: 70.0 + passed[0])
    ways = iter(((0.0, 0.02), (0.001, 0.003), (0.3, 0.03), (0.0, 0.02), (0.01, 0.0)))

    def ask() -> bus.Clock:
        there, back = next(ways)
        passed[0] += there
        now = 5100.0 + passed[0]
        passed[0] += back
        return bus.Clock(now, now)

    found = measured(ask)
    assert (found.ahead_s, found.error_s) == (pytest.approx(99.999), pytest.approx(0.002))


@pytest.mark.parametrize("for_s", [3.0, 60.0])
def test_nodes_are_asked_again_what_they_did_where_the_central_was_away(tmp_path: Path, for_s: float) -> None:
    class Away(Nodes):
        async def acts(self, slice_: str, after: int = 0) -> dict[str, tuple[Act, ...]]:
            if self.sent and 0.0 < asyncio.get_running_loop().time() - self.sent[0][0] - 1.0 < for_s:
                raise ViniError("The central can't be reached.")
            return await super().acts(slice_, after)

    found = played(tmp_path, Away(), timeline=(Event(Fail(("north", "east"), "carrier"), at_s=0.5),))
    (event,) = [e for e in found["events"] if e["action"] == "fail"]
    left = "" if for_s < 10 else "was asked for; what the nodes did could not be heard: The central can't be reached."
    assert event["outcome"] == left and not found["trustworthy"]
    assert event["late_ms"] == (0.0 if for_s < 10 else None)
