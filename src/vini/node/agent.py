"""The loop on a node: compares what is wanted with what is there, and acts; forever.

Level-triggered: events only wake it.  All it remembers is its ledger, so it can be killed and
started again at any moment; what it left half-made is simply part of what it then observes.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from msgspec.structs import replace

from vini import mirror
from vini.bus import Act, Acts, Fibs, Lines, Loads, MapRows, Maps, Report, SliverLoad
from vini.model import AnyObject, DriverError, Key, Netns, NotFound, Op, SliceSpec, SliverStatus, State, Way, is_sliver
from vini.node.acts import ActsTaken
from vini.node.falls import Falls
from vini.node.guard import Guard
from vini.node.ledger import Change
from vini.node.ledgers import ASKERS, Asker, Ledgers
from vini.node.machine import Machine, Progress
from vini.node.made import Made
from vini.node.paths import Paths
from vini.node.programs import Programs
from vini.node.trace import Traces
from vini.node.usage.meter import Meter, Metered, metered
from vini.node.wanted import Wanted, slivers_of
from vini.node.widths import Widths
from vini.plan import outcome, plan, status, touched, within
from vini.rules import narrow

T = TypeVar("T")
log = logging.getLogger("vini.agent")
_PERIOD_S = 1.0  # between two full looks; longer when a look is dear, so that it takes 5 % of one core at most
_SHARE = 20.0
_TICK_S = 0.01  # between looks whether daemons that are being asked have answered
_LEAST_S, _SOON_S = 0.02, 0.1  # before a moment that nodes act in together
_LONGEST_S = 5.0  # however dear a look is: what breaks is healed within seconds


class Agent:
    """Keeps one machine as its ledger says.  `work` runs in one thread only: it enters namespaces."""

    def __init__(
        self, machine: Machine, ledgers: Ledgers, traces: Traces, programs: Programs, paths: Paths | None = None,
        meter: Meter | None = None, widths: Widths | None = None,
    ):  # fmt: skip
        self._paths = paths or Paths()
        self.widths = widths or Widths(changed=self._paths.changed)
        self.wanted = Wanted(ledgers, self._paths, self.widths)
        self._mirrored: frozenset[Way] = frozenset()  # the failed paths that a pass has been made for
        self._narrowed = self.widths.narrow  # the same of narrow ones
        self._falls = Falls(self._paths.failed)
        self._look_s = _LEAST_S  # before a moment for which something waits, what is there is looked at
        self._seen: dict[str, list[SliverStatus]] = {}  # the central's slices, by the last full look
        self._meter = meter  # looks at slivers before they go
        self._metered: dict[str, tuple[SliceSpec, dict[str, Metered]]] = {}
        self._machine, self._ledgers, self._traces, self._programs = machine, ledgers, traces, programs
        self._work = ThreadPoolExecutor(1, thread_name_prefix="machine")
        self._acts = ActsTaken()
        self._failures: dict[Key, str] = {}
        self._woken = asyncio.Event()
        self._hurry = False  # somebody waits for what the next full look tells
        self.listener: Callable[[Sequence[Report]], None] | None = None  # hears how the central's slices are, often

    # --- requests -----------------------------------------------------------------------------

    async def accept(self, spec: SliceSpec, progress: Progress, asker: Asker = "here") -> Report:
        """Take over a new desired state, and make one pass over what it changes; where it is for a later time,
        the report is of the one that holds until then."""
        started = time.monotonic()
        ops, own, have, told = await self._in_thread(lambda: self._accept(spec, progress, asker))
        self._woken.set()  # the next moment may be an earlier one now
        if told:
            await self._answers(told)
            have = await self._in_thread(lambda: self._hear(told, own))
        rows = await self._rows(self.wanted.objects(spec.slice, asker), own, have)
        rows = await self._in_thread(lambda: self._completed(spec.slice, rows))
        return self._report(spec.slice, rows, asker, ops, time.monotonic() - started)

    def _completed(self, slice_: str, rows: tuple[SliverStatus, ...]) -> tuple[SliverStatus, ...]:
        """With those of slivers that a pass did not concern, as the last full look saw them: whoever takes this for the
        slice would think else that what ails them is over."""
        spec = self._ledgers.wanted().get(slice_)
        left = (slivers_of(spec) if spec else set()) - {row.sliver for row in rows}
        more = [row for row in self._seen.get(slice_, ()) if row.sliver in left]
        return tuple(sorted([*rows, *self._told(more)], key=lambda row: row.sliver)) if more else rows

    def _accept(
        self, spec: SliceSpec, progress: Progress, asker: Asker
    ) -> tuple[int, set[str], frozenset[AnyObject], set[str]]:
        """How many steps it took, the slivers that were concerned, what is in them now, and in which of them daemons
        are still being told of their new configuration."""
        began = time.time()
        metered = self._of_slice(self._ledgers.of(asker).wanted().get(spec.slice), asker)
        old = self._ledgers.accept(spec, asker)
        self._part(metered, self._of_slice(self._ledgers.of(asker).wanted().get(spec.slice), asker))
        new = self.wanted.objects(spec.slice, asker)
        scope = touched(self.wanted.now(old) if old else frozenset(), new) | self._failed_namespaces()
        if old is None or not new:  # also what nobody asked for goes with the slice
            scope |= self._traced(spec.slice)
        ops, now = self._pass(scope, progress)
        if self._ledgers.of(asker).in_force(spec.slice) == spec.generation:
            self._acted(spec, began)
        # Told from what the kernel acknowledged; the loop's next full look verifies it within a second or so.
        own = {ns for ns in scope if ns.startswith(spec.slice + ".")}  # others were only tried once more
        log.info("slice %s generation %d: %d steps", spec.slice, spec.generation, ops)
        return ops, own, within(now, own), self._traces.being_told(own)

    def _acted(self, spec: SliceSpec, began: float, made: Made | None = None) -> None:
        """`made`: the pass that followed its moment."""
        of_links = (made.linked.get(spec.slice, 0.0), made.failed.get(spec.slice, "")) if made else (0.0, "")
        waited = made is not None
        self._acts.add(spec.slice, Act(spec.generation, spec.not_before, began, time.time(), waited, *of_links))

    def _traced(self, slice_: str) -> set[str]:
        return {ns for ns in self._traces.namespaces() if ns.startswith(slice_ + ".")}

    def _report(
        self, slice_: str, rows: tuple[SliverStatus, ...], asker: Asker, ops: int = 0, seconds: float = 0.0
    ) -> Report:
        ledger = self._ledgers.of(asker)
        return Report(rows, ops, seconds, slice_, ledger.in_force(slice_), ledger.accepted(slice_))

    def _hear(self, told: set[str], own: set[str]) -> frozenset[AnyObject]:
        """What is there after daemons took, or did not take, their new configuration."""
        self._pass(told, lambda *_: None)
        return self._machine.observe(own).objects

    async def foresee(self, spec: SliceSpec) -> Lines:
        """The plan from what is there now to this desired state."""

        def look() -> Lines:
            wanted = {ns for o in spec.objects for ns in o.slivers}
            known = {ns for ns in self._traces.namespaces() if ns.startswith(spec.slice + ".")}
            return Lines(tuple(map(str, plan(self.wanted.now(spec), self._machine.observe(wanted | known).objects))))

        return await self._in_thread(look)

    async def status(self, slice_: str, asker: Asker = "here") -> Report:
        """How the slivers of a slice are, by a fresh look; none where it is not one of the asker's."""
        want = self.wanted.objects(slice_, asker)
        if not want:
            return self._report(slice_, (), asker)
        spaces = {ns for o in want for ns in o.slivers}
        have = await self._in_thread(lambda: self._machine.observe(spaces).objects)
        return self._report(slice_, await self._rows(want, spaces, have), asker)

    async def _rows(
        self, want: frozenset[AnyObject], spaces: set[str], have: frozenset[AnyObject]
    ) -> tuple[SliverStatus, ...]:
        """The status that follows from what is there."""

        def look() -> tuple[list[SliverStatus], bool]:
            state = State(have, *self._traces.health(have))
            rows = self._told(status(within(want, spaces), state, self._failures))
            return rows, self._traces.being_asked(spaces)

        rows, asked = await self._in_thread(look)
        if asked:
            await self._answers(spaces)
            rows, _ = await self._in_thread(look)
        return tuple(rows)

    def _told(self, rows: list[SliverStatus]) -> list[SliverStatus]:
        slowed = self._traces.slowed()
        rows = [replace(row, slowed=slowed[row.sliver]) if row.sliver in slowed else row for row in rows]
        specs, failed = self._ledgers.wanted().values(), self._paths.failed
        self._falls.look(specs, failed)
        return self._falls.told(mirror.told(rows, specs, failed))

    async def _answers(self, spaces: Collection[str]) -> None:
        """Until daemons of these slivers have answered, or their time is over.  The machine's thread does not wait
        for them: meanwhile it heals whatever needs it."""
        while await self._in_thread(lambda: self._traces.awaited(spaces)):
            await asyncio.sleep(_TICK_S)

    async def fibs(self, slice_: str, asker: Asker = "here") -> Fibs:
        """The main forwarding tables of a slice's slivers, by sliver name."""
        spaces = sorted({ns for o in self.wanted.objects(slice_, asker) for ns in o.slivers if is_sliver(ns)})
        tables = await self._in_thread(lambda: self._traces.fibs(spaces))
        return Fibs({ns.partition(".")[2]: table for ns, table in tables.items()})

    async def loads(self, slice_: str, asker: Asker = "here") -> Loads:
        """What a slice's slivers do to the machine, by sliver name."""
        spaces = sorted({ns for o in self.wanted.objects(slice_, asker) for ns in o.slivers if is_sliver(ns)})
        return Loads(await self._in_thread(lambda: self._loads(spaces)))

    def _loads(self, spaces: Collection[str]) -> dict[str, SliverLoad]:
        found = self._traces.loads(spaces)
        spent = {ns: self._programs.spent(ns) for ns in found if self._programs.loaded(ns)}
        told = {ns: replace(found[ns], program=(s.passed, s.dropped)) for ns, s in spent.items()}
        return {ns.partition(".")[2]: load for ns, load in (found | told).items()}

    async def acts(self, slice_: str, after: int, asker: Asker = "here", linked: bool = True) -> Acts:
        """When desired states of a slice with higher generations were put in force, with how their links came about."""
        mine = self._ledgers.of(asker).accepted(slice_) > 0
        acts = self._acts.after(slice_, after) if mine else ()
        return Acts(acts if linked else tuple(replace(act, linked=0.0, failed="") for act in acts))

    # --- what slivers use ---------------------------------------------------------------------

    def metered(self) -> dict[str, Metered]:
        """`slice.sliver` -> what its meter has to know of it, of all that are wanted now."""
        specs = {s: (spec, asker) for asker in ASKERS for s, spec in self._ledgers.of(asker).wanted().items()}
        held = self._metered.copy()  # the thread that touches the machine adds to it meanwhile
        self._metered = {name: of for name, of in held.items() if name in specs}
        found: dict[str, Metered] = {}
        for spec, asker in specs.values():
            found |= self._of_slice(spec, asker)
        return found

    def _of_slice(self, spec: SliceSpec | None, asker: Asker) -> dict[str, Metered]:
        if spec is None or self._meter is None:
            return {}
        held = self._metered.get(spec.slice)
        if held is None or held[0] is not spec:
            held = self._metered[spec.slice] = spec, metered(spec, self.wanted.whose(asker))
        return held[1]

    def _part(self, old: Mapping[str, Metered], new: Mapping[str, Metered]) -> None:
        """What slivers used that go now, or lose a tunnel, is counted before."""
        gone = {ns: one for ns, one in old.items() if ns not in new or one.tunnels - new[ns].tunnels}
        if gone and self._meter:
            self._meter.look(gone, parting=True)

    async def work(self, work: Callable[[], T]) -> T:
        """What `work` returns, done by the one thread that touches the machine."""
        return await self._in_thread(work)

    async def belong(self, owner: str) -> None:
        """From now on the central's slices are those of this one; those of another end with the next full look."""
        if await self._in_thread(lambda: self._ledgers.belong(owner)):
            log.info("this machine's central is another one now; what the one before asked for ends")

    # --- programs -----------------------------------------------------------------------------

    async def maps(self, ns: str, names: tuple[str, ...] | None) -> Maps:
        """What the maps of a sliver's program hold.  NotFound where it has none."""
        return await self._in_thread(lambda: self._maps(ns, names))

    def _maps(self, ns: str, names: tuple[str, ...] | None) -> Maps:
        if not self._programs.loaded(ns):
            raise NotFound(f"No program is loaded in {ns}; `vini status` says why.")
        heads = {m.name: m for m in self._programs.tables(ns)}
        found = {}
        for name in sorted(heads) if names is None else names:
            rows = tuple((key, tuple(values)) for key, values in self._programs.read(ns, name))
            head = heads[name]
            found[name] = MapRows(head.type, head.key_size, head.value_size, head.max_entries, rows)
        spent = self._programs.spent(ns)
        return Maps(found, spent.passed, spent.dropped, self._programs.slice_kpps(ns.partition(".")[0]))

    async def write_row(self, ns: str, table: str, key: bytes, value: bytes | None) -> Lines:
        """Set a row of a map, or with None take it out."""

        def write() -> Lines:
            if value is not None:
                self._programs.write(ns, table, key, value)
            elif not self._programs.delete(ns, table, key):
                raise NotFound(f"The table {table} of {ns} has no such key.")
            return Lines(())

        return await self._in_thread(write)

    # --- the loop -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Look, act, wait; until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep())
            tasks.create_task(self._guard())
            tasks.create_task(self._paths.run(self.wanted.ridden))
            tasks.create_task(self._mirror())

    # --- paths to other nodes -------------------------------------------------------------------

    async def _mirror(self) -> None:
        """What rides on a path fails and comes back with it, at once; the full look that tells of it follows."""
        while True:
            await self._paths.changed.wait()
            self._paths.changed.clear()
            await self._in_thread(self._reflect)
            self._hurry = True
            self._woken.set()

    def _reflect(self) -> None:
        failed, widths, specs = self._paths.failed, self.widths.narrow, self._ledgers.wanted().values()
        self._falls.look(specs, failed)
        scope = mirror.concerned(specs, failed ^ self._mirrored)
        scope |= narrow.concerned(specs, {way for way, _ in widths.items() ^ self._narrowed.items()})
        self._mirrored, self._narrowed = failed, widths
        if scope:
            self._pass(scope, lambda *_: None)

    # --- looking and acting ---------------------------------------------------------------------

    async def _guard(self) -> None:
        """Keep slices' programs within their share of a processor."""
        guard = Guard(self._programs)
        while True:
            if not guard.rests():
                await asyncio.to_thread(guard.look)
            await asyncio.sleep(_PERIOD_S)

    async def _keep(self) -> None:
        while True:
            started = time.monotonic()
            self._hurry = False
            reports = await self._in_thread(self._full_pass)
            if self.listener:
                self.listener(reports)
            took = time.monotonic() - started
            await self._rest(min(_LONGEST_S, max(_PERIOD_S, _SHARE * took)), took)

    async def _rest(self, seconds: float, took: float) -> None:
        """Wait; meanwhile, what takes too long to answer is ended, what waits its turn is asked, and specs whose time
        has come are put in force at that moment.  A look would take so long again: where such a moment comes sooner,
        it is waited for, so that nodes act together."""
        end = time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            over = left <= 0 or self._hurry
            if over and not (self._ledgers.moment() < 2 * took and left > -_LONGEST_S):
                return
            self._woken.clear()
            asking = self._traces.asking()
            tick = _TICK_S if asking else math.inf
            soon = max(0.0, self._ledgers.moment() - self._look_s)
            await self._until_woken(min(math.inf if over else left, soon, tick))
            if self._ledgers.moment() <= self._look_s:
                await self._in_thread(self._advance)
            if asking:
                await self._in_thread(lambda: self._traces.awaited(()))

    async def _until_woken(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(None if seconds == math.inf else seconds):  # `wait_for` may lose a cancellation
                await self._woken.wait()

    def _advance(self) -> None:
        """One pass over what the next moment changes.  What is there is looked at shortly before, so that in the moment
        itself nothing is left to do but to act."""
        foreseen = self._ledgers.coming()
        scope = self._scope(foreseen)
        started = time.monotonic()
        ops, have = self._foreseen(foreseen, scope)
        made = Made(ops)
        self._look_s = min(_SOON_S, max(_LEAST_S, 2 * (time.monotonic() - started)))
        while 0.0 < (left := self._ledgers.moment()) <= _SOON_S:  # by another clock than the one that sleeps
            time.sleep(left)
        began = time.time()
        changes = self._advanced()
        wanted = self._ledgers.wanted()
        over = {new.slice for _, new in changes if new.objects and new.slice not in wanted}  # before they were due
        if changes != foreseen or over:
            scope = self._scope(changes)
            ops, have = self._plan(scope) if scope else ([], have)
            made = Made(ops)
        self._apply(ops, have, scope, made)
        made.end(self._failures)
        for _, new in changes:
            if new.slice not in over:
                self._acted(new, began, made)
        self._settle()

    def _scope(self, changes: Iterable[Change]) -> set[str]:
        """What they concern."""
        scope: set[str] = set()
        for old, new in changes:
            scope |= touched(self.wanted.now(old) if old else frozenset(), self.wanted.now(new))
            if old is None or not new.objects:
                scope |= self._traced(new.slice)
        return scope

    def _foreseen(self, changes: Iterable[Change], scope: set[str]) -> tuple[list[Op], frozenset[AnyObject]]:
        """The plan for when they are in force, and what is there now."""
        later = {new.slice: new for _, new in changes}
        wanted = self._ledgers.wanted() | later
        specs = [self.wanted.now(wanted[name]) for name in wanted.keys() & _slices(scope)]
        want = within(frozenset().union(*specs), scope)
        have = self._observe(want, scope)
        return plan(want, have), have

    def _advanced(self) -> list[Change]:
        """What is wanted from now on."""
        changes = self._ledgers.advance()
        for old, new in changes:
            asker: Asker = "central" if new.slice in self._ledgers.central.specs else "here"
            self._part(self._of_slice(old, asker), self._of_slice(new, asker))
            over = old is not None and old.generation == new.generation
            what = "its time is over, it ends" if over else "its time has come"
            log.info("slice %s generation %d: %s", new.slice, new.generation, what)
        return changes

    def _settle(self) -> None:
        """What is in force since its time has come is written down; where the disk does not take it, by the next full
        look."""
        try:
            self._ledgers.settle()
        except DriverError as e:
            log.warning("%s", e)

    def close(self) -> None:
        """Wait for what is being done; afterwards nothing touches the machine any more."""
        self._work.shutdown(wait=True, cancel_futures=True)
        self._traces.close()

    def _full_pass(self) -> list[Report]:
        """How the slices are afterwards that the central asked for, where somebody listens."""
        self._advanced()
        self._settle()
        wanted = {ns for o in self.wanted.all() for ns in o.slivers}
        try:
            scope = wanted | self._known()
            self._failures = {k: v for k, v in self._failures.items() if _concerns(k, scope)}  # of those that are gone
            ops, have = self._pass(scope, lambda *_: None)
        except (OSError, DriverError):  # what we looked at went away in that moment; the next look comes soon
            log.exception("a look at the machine failed")
            return []
        if ops:
            log.info("healed: %d steps", ops)
        return self._reports(have) if self.listener else []

    def _reports(self, have: frozenset[AnyObject]) -> list[Report]:
        rows = status(self.wanted.all(), State(have, *self._traces.health(have)), self._failures)
        self._seen = self._by_slice(rows)
        told = self._by_slice(self._told(rows))
        return [self._report(slice_, tuple(of_it), "central") for slice_, of_it in told.items()]

    def _by_slice(self, rows: Iterable[SliverStatus]) -> dict[str, list[SliverStatus]]:
        """Of those that the central asked for."""
        found: dict[str, list[SliverStatus]] = {n: [] for n in sorted(self._ledgers.central.specs)}
        for row in rows:
            if (slice_ := row.sliver.partition(".")[0]) in found:
                found[slice_].append(row)
        return found

    def _known(self) -> set[str]:
        """Every sliver that there is a trace of, but for those of which we can't tell what is wanted."""
        return {ns for ns in self._traces.namespaces() if ns.partition(".")[0] not in self._ledgers.unreadable}

    def _pass(self, scope: Collection[str], progress: Progress) -> tuple[int, frozenset[AnyObject]]:
        ops, have = self._plan(scope)
        return self._apply(ops, have, scope, progress)

    def _plan(self, scope: Collection[str]) -> tuple[list[Op], frozenset[AnyObject]]:
        """For what is wanted now, and what is there."""
        want = within(self.wanted.all(_slices(scope)), scope)
        have = self._observe(want, scope)
        return plan(want, have), have

    def _apply(
        self, ops: list[Op], have: frozenset[AnyObject], scope: Collection[str], progress: Progress
    ) -> tuple[int, frozenset[AnyObject]]:
        before = self._failures
        self._failures = {k: v for k, v in before.items() if not _concerns(k, scope)}
        failures = self._machine.apply(ops, progress)
        for key, why in failures.items():
            if before.get(key) != why:
                log.warning("%s: %s", " ".join(key), why)
        self._failures |= failures
        return len(ops), outcome(have, ops, failures)

    def _observe(self, want: frozenset[AnyObject], scope: Collection[str]) -> frozenset[AnyObject]:
        """Of a sliver that nobody wants any trace counts as its namespace: all the rest falls with that, but for what
        the node has outside of it.  One without a trace needs no look."""
        wanted = {ns for o in want for ns in o.slivers}
        traces = self._traces.namespaces()
        unwanted = (set(scope) - wanted) & traces
        left = self._traces.outliving(unwanted) if unwanted else frozenset()
        return self._machine.observe(wanted & traces).objects | {Netns(ns) for ns in unwanted} | left

    def _failed_namespaces(self) -> set[str]:
        if not self._failures:
            return set()
        among = self.wanted.all(_slices(part for key in self._failures for part in key))
        return {ns for o in among if o.key in self._failures for ns in o.slivers}

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._work, work)


def _slices(namespaces: Iterable[str]) -> set[str]:
    return {ns.partition(".")[0] for ns in namespaces}


def _concerns(key: Key, scope: Collection[str]) -> bool:
    return any(part in scope for part in key)
