"""What slices may do in the world: granted and taken away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from msgspec.structs import replace

from vini.bus import Bus
from vini.central.embedding import Embedding
from vini.central.slice_rows import seen
from vini.model import NotFound, Outside, OutsideGrant, SliceSpec
from vini.rules import access, outside
from vini.rules.caller import Caller
from vini.rules.nouns import SliceRow
from vini.store import events, slices, specs, takings
from vini.store import outside as grants
from vini.store.database import Database, Tx


class OutsideGrants:
    """To the slices of one testbed."""

    def __init__(self, database: Database, talk: Bus, clock: Callable[[], float], embedding: Embedding):
        self._database, self._bus, self._clock, self._embedding = database, talk, clock, embedding

    def granted(self, caller: Caller, name: str) -> OutsideGrant:
        """What the slice may do in the world.  NotFound where that is nothing."""
        with self._database.reading() as tx:
            seen(tx, caller, name)
            grant = grants.get(tx, name)
        if grant is None:
            raise NotFound(f"Slice {name!r} may do nothing in the world; an admin grants it with `vini outside grant`.")
        return grant

    async def grant(self, caller: Caller, name: str, grant: OutsideGrant | None) -> None:
        """From now on the slice may do that in the world; None: nothing.  Its nodes are told at once."""
        self._bus.wake(await asyncio.to_thread(self._grant, caller, name, grant))

    def _grant(self, caller: Caller, name: str, grant: OutsideGrant | None) -> frozenset[str]:
        """The nodes that have something to do.  What is taken away is taken away whatever else has become of the
        testbed: the slice is not placed anew for it."""
        now, started = self._clock(), time.monotonic()
        with self._database.transaction() as tx:
            takings.turn(tx)
            row = seen(tx, caller, name, lock=True)
            access.may(caller, "grant outside to slice", access.of_slice(row))
            if grant is not None:
                outside.check(grant)
            grants.put(tx, row.id, grant, caller.email, now)
            what = f"grant outside: {', '.join(grant.to)}" if grant else "revoke outside"
            told = self._let_out(tx, row, now) if grant else _shut_in(tx, name)
            generation = slices.generation(tx, name)
            events.add(
                tx, at=now, who=caller.email, what=what, kind="slice", target=name, source=caller.source,
                detail=f"{generation}", duration_s=time.monotonic() - started,
            )  # fmt: skip
        return told

    def _let_out(self, tx: Tx, row: SliceRow, now: float) -> frozenset[str]:
        """As far as its slivers ask for that; the nodes that have something to do."""
        name, topology = row.name, row.topology
        if not any(s.outside for s in topology.slivers.values()):
            return frozenset()
        held, generation = specs.of_slice(tx, name), slices.next_generation(tx, name)
        wanted = self._embedding.embedded(tx, topology, generation, row, topology, held, now)
        return slices.put_topology(tx, name, topology, wanted, now, generation, held, renamed=False)


def _shut_in(tx: Tx, name: str) -> frozenset[str]:
    """No sliver of it has a way to the world any more; the nodes that have something to do.

    Where another version stored what a node holds of it, it ends on that node: nothing can be taken out of what can't
    be read.
    """
    held, lost = specs.known(tx, name)
    if not lost and not any(isinstance(o, Outside) for s in held.values() for o in s.objects):
        return frozenset()
    generation = slices.next_generation(tx, name)
    wanted = {n: _without_outside(s, generation) for n, s in held.items() if s.objects}
    slices.change(tx, name, {"generation": generation})
    return specs.put(tx, name, generation, wanted, held=held)


def _without_outside(spec: SliceSpec, generation: int) -> SliceSpec:
    left = frozenset(o for o in spec.objects if not isinstance(o, Outside))
    return replace(spec, objects=left, generation=generation, not_before=0.0)
