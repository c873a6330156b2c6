"""One play of an experiment's timeline: time passes, events happen, probes measure, the record is written."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from vini.experiment import conditions, links, summary
from vini.experiment.actions import Exec, Start, Stop
from vini.experiment.ahead import Ahead, Sent
from vini.experiment.clocks import COLUMNS as CLOCK_COLUMNS
from vini.experiment.clocks import EVERY_S, Clocks
from vini.experiment.lateness import Lateness
from vini.experiment.network import Departures, Network
from vini.experiment.others import Others
from vini.experiment.probe import Probe, Stage
from vini.experiment.process import Program
from vini.experiment.record import Record
from vini.experiment.report import report
from vini.experiment.settling import settle
from vini.experiment.statistics import Row, rounded
from vini.experiment.summary import EVENT_COLUMNS, Measured
from vini.experiment.timeline import Experiment, Occasion, occasions
from vini.model import NotFound, ViniError
from vini.text.units import count
from vini.truth import Check

Say = Callable[[str], None]
FIRST_PORT = 5201  # iperf3's own; ten for each probe
TELLING_S = 6.0  # that nodes may take to tell of an edit after the run's end
LOOK_S = 0.5  # between looks at what others do


class Play:
    """One play of the timeline, with all that is measured meanwhile."""

    def __init__(
        self,
        experiment: Experiment,
        network: Network,
        record: Record,
        say: Say,
        limits: conditions.Limits,
        check: Check,
        others: Others,
        ahead: Ahead | None = None,
    ):
        self.experiment, self.network, self.record, self.say, self.limits = experiment, network, record, say, limits
        self.check, self.others = check, others  # of the links, before this; of what is not our doing
        self.ahead, self.clocks = ahead, Clocks()  # of a network on other machines
        self.topology = experiment.topology
        self.loop = asyncio.get_running_loop()
        self.zero, self.zero_wall = self.loop.time(), time.time()
        self.started = datetime.now(UTC)
        self.stages: dict[str, Stage] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.events: list[Row] = []
        self.happened: dict[int, asyncio.Event] = {}
        self.samples: list[Row] = []
        self.lateness = Lateness()
        self.commands: list[asyncio.Task[None]] = []
        self.moments: list[asyncio.Task[None]] = []  # edits that were sent ahead, until nodes told of them
        self.editing = asyncio.Lock()
        self.interrupted = False
        self.gone = asyncio.Event()  # the slice, before the run's end
        self.failures: list[BaseException] = []  # of what is not a probe
        self.end_s = 0.0

    # --- time passes ----------------------------------------------------------------------------

    async def play(self) -> None:
        """From t = 0 to the end, or until cancelled, or until the slice is gone; then all children are ended."""
        todo = occasions(self.experiment)
        self.happened = {o.number: asyncio.Event() for o in todo}
        if self.ahead:
            await self._look_at_clocks()
            self._leave_time_for(todo, self.ahead)
        watching = [asyncio.create_task(c) for c in (self._watch_machine(), self._watch_others(), self._watch_clocks())]
        timeline = [asyncio.create_task(c) for c in self._timeline(todo)]
        probes, events = count(len(self.experiment.probes), "probe"), count(len(todo), "event")
        self.say(f"t = 0: {probes}, {events}, {self.experiment.duration_s:g} s")
        try:
            await self._until(0.0)
            for name, probe in self.experiment.probes.items():
                self._start(name, probe)
            await self._to_the_end()
        except asyncio.CancelledError:
            self._uncancel()
            self.interrupted = True
            self.say("interrupted: ending the probes, keeping what they found")
        self.end_s = self.loop.time() - self.zero
        for task in [*timeline, *self.commands, *watching]:
            task.cancel()
        for stage in self.stages.values():
            stage.stop.set()
        if self.moments:
            await asyncio.wait(self.moments, timeout=TELLING_S)
            for task in self.moments:
                task.cancel()
        await self._last_look()
        await asyncio.gather(
            *timeline, *self.moments, *self.commands, *watching, *self.tasks.values(), return_exceptions=True
        )
        ended = [t for t in [*timeline, *self.moments, *watching, *self.commands] if not t.cancelled()]
        self.failures += [e for t in ended if (e := t.exception())]
        self._note_missed(todo)
        self.events = _in_order([*self.events, *self.others.rows(len(todo), self.zero, self.zero_wall)])

    def _timeline(self, todo: tuple[Occasion, ...]) -> list[Coroutine[Any, Any, None]]:
        waiting = [self._after_convergence(o) for o in todo if o.at_s is None]
        timed = [o for o in todo if o.at_s is not None]
        if self.ahead is None:
            return [self._on_time(timed), *waiting]
        edits = [o for o in timed if o.action.edits]
        return [self._on_time([o for o in timed if not o.action.edits]), self._before_time(edits, self.ahead), *waiting]

    def _leave_time_for(self, todo: tuple[Occasion, ...], ahead: Ahead) -> None:
        """t = 0 comes so late that also the first edit can be sent ahead."""
        first = min((o.at_s for o in todo if o.at_s is not None and o.action.edits), default=ahead.lead_s)
        wait = max(0.0, ahead.lead_s - first)
        self.zero, self.zero_wall = self.loop.time() + wait, time.time() + wait

    async def _on_time(self, todo: list[Occasion]) -> None:
        """One after the other, so that those of one instant keep their order."""
        for occasion in todo:
            assert occasion.at_s is not None
            await self._until(occasion.at_s)
            await self._act(occasion, occasion.at_s)

    async def _before_time(self, todo: list[Occasion], ahead: Ahead) -> None:
        """One after the other, each as long before its moment as a change needs."""
        for occasion in todo:
            assert occasion.at_s is not None
            await self._until(occasion.at_s - ahead.lead_s)
            await self._act_at(occasion, ahead, occasion.at_s)

    async def _after_convergence(self, occasion: Occasion) -> None:
        if occasion.after >= 0:
            await self.happened[occasion.after].wait()
        await settle(self.network, self.topology.name, self.experiment.calm_s)
        if self.ahead and occasion.action.edits:
            await self._act_at(occasion, self.ahead, None)
        else:
            await self._act(occasion, None)

    async def _until(self, at_s: float) -> None:
        while (left := self.zero + at_s - self.loop.time()) > 0:
            await asyncio.sleep(left)

    async def _to_the_end(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self.zero + self.experiment.duration_s):
                await self.gone.wait()
                self.say("the slice is gone: ending the probes, keeping what they found")

    async def _watch_machine(self) -> None:
        await conditions.watch(self.samples, self.zero, self.lateness, self._departures, lambda: self.others.agent)

    async def _watch_clocks(self) -> None:
        while self.ahead:
            await asyncio.sleep(EVERY_S)
            with self._noting():
                await self._look_at_clocks()

    async def _look_at_clocks(self) -> None:
        with contextlib.suppress(NotFound):  # the slice is gone
            self.clocks.learn(await self.network.clocks(self.topology.name), self.loop.time() - self.zero)

    async def _watch_others(self) -> None:
        while not self.gone.is_set():
            await asyncio.sleep(LOOK_S)
            with self._noting():
                await self._look_at_others()

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        """What fails in the block, as where a central is away for a while, is said once, and tried again."""
        try:
            yield
        except ViniError as e:
            self._failed(e)

    def _failed(self, why: ViniError) -> None:
        """It goes on."""
        if str(why) not in map(str, self.failures):
            self.failures.append(why)
            self.say(f"t = {self.loop.time() - self.zero:.2f} s: {why}")

    async def _look_at_others(self) -> None:
        """What they asked for is the network that is measured from now on."""
        for asked in self.others.look():
            self.say(f"t = {asked.at - self.zero_wall:.2f} s: not of this run: {asked.who}, {asked.what}")
        async with self.editing:
            if not (self.ahead and self.ahead.pending):  # else what is asked for is not what is there yet
                await self._know_topology()
        await self.others.look_at_agent(self.loop.time() - self.zero)

    async def _last_look(self) -> None:
        self.lateness.add(await self._departures())
        with self._noting():
            await self._look_at_others()

    async def _know_topology(self) -> None:
        try:
            self.topology = await self.network.topology(self.topology.name)
        except NotFound:
            self.gone.set()
        self._tell_topology()

    def _tell_topology(self) -> None:
        for stage in self.stages.values():
            stage.topology = self.topology

    async def _departures(self) -> Departures | None:
        with self._noting(), contextlib.suppress(NotFound):  # so are its links
            return await self.network.departures(self.topology.name)
        return None

    def _uncancel(self) -> None:
        task = asyncio.current_task()
        while task and task.cancelling():
            task.uncancel()

    # --- actions ----------------------------------------------------------------------------------

    def _row(self, occasion: Occasion, planned: float | None) -> Row:
        """An event that begins now, among those of the run."""
        action, now = occasion.action, self.loop.time()
        row: Row = dict.fromkeys(EVENT_COLUMNS) | {
            "number": occasion.number, "event": occasion.event, "action": to_builtins(action)["action"],
            "what": str(action), "edits": action.edits, "planned_s": planned, "t": now - self.zero,
            "wall": time.time(), "monotonic": now, "outcome": "",
        }  # fmt: skip
        self.events.append(row)
        return row

    async def _act(self, occasion: Occasion, planned: float | None) -> None:
        action, row = occasion.action, self._row(occasion, planned)
        self.say(f"t = {row['t']:.2f} s: {action}")
        try:
            await self._do(action, row)
        except ViniError as e:
            row["outcome"] = f"failed: {e}"
            self.say(f"t = {row['t']:.2f} s: {action} failed: {e}")
        if not isinstance(action, Exec):
            row["done_s"] = self.loop.time() - self.zero
        self.happened[occasion.number].set()

    async def _act_at(self, occasion: Occasion, ahead: Ahead, planned: float | None) -> None:
        """Have the nodes make an edit at its moment; without one, as soon as all of them can know of it."""
        at = self.loop.time() - self.zero + ahead.lead_s if planned is None else planned
        what = f"event: {occasion.action}"
        self.others.mine(what)
        try:
            sent = await ahead.send(occasion.action.edit, what, self.zero_wall + at)
        except ViniError as e:
            row = self._row(occasion, planned)
            row["outcome"] = f"failed: {e}"
            self.say(f"t = {row['t']:.2f} s: {occasion.action} failed: {e}")
            self.happened[occasion.number].set()
            return
        self.moments.append(asyncio.create_task(self._at_moment(occasion, ahead, sent, planned, at)))

    async def _at_moment(self, occasion: Occasion, ahead: Ahead, sent: Sent, planned: float | None, at: float) -> None:
        """What the run knows of it when its moment comes, and what nodes tell afterwards."""
        try:
            await self._until(at)
        finally:
            ahead.pending -= 1
        row = self._row(occasion, planned)
        self.say(f"t = {at:.2f} s: {occasion.action}")
        self.topology = sent.topology
        self._tell_topology()
        self.happened[occasion.number].set()
        row["outcome"] = "was asked for; the run ended before the nodes told of it"

        def unheard(why: ViniError) -> None:
            self._failed(why)
            row["outcome"] = f"was asked for; what the nodes did could not be heard: {why}"

        acted = await ahead.acted(sent, self.clocks.now, unheard)
        began = acted.began - self.zero_wall
        row |= {
            "t": began, "wall": acted.began, "monotonic": self.zero + began, "done_s": acted.done - self.zero_wall,
            "late_ms": acted.late_ms, "spread_ms": acted.spread_ms, "outcome": acted.outcome,
        }  # fmt: skip

    async def _do(self, action: Any, row: Row) -> None:
        match action:
            case Exec():
                self.commands.append(asyncio.create_task(self._exec(action, row)))
            case Start():
                self._start(action.traffic, self.experiment.traffic[action.traffic])
            case Stop():
                if action.traffic in self.stages:
                    self.stages[action.traffic].stop.set()
                    await asyncio.wait([self.tasks[action.traffic]])
            case _:
                async with self.editing:
                    self.others.mine(f"event: {action}")
                    await self.network.edit(self.topology.name, action.edit, f"event: {action}")
                    await self._know_topology()

    async def _exec(self, action: Exec, row: Row) -> None:
        log = self.record.partial / "logs" / f"event-{row['number']:04}-{action.sliver}.txt"
        argv = self.network.enter(self.topology.name, action.sliver, ["sh", "-c", action.run])
        async with Program(argv, log, output=log.with_suffix(".out")) as program:
            row["outcome"] = "did not end before the run did"
            status = await program.process.wait()
        row["outcome"], row["done_s"] = (f"exit status {status}" if status else ""), self.loop.time() - self.zero

    def _start(self, name: str, probe: Probe) -> None:
        if name in self.stages:
            raise ViniError(f"{name} was already started. Give it a second name to run it twice.")
        place = self.record.partial
        port = FIRST_PORT + 10 * len(self.stages)
        self.stages[name] = Stage(
            name, self.network, self.topology, self.zero, self.zero_wall, place / "captures",
            place / "logs" / f"{name}.txt", port, self.clocks,
        )  # fmt: skip
        self.tasks[name] = asyncio.create_task(self._measure(probe, self.stages[name]))

    async def _measure(self, probe: Probe, stage: Stage) -> None:
        try:
            await probe.measure(stage)
        except (ViniError, OSError) as e:
            stage.note(f"The probe failed at t = {stage.now():.1f} s: {e}")
            self.say(f"probe {stage.name} failed: {e}")

    def _note_missed(self, todo: tuple[Occasion, ...]) -> None:
        for occasion in todo:
            if not self.happened[occasion.number].is_set() and all(e["number"] != occasion.number for e in self.events):
                blank = dict.fromkeys(EVENT_COLUMNS)
                self.events.append(
                    {
                        **blank,
                        "number": occasion.number,
                        "event": occasion.event,
                        "what": str(occasion.action),
                        "action": to_builtins(occasion.action)["action"],
                        "edits": occasion.action.edits,
                        "planned_s": occasion.at_s,
                        "outcome": "did not happen",
                    }  # fmt: skip
                )

    # --- afterwards -----------------------------------------------------------------------------

    def finish(self) -> Path:
        """Write what was found, and seal the record.  What went wrong that nobody foresaw is raised after that."""
        all_ = self._measured()
        for name, measured in all_.items():
            self.record.table(f"probes/{name}", measured.probe.columns, measured.rows)
        self.record.table("events", EVENT_COLUMNS, self.events)
        self.record.table("links", links.COLUMNS, links.rows(self.check))
        self.record.table("conditions", conditions.COLUMNS, self.samples)
        if self.ahead:
            self.record.table("clocks", CLOCK_COLUMNS, self.clocks.rows)
        self.record.json("limits.json", to_builtins(self.limits))
        found = self._summary(all_)
        self.record.json("summary.json", found)
        self.say("drawing the report")
        self.record.text("report.html", report(found, all_, self.events, self.samples, links.rows(self.check)))
        run = self.record.seal()
        of_probes = (t.exception() for t in self.tasks.values() if not t.cancelled())
        for bug in [*self.failures, *of_probes]:
            if bug and not isinstance(bug, ViniError):
                raise bug
        return run

    def _measured(self) -> dict[str, Measured]:
        probes = {**self.experiment.probes, **self.experiment.traffic}
        return {n: Measured(probes[n], s.rows, tuple(s.notes)) for n, s in self.stages.items()}

    def _summary(self, all_: dict[str, Measured]) -> dict[str, Any]:
        probes = {name: summary.probe_summary(m) for name, m in all_.items()}
        reasons = [*self._reasons(probes), *(f"Probe {n}: {note}" for n, m in all_.items() for note in m.notes)]
        return {
            "name": self.experiment.name,
            "seed": self.experiment.seed,
            "started": self.started.isoformat(timespec="milliseconds"),
            "duration_s": self.experiment.duration_s,
            "measured_s": rounded(self.end_s, 3),
            "interrupted": self.interrupted,
            "trustworthy": not reasons,
            "reasons": reasons,
            "links": links.summary(self.experiment.check_links, self.check),
            "timeliness": self.lateness.sentence(),
            "latest_vifs": [{"vif": vif, "share": rounded(share, 5)} for vif, share in self.lateness.worst()],
            "nodes": self.clocks.summary(),
            "failure_kinds": summary.failure_kinds(self.events),
            "events": [{k: rounded(v, 4) if isinstance(v, float) else v for k, v in e.items()} for e in self.events],
            "epochs": summary.epochs(self.events, all_, self.end_s),
            "paths": summary.paths(all_, self.end_s),
            "probes": probes,
            "conditions": {
                **conditions.summary(self.samples, conditions.cores(), self.lateness),
                "agent_changes": len(self.others.changes),
            },
        }

    def _reasons(self, probes: dict[str, dict[str, Any]]) -> list[str]:
        reasons = ["The run was interrupted before its end."] if self.interrupted else []
        if self.gone.is_set():
            reasons.append(f"The slice was taken down by {self.end_s:.2f} s, and what was measured ends there.")
        reasons += self.others.reasons(self.zero_wall)
        reasons += [f"The run could not go on as planned: {e}" for e in self.failures if isinstance(e, ViniError)]
        reasons += self.check.reasons()
        reasons += [f"The event '{e['what']}' {e['outcome'].rstrip('.')}." for e in self.events if e["outcome"]]
        timed = [e for e in self.events if e["t"] is not None and e["planned_s"] is not None]
        late: dict[str, float] = {}
        for e in timed:  # one may have happened many times
            late[e["what"]] = max(late.get(e["what"], 0.0), (e["t"] - e["planned_s"]) * 1000, e["late_ms"] or 0.0)
        reasons += self.clocks.reasons(self.limits.clock_error_ms)
        return reasons + list(
            conditions.judge(
                self.samples, conditions.cores(), self.lateness, late, summary.late_ms(probes), self.limits
            )
        )


def _in_order(events: list[Row]) -> list[Row]:
    """By time; what did not happen at the end."""
    return sorted(events, key=lambda e: float("inf") if e["t"] is None else e["t"])
