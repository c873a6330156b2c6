"""What a central does with slices: authorise, embed over the nodes, store, and tell the nodes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from vini import bus
from vini.bus import Bus
from vini.central.embedding import Embedding, grant_of
from vini.central.inside import Inside
from vini.central.looks import Looks
from vini.central.outside import OutsideGrants
from vini.central.slice_rows import asked_before, seen
from vini.central.uptake import Change, Uptake
from vini.edit import lived_on
from vini.model import Conflict, NotFound, SliceSpec, Topology, Value, ViniError
from vini.plan import plan
from vini.plugins.tunnels import TunnelKind
from vini.reach import is_renamed
from vini.rules import access, outside
from vini.rules.caller import Caller
from vini.rules.errors import Invalid
from vini.rules.leases import moment
from vini.rules.nouns import NodeRow
from vini.store import events, nodes, slices, specs, takings
from vini.store.database import Database


class Asked(Value, frozen=True):
    """A slice's desired state, and which one it is."""

    generation: int
    topology: Topology


class Testbed:
    """Slices over nodes.  What touches the database runs in a thread; no transaction is open while nodes are asked."""

    def __init__(
        self, database: Database, talk: Bus, clock: Callable[[], float] = time.time, tunnel: TunnelKind = "vxlan",
        strangers: bool = False,
    ):  # fmt: skip
        """`tunnel`: what links between nodes are made of, in slices that don't say.  `strangers`: its people don't know
        each other, so slices may not ask for everything (`rules.strangers`)."""
        self._database, self._bus, self._clock = database, talk, clock
        self._embedding = Embedding(clock, tunnel, strangers)
        self._uptake = Uptake(database, talk)
        self.grants = OutsideGrants(database, talk, clock, self._embedding)
        self.looks = Looks(database, talk, clock)
        self.inside = Inside(database, talk)

    def topologies(self, caller: Caller) -> dict[str, Topology]:
        """Of all slices that he may see and that have something in them, but for those that another version stored."""
        with self._database.reading() as tx:
            rows = [row for row in slices.all(tx) if access.allows(caller, "see slice", access.of_slice(row))]
        return {row.name: topology for row in rows if (topology := asked_before(row)).slivers}

    def asked(self, caller: Caller, name: str) -> Asked:
        """What is asked of a slice now.  NotFound where it has nothing, or he may not know."""
        with self._database.reading() as tx:
            row = seen(tx, caller, name)
        if not row.topology.slivers:
            raise NotFound(f"Slice {name!r} is not up; `vini up FILE --slice {name}` brings it up.")
        return Asked(row.generation, row.topology)

    async def put(
        self,
        caller: Caller,
        topology: Topology,
        what: str,
        after: int | None = None,
        wait_s: float = 0.0,
        at: float = 0.0,
    ) -> bus.Report:
        """Store a new desired state, tell its nodes, and return how it is there, after `wait_s` at the latest.

        With `after`, only on top of that generation: Conflict where somebody was faster.  With `at` (Unix time, s) the
        nodes act at that moment.
        """
        started = time.monotonic()
        change = await asyncio.to_thread(self._put, caller, topology, what, after, at, started)
        self._bus.wake(change.written)
        await self._uptake.taken(topology.name, change, started + wait_s, later=at > 0)
        rows = await asyncio.to_thread(self._uptake.last_heard, topology.name)
        return bus.Report(rows, len(change.nodes), time.monotonic() - started, topology.name, change.generation)

    def _put(
        self, caller: Caller, topology: Topology, what: str, after: int | None, at: float, started: float
    ) -> Change:
        """`started`: when it was asked for (monotonic, s); the event says how long it took until it is stored."""
        name, now = topology.name, self._clock()
        with self._database.transaction() as tx:
            if topology.slivers:
                takings.turn(tx)
            row = seen(tx, caller, name, lock=True)
            access.may(caller, "use slice", access.of_slice(row))
            if after is not None and after != row.generation:
                raise Conflict(f"Slice {name!r} is at generation {row.generation}, not {after}; look, and try again.")
            if at and 0 < row.expires <= at:
                raise Invalid(
                    f"Slice {name!r} ends at {moment(row.expires)}, before nodes would act; `vini slice renew {name}` "
                    "prolongs it."
                )
            before = asked_before(row)
            topology = lived_on(before, self._embedding.settled(topology))
            generation = slices.after(tx, row)
            held, lost = specs.known(tx, name)
            outside.refuse(topology, before, grant_of(tx, topology))
            wanted = self._embedding.embedded(tx, topology, generation, row, before, held, max(now, at))
            wanted = _at(at, wanted, nodes.all(tx)) if at else wanted
            renamed = _is_renamed(before, topology)
            written = slices.put_topology(tx, name, topology, wanted, now, generation, held, renamed)
            events.add(
                tx, at=now, who=caller.email, what=what, kind="slice", target=name, source=caller.source,
                detail=f"{generation}", duration_s=time.monotonic() - started,
            )  # fmt: skip
        return Change(generation, lost | frozenset(wanted) | {n for n, s in held.items() if s.objects}, written)

    async def foresee(self, caller: Caller, topology: Topology) -> list[str]:
        """What `put` would change, step by step, as far as is known from what is stored; nothing is touched."""
        return await asyncio.to_thread(self._foresee, caller, topology)

    def _foresee(self, caller: Caller, topology: Topology) -> list[str]:
        steps: list[str] = []
        try:
            with self._database.transaction() as tx:
                takings.turn(tx)
                row = seen(tx, caller, topology.name)
                access.may(caller, "use slice", access.of_slice(row))
                held, _ = specs.known(tx, topology.name)
                before = asked_before(row)
                topology = lived_on(before, self._embedding.settled(topology))
                outside.refuse(topology, before, grant_of(tx, topology))
                wanted = self._embedding.embedded(tx, topology, row.generation + 1, row, before, held, self._clock())
                for node in sorted({*held, *wanted}):
                    want = wanted[node].objects if node in wanted else frozenset()
                    have = held[node].objects if node in held else frozenset()
                    steps += [f"{node}: {op}" for op in plan(want, have)]
                raise _Undone
        except _Undone:
            return steps


def _is_renamed(before: Topology, now: Topology) -> bool:
    """Whether those who log in know its slivers by other names or addresses now."""
    try:
        return is_renamed(before, now)
    except ViniError:  # another version stored it, which took it
        return True


class _Undone(Exception):
    """Whatever the transaction did is not to be."""


def _at(at: float, wanted: dict[str, SliceSpec], rows: Iterable[NodeRow]) -> dict[str, SliceSpec]:
    """Each node acts by its own clock, so each is told the moment as its clock will show it."""
    ahead = {row.name: row.clock_offset_s for row in rows}
    return {n: replace(s, not_before=at + ahead.get(n, 0.0)) for n, s in wanted.items()}
