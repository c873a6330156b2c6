"""A whole run on a fake network and virtual time: events, phases, record, interruption."""

# ruff: noqa: ARG002 - a fake has the seam's signatures
from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from experiment_network import SQUARE, FakeNetwork, virtually
from msgspec.structs import replace

from vini.edit import set_cost
from vini.experiment.actions import Exec, Fail, Reroute, Restore, Shape, Start, Stop
from vini.experiment.conditions import Limits
from vini.experiment.digest import digest
from vini.experiment.probes import Iperf3, Ping, Routes
from vini.experiment.probes import Path as PathProbe
from vini.experiment.record import changed
from vini.experiment.runner import run
from vini.experiment.timeline import Event, Experiment
from vini.model import Unsupported, ViniError
from vini.reach import FibEntry
from vini.truth import Check, Judgement, Noise, Verdict

CALM = Limits(load_per_core=1e9, busy=2, steal=2, memory_free_mb=0)
NORTH = ["west", "north", "east"]
SOUTH = ["west", "south", "east"]


def experiment(**changes) -> Experiment:
    settings = {
        "name": "failover",
        "topology": SQUARE,
        "duration_s": 18.0,
        "seed": 7,
        "timeline": (
            Event(Fail(("north", "east"), "silent"), at_s=3.0),
            Event(Restore(("north", "east")), at_s=10.0),
        ),
        "probes": {"way": PathProbe("west", "east", 0.1), "fib": Routes(("west",), 0.5)},
        "calm_s": 0.1,
        "inputs": {"failover.yaml": "the file as given\n"},
    }
    return Experiment(**(settings | changes))


def play(tmp_path: Path, network: FakeNetwork | None = None, **changes) -> Path:
    network = network or FakeNetwork(dead_s=3.0)
    return virtually(run(experiment(**changes), network, tmp_path, lambda _: None, limits=CALM))


def summary(run_: Path) -> dict:
    return json.loads((run_ / "summary.json").read_text())


def test_sequence_of_paths_with_the_hole_between(tmp_path):
    found = summary(play(tmp_path))["paths"]["way"]
    assert found["sequence"] == [NORTH, SOUTH, NORTH]
    phases = [(p["path"], p["arrives"], p["computed_rtt_ms"]) for p in found["phases"]]
    assert phases == [
        (NORTH, True, 20.0),
        (["west", "north"], False, None),
        (SOUTH, True, 40.0),
        (NORTH, True, 20.0),
    ]
    starts = [p["from_s"] for p in found["phases"]]
    assert starts == pytest.approx([0, 3, 6, 10], abs=0.15)


def test_events_have_planned_and_actual_times_on_both_clocks(tmp_path):
    events = pq.read_table(play(tmp_path) / "events.parquet").to_pylist()
    assert [(e["action"], e["planned_s"]) for e in events] == [("fail", 3.0), ("restore", 10.0)]
    assert all(0 <= e["t"] - e["planned_s"] < 0.01 and e["done_s"] >= e["t"] for e in events)
    assert events[1]["monotonic"] - events[0]["monotonic"] == pytest.approx(7.0)
    assert all(e["wall"] > 1.7e9 for e in events)


def test_says_which_kind_of_failure(tmp_path):
    assert summary(play(tmp_path))["failure_kinds"] == ["silent"]
    carrier = (Event(Fail(("north", "east"), "carrier"), at_s=3.0),)
    assert summary(play(tmp_path / "b", timeline=carrier))["failure_kinds"] == ["carrier"]


def test_run_is_complete_sealed_and_read_only(tmp_path):
    done = play(tmp_path)
    assert done.name.startswith("failover-20") and done.name.endswith("Z-7")
    files = {str(f.relative_to(done)) for f in done.rglob("*") if f.is_file()}
    assert files >= {
        "inputs/failover.yaml", "topology.json", "experiment.json", "versions.json", "limits.json", "summary.json",
        "report.html", "events.parquet", "events.csv", "conditions.parquet", "probes/way.parquet", "probes/way.csv",
        "probes/fib.parquet", "SHA256SUMS",
    }  # fmt: skip
    assert all(f.stat().st_mode & 0o222 == 0 for f in [done, *done.rglob("*")])
    assert not list(tmp_path.glob("*.partial"))
    assert changed(done) == []
    (done / "summary.json").chmod(0o644)
    (done / "summary.json").write_text("{}")
    assert changed(done) == ["summary.json"]


def test_csv_and_parquet_hold_the_same(tmp_path):
    done = play(tmp_path)
    rows = pq.read_table(done / "probes/way.parquet").to_pylist()
    lines = (done / "probes/way.csv").read_text().splitlines()
    assert len(lines) == len(rows) + 1 > 150
    assert lines[0].startswith("t,there,there_arrives")
    assert lines[1].split(",")[1] == rows[0]["there"]


GOOD = Verdict("delay", "5ms", "median 5.01 ms", "0.1 ms", "true", "", 0.01, 0.1)
BAD = Verdict("rate", "10mbit", "8mbit", "2%", "off", "", 0.2, 0.02)
UNSURE = Verdict("loss", "1%", "", "", "can't tell", "Too few packets.")


def checked(*verdicts: Verdict) -> FakeNetwork:
    network = FakeNetwork()
    network.links = Check((Judgement("west", "to-north", "north", verdicts),), Noise(0.03, 0.1), 1.4)
    return network


def test_an_untrue_link_marks_the_run(tmp_path):
    done = play(tmp_path, checked(GOOD, BAD))
    found = summary(done)
    assert not found["trustworthy"]
    assert "The link from west to north is off: rate asked 10mbit, got 8mbit (tolerance 2%)." in found["reasons"]
    assert found["links"]["outcome"] == "off" and found["links"]["off"] == 1
    rows = pq.read_table(done / "links.parquet").to_pylist()
    assert [(r["wish"], r["outcome"], r["value"]) for r in rows] == [("delay", "true", 0.01), ("rate", "off", 0.2)]
    page = (done / "report.html").read_text()
    assert "The links before the run" in page and "8mbit" in page
    assert any("1 gave something else" in line for line in digest(found))


def test_links_of_which_nobody_can_tell_are_told_but_do_not_mark_the_run(tmp_path):
    found = summary(play(tmp_path, checked(GOOD, UNSURE)))
    assert found["trustworthy"] and found["links"]["outcome"] == "can't tell"
    doubt = "Whether the link from west to north gives its loss can't be told: Too few packets."
    assert found["links"]["doubts"] == [doubt]
    assert f"  {doubt}" in digest(found)


def test_links_that_could_not_be_measured_are_never_passed_over_in_silence(tmp_path):
    network = FakeNetwork()
    network.links = Unsupported("This machine has no gcc.")
    found = summary(play(tmp_path, network))
    assert found["trustworthy"] and found["links"]["outcome"] == "can't tell"
    assert any("not checked: This machine has no gcc." in line for line in digest(found))


@pytest.mark.parametrize(("mode", "seconds"), [("off", []), ("light", [0.0]), ("load", [3.0])])
def test_links_are_checked_as_the_experiment_asks(tmp_path, mode, seconds):
    network = FakeNetwork()
    found = summary(play(tmp_path, network, check_links=mode))
    assert network.checked == seconds
    assert found["links"]["mode"] == mode and ("not checked" in found["links"]["sentence"]) == (mode == "off")


def test_slice_is_taken_down_after_the_run(tmp_path):
    network = FakeNetwork()
    play(tmp_path, network)
    assert network.wanted is None


def test_slice_is_kept_as_the_timeline_left_it_on_request(tmp_path):
    network = FakeNetwork()
    timeline = (Event(Fail(("north", "east"), "carrier"), at_s=3.0),)
    virtually(run(experiment(timeline=timeline), network, tmp_path, lambda _: None, limits=CALM, keep=True))
    assert network.wanted and network.wanted.links[1].fault == "carrier"


def test_digest_has_verdict_events_ways_and_numbers(tmp_path):
    text = "\n".join(digest(summary(play(tmp_path))))
    assert "failover: 18 s measured, seed 7, kind of failure: silent" in text
    assert "3.00 s  north–east fails (silent)" in text
    assert "west – south – east" in text and "west – north – lost" in text
    assert "way (path): changes 3" in text and "NOT TRUSTWORTHY" not in text


def test_slice_that_was_there_is_put_back(tmp_path):
    network = FakeNetwork()
    network.wanted = SQUARE
    network.puts = [(0.0, SQUARE)]
    play(tmp_path, network, timeline=(Event(Fail(("north", "east"), "carrier"), at_s=3.0),))
    assert network.wanted == SQUARE


def test_an_event_changes_the_slice_as_it_is_and_undoes_no_command_of_another(tmp_path):
    network = FakeNetwork()
    timeline = (Event(Fail(("north", "east"), "carrier"), at_s=3.0),)

    async def both():
        own = asyncio.create_task(
            run(experiment(timeline=timeline), network, tmp_path, lambda _: None, limits=CALM, keep=True)
        )
        while not network.puts or asyncio.get_running_loop().time() - network.puts[0][0] < 2:
            await asyncio.sleep(0.1)
        await network.put(set_cost(network.wanted, "west", "south", 77))
        await own

    virtually(both())
    assert network.wanted.links[1].fault == "carrier" and network.wanted.links[2].cost == 77


def test_after_converged_waits_for_the_reroute(tmp_path):
    timeline = (
        Event(Fail(("north", "east"), "silent"), at_s=3.0),
        Event(Restore(("north", "east")), after="converged"),
    )
    events = summary(play(tmp_path, timeline=timeline))["events"]
    assert events[1]["planned_s"] is None
    assert events[1]["t"] == pytest.approx(6.0, abs=0.3)


def test_after_converged_waits_for_calm_though_all_is_reachable(tmp_path):
    timeline = (
        Event(Reroute(("west", "north"), cost=100), at_s=3.0),
        Event(Restore(("north", "east")), after="converged"),
    )
    events = summary(play(tmp_path, timeline=timeline, calm_s=2.0))["events"]
    assert events[1]["t"] == pytest.approx(5.0, abs=0.3)


def test_phases_split_where_delays_change(tmp_path):
    timeline = (Event(Shape(("west", "north"), wishes={"delay_ms": 25}), at_s=3.0),)
    found = summary(play(tmp_path, timeline=timeline))["paths"]["way"]
    assert [p["computed_rtt_ms"] for p in found["phases"]] == [20, 60]
    assert found["sequence"] == [NORTH]


def test_traffic_begins_and_ends_by_events(tmp_path):
    done = play(
        tmp_path,
        probes={},
        traffic={"walk": PathProbe("west", "east", 0.1)},
        timeline=(Event(Start("walk"), at_s=5.0), Event(Stop("walk"), at_s=8.0)),
    )
    times = [r["t"] for r in pq.read_table(done / "probes/walk.parquet").to_pylist()]
    assert min(times) == pytest.approx(5.0, abs=0.01) and max(times) == pytest.approx(7.9, abs=0.11)


def test_event_that_never_came_is_said_and_not_trusted(tmp_path):
    timeline = (
        Event(Fail(("north", "east"), "silent"), at_s=17.0),
        Event(Restore(("north", "east")), after="converged"),
    )
    found = summary(play(tmp_path, timeline=timeline))
    assert found["events"][1]["outcome"] == "did not happen"
    assert not found["trustworthy"]
    assert "'north–east restored' did not happen" in " ".join(found["reasons"])


def test_calm_run_is_trusted(tmp_path):
    found = summary(play(tmp_path))
    assert found["reasons"] == [] and found["trustworthy"] and not found["interrupted"]


def test_overloaded_machine_is_said_in_summary_and_report(tmp_path):
    limits = Limits(load_per_core=-1, busy=2, steal=2)
    done = virtually(run(experiment(), FakeNetwork(), tmp_path, lambda _: None, limits=limits))
    found = summary(done)
    assert not found["trustworthy"] and "overloaded" in found["reasons"][0]
    assert "Not trustworthy." in (done / "report.html").read_text()


def counting(*readings: dict[str, tuple[int, int]]) -> FakeNetwork:
    network = FakeNetwork(dead_s=3.0)
    network.counted = list(readings)
    return network


def test_packets_that_left_late_are_said_in_record_summary_and_report(tmp_path):
    start, second, end = {"west:to-north": (900, 0)}, {"west:to-north": (1000, 4)}, {"west:to-north": (1100, 7)}
    done = play(tmp_path, counting(start, second, end))
    found = summary(done)
    assert not found["trustworthy"]
    assert found["reasons"] == [
        "3.50% of the packets on shaped links left more than 1 ms late (7 of 200), limit 1.0%; "
        "worst: west:to-north 3.5%."
    ]
    assert (found["conditions"]["delayed_packets"], found["conditions"]["late_packets"]) == (200, 7)
    assert found["latest_vifs"] == [{"vif": "west:to-north", "share": 0.035}]
    rows = pq.read_table(done / "conditions.parquet").to_pylist()
    assert [(r["delayed"], r["late"]) for r in rows[:3]] == [(100, 4), (100, 3), (0, 0)]
    page = (done / "report.html").read_text()
    assert "Not trustworthy." in page and "worst: west:to-north 3.5%" in page and "kept up" not in page


def test_what_came_after_the_last_second_counts_too(tmp_path):
    calm = {"west:to-north": (900, 0)}
    readings = [calm] * 18  # before, and at the end of each second; the last is taken when the run is over
    done = play(tmp_path, counting(*readings, {"west:to-north": (1000, 50)}))
    assert summary(done)["conditions"]["late_packets"] == 50


def test_verdict_says_how_many_packets_were_late_or_that_nobody_counts(tmp_path):
    page = (play(tmp_path / "a", counting({"west:x": (0, 0)}, {"west:x": (1000, 4)})) / "report.html").read_text()
    assert "nothing speaks against these numbers. 0.40% of the packets on shaped links left more than 1 ms late" in page
    done = play(tmp_path / "b")
    rows = pq.read_table(done / "conditions.parquet").to_pylist()
    assert {(r["delayed"], r["late"]) for r in rows} == {(None, None)}
    assert "nothing speaks against these numbers. Whether packets left" in (done / "report.html").read_text()
    assert "the kernel&#x27;s netem doesn&#x27;t count it" in (done / "report.html").read_text()
    assert "netem doesn't count it" in "\n".join(digest(summary(done)))


def test_report_has_events_plots_and_no_outside_asset(tmp_path):
    page = (play(tmp_path) / "report.html").read_text()
    assert "north–east fails (silent)" in page and "north–east restored" in page
    assert page.count("<svg") == 2  # the way, the machine
    assert "west – south – east" in page
    assert "<script" not in page and "src=" not in page and "@import" not in page


def test_interrupted_run_keeps_what_it_found(tmp_path):
    async def main() -> Path:
        network = FakeNetwork()
        task = asyncio.create_task(run(experiment(), network, tmp_path, lambda _: None, limits=CALM))
        while not network.puts or asyncio.get_running_loop().time() - network.puts[0][0] < 5:
            await asyncio.sleep(0.5)
        task.cancel()
        done = await task
        assert network.wanted is None
        return done

    done = virtually(main())
    found = summary(done)
    assert found["interrupted"] and not found["trustworthy"]
    assert found["measured_s"] == pytest.approx(5.0, abs=1.0)
    assert found["paths"]["way"]["sequence"] == [NORTH]
    assert [e["outcome"] for e in found["events"]] == ["", "did not happen"]


def test_nothing_is_left_when_the_slice_does_not_settle(tmp_path):
    class Never(FakeNetwork):
        async def converged(self, slice_: str) -> tuple[bool, str]:
            return False, "3 pairs can't be reached"

    network = Never()
    with pytest.raises(ViniError, match="not settled after 9 s: 3 pairs can't be reached"):
        play(tmp_path, network, settle_s=9.0)
    assert list(tmp_path.iterdir()) == [] and network.wanted is None


def test_missing_program_is_refused_before_anything_happens(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    network = FakeNetwork()
    with pytest.raises(Unsupported, match="apt-get install iperf3"):
        play(tmp_path, network, probes={"tcp": Iperf3("west", "east")})
    assert network.puts == [] and list(tmp_path.iterdir()) == []


def test_command_runs_and_its_output_is_kept(tmp_path):
    timeline = (
        Event(Exec("west", "echo out; echo err >&2; exit 3"), at_s=0.0),
        Event(Exec("west", "sleep 100"), at_s=0.1),
    )
    wish = experiment(timeline=timeline, probes={}, duration_s=1.5)
    done = asyncio.run(run(wish, FakeNetwork(), tmp_path, lambda _: None, limits=CALM))
    first, second = summary(done)["events"]
    assert first["outcome"] == "exit status 3"
    assert second["outcome"] == "did not end before the run did"
    assert (done / "logs/event-0000-west.out").read_text() == "out\n"
    assert (done / "logs/event-0000-west.txt").read_text() == "err\n"
    assert not (done / "logs/event-0001-west.out").exists()  # it said nothing


def test_probe_that_fails_is_noted_and_the_run_goes_on(tmp_path):
    def nowhere(sliver: str) -> list[str]:
        return [f"/nonexistent/{sliver}"]

    probes = {"rtt": Ping("west", "east"), "fib": Routes()}
    wish = experiment(timeline=(), probes=probes, duration_s=0.5)
    done = asyncio.run(run(wish, FakeNetwork(inside=nowhere), tmp_path, lambda _: None, limits=CALM))
    found = summary(done)
    assert "The probe failed" in found["probes"]["rtt"]["notes"][0]
    assert found["probes"]["fib"]["statistics"]["routes_at_start"] > 0
    assert not found["trustworthy"]


def test_no_child_is_left(tmp_path):
    wish = experiment(
        timeline=(
            Event(
                Exec("west", "sleep 4321"),
            ),
        ),
        probes={},
        duration_s=0.3,
    )
    asyncio.run(run(wish, FakeNetwork(), tmp_path, lambda _: None, limits=CALM))
    left = [p for p in Path("/proc").glob("[0-9]*/cmdline") if b"4321" in _bytes(p)]
    assert left == []


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.parent.name != str(os.getpid()) else b""
    except OSError:  # it ended meanwhile
        return b""


def test_waits_until_routes_are_calm(tmp_path):
    class Detour(FakeNetwork):
        """All reach all from the first moment, but for 20 s by the long way."""

        async def fib_entries(self, slice_: str) -> dict[str, tuple[FibEntry, ...]]:
            asked, since = self.wanted, self.puts[0][0]
            if asyncio.get_running_loop().time() - since < 20:
                self.wanted = replace(SQUARE, links=(*SQUARE.links[2:], SQUARE.links[0]))  # north--east is unknown
            try:
                return await super().fib_entries(slice_)
            finally:
                self.wanted = asked

    found = summary(play(tmp_path, Detour(), calm_s=25.0, settle_s=100.0))
    assert found["paths"]["way"]["sequence"][0] == NORTH


def test_routes_that_never_calm_are_said(tmp_path):
    class Flapping(FakeNetwork):
        async def fib_entries(self, slice_: str) -> dict[str, tuple[FibEntry, ...]]:
            return {"west": (FibEntry("10.0.0.0/8", "", f"v{asyncio.get_running_loop().time()}"),)}

        async def converged(self, slice_: str) -> tuple[bool, str]:
            return True, ""

    with pytest.raises(ViniError, match="not settled after 30 s: its routes still change"):
        play(tmp_path, Flapping(), calm_s=6.0, settle_s=30.0)
