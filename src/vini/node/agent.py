"""The loop on a node: compares what is wanted with what is there, and acts; forever.

Level-triggered: events only wake it.  All it remembers is its ledger, so it can be killed and
started again at any moment; what it left half-made is simply part of what it then observes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from vini.bus import Fibs, Lines, MapRows, Maps, Report
from vini.model import AnyObject, Key, Netns, NotFound, SliceSpec, SliverStatus, State
from vini.node.guard import Guard
from vini.node.ledger import Ended, Ledger
from vini.node.machine import Machine, Progress
from vini.node.programs import Programs
from vini.node.trace import Traces
from vini.plan import outcome, plan, status, touched, within

T = TypeVar("T")
log = logging.getLogger("vini.agent")
_PERIOD_S = 1.0  # between two full looks; longer when a look is dear, so that it takes 5 % of one core at most
_SHARE = 20.0
_TICK_S = 0.01  # between looks whether daemons that are being asked have answered
_LONGEST_S = 5.0  # however dear a look is: what breaks is healed within seconds


class Agent:
    """Keeps one machine as its ledger says.  `work` runs in one thread only: it enters namespaces."""

    def __init__(self, machine: Machine, ledger: Ledger, traces: Traces, programs: Programs):
        self._machine, self._ledger, self._traces, self._programs = machine, ledger, traces, programs
        self._work = ThreadPoolExecutor(1, thread_name_prefix="machine")
        self._failures: dict[Key, str] = {}

    # --- requests -----------------------------------------------------------------------------

    async def accept(self, spec: SliceSpec, progress: Progress) -> Report:
        """Take over a new desired state, and make one pass over what it changes."""
        started = time.monotonic()
        ops, own, have, told = await self._in_thread(lambda: self._accept(spec, progress))
        if told:
            await self._answers(told)
            have = await self._in_thread(lambda: self._hear(told, own))
        rows = await self._rows(spec, own, have)
        return Report(rows, ops, time.monotonic() - started)

    def _accept(self, spec: SliceSpec, progress: Progress) -> tuple[int, set[str], frozenset[AnyObject], set[str]]:
        """How many steps it took, the slivers that were concerned, what is in them now, and in which of them daemons
        are still being told of their new configuration."""
        old = self._ledger.accept(spec)
        scope = touched(old.objects if old else frozenset(), spec.objects) | self._failed_namespaces()
        if old is None or not spec.objects:  # also what nobody asked for goes with the slice
            scope |= {ns for ns in self._traces.namespaces() if ns.startswith(spec.slice + ".")}
        ops, now = self._pass(scope, progress)
        # Told from what the kernel acknowledged; the loop's next full look verifies it within a second or so.
        own = {ns for ns in scope if ns.startswith(spec.slice + ".")}  # others were only tried once more
        log.info("slice %s generation %d: %d steps", spec.slice, spec.generation, ops)
        return ops, own, within(now, own), self._traces.being_told(own)

    def _hear(self, told: set[str], own: set[str]) -> frozenset[AnyObject]:
        """What is there after daemons took, or did not take, their new configuration."""
        self._pass(told, lambda *_: None)
        return self._machine.observe(own).objects

    async def foresee(self, spec: SliceSpec) -> Lines:
        """The plan from what is there now to this desired state."""

        def look() -> Lines:
            wanted = {ns for o in spec.objects for ns in o.slivers}
            known = {ns for ns in self._traces.namespaces() if ns.startswith(spec.slice + ".")}
            return Lines(tuple(map(str, plan(spec.objects, self._machine.observe(wanted | known).objects))))

        return await self._in_thread(look)

    async def status(self, slice_: str) -> Report:
        """How the slivers of a slice are, by a fresh look."""
        spec = self._ledger.specs.get(slice_)
        if spec is None:
            return Report(())
        spaces = {ns for o in spec.objects for ns in o.slivers}
        have = await self._in_thread(lambda: self._machine.observe(spaces).objects)
        return Report(await self._rows(spec, spaces, have))

    async def _rows(self, spec: SliceSpec, spaces: set[str], have: frozenset[AnyObject]) -> tuple[SliverStatus, ...]:
        """The status that follows from what is there."""

        def look() -> tuple[list[SliverStatus], bool]:
            state = State(have, *self._traces.health(have))
            rows = status(within(spec.objects, spaces), state, self._failures)
            return rows, self._traces.being_asked(spaces)

        rows, asked = await self._in_thread(look)
        if asked:
            await self._answers(spaces)
            rows, _ = await self._in_thread(look)
        return tuple(rows)

    async def _answers(self, spaces: Collection[str]) -> None:
        """Until daemons of these slivers have answered, or their time is over.  The machine's thread does not wait
        for them: meanwhile it heals whatever needs it."""
        while await self._in_thread(lambda: self._traces.awaited(spaces)):
            await asyncio.sleep(_TICK_S)

    async def fibs(self, slice_: str) -> Fibs:
        """The main forwarding tables of a slice's slivers, by sliver name."""
        spec = self._ledger.specs.get(slice_)
        spaces = sorted({ns for o in spec.objects for ns in o.slivers}) if spec else []
        tables = await self._in_thread(lambda: self._traces.fibs(spaces))
        return Fibs({ns.partition(".")[2]: table for ns, table in tables.items()})

    def generations(self) -> dict[str, int]:
        """The newest accepted generation of each slice that is asked for."""
        return {s.slice: s.generation for s in list(self._ledger.specs.values())}

    def ended(self) -> Ended:
        """The generations of the ends of those that are not."""
        ended, up = self._ledger.ended, self._ledger.specs
        return Ended({s: g for s, g in ended.generations.items() if s not in up}, ended.forgotten)

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

    async def _guard(self) -> None:
        """Keep slices' programs within their share of a processor."""
        guard = Guard(self._programs)
        while True:
            await asyncio.to_thread(guard.look)
            await asyncio.sleep(_PERIOD_S)

    async def _keep(self) -> None:
        while True:
            started = time.monotonic()
            await self._in_thread(self._full_pass)
            await self._rest(min(_LONGEST_S, max(_PERIOD_S, _SHARE * (time.monotonic() - started))))

    async def _rest(self, seconds: float) -> None:
        """Wait; meanwhile, what takes too long to answer is ended, and what waits its turn is asked."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            asking = self._traces.asking()
            await asyncio.sleep(min(left, _TICK_S) if asking else left)
            if asking:
                await self._in_thread(lambda: self._traces.awaited(()))

    def close(self) -> None:
        """Wait for what is being done; afterwards nothing touches the machine any more."""
        self._work.shutdown(wait=True, cancel_futures=True)
        self._traces.close()

    def _full_pass(self) -> None:
        wanted = {ns for o in self._want() for ns in o.slivers}
        try:
            scope = wanted | self._known()
            self._failures = {k: v for k, v in self._failures.items() if _concerns(k, scope)}  # of those that are gone
            ops, _ = self._pass(scope, lambda *_: None)
        except OSError:  # what we looked at went away in that moment; the next look comes soon
            log.exception("a look at the machine failed")
            return
        if ops:
            log.info("healed: %d steps", ops)

    def _known(self) -> set[str]:
        """Every sliver that there is a trace of, but for those of which we can't tell what is wanted."""
        return {ns for ns in self._traces.namespaces() if ns.partition(".")[0] not in self._ledger.unreadable}

    def _pass(self, scope: Collection[str], progress: Progress) -> tuple[int, frozenset[AnyObject]]:
        want = within(self._want(), scope)
        have = self._observe(want, scope)
        ops = plan(want, have)
        before = self._failures
        self._failures = {k: v for k, v in before.items() if not _concerns(k, scope)}
        failures = self._machine.apply(ops, progress)
        for key, why in failures.items():
            if before.get(key) != why:
                log.warning("%s: %s", " ".join(key), why)
        self._failures |= failures
        return len(ops), outcome(have, ops, failures)

    def _observe(self, want: frozenset[AnyObject], scope: Collection[str]) -> frozenset[AnyObject]:
        """Of a sliver that nobody wants any trace counts as its namespace: all the rest falls with that.
        One without a trace needs no look."""
        wanted = {ns for o in want for ns in o.slivers}
        traces = self._traces.namespaces()
        unwanted = (set(scope) - wanted) & traces
        return self._machine.observe(wanted & traces).objects | {Netns(ns) for ns in unwanted}

    def _want(self) -> frozenset[AnyObject]:
        specs = [s.objects for s in self._ledger.specs.values()]
        return specs[0] if len(specs) == 1 else frozenset().union(*specs)

    def _failed_namespaces(self) -> set[str]:
        return {ns for o in self._want() if o.key in self._failures for ns in o.slivers} if self._failures else set()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._work, work)


def _concerns(key: Key, scope: Collection[str]) -> bool:
    return any(part in scope for part in key)
