"""A slice as a caller may see it, what was asked of it, and what its nodes hold."""

from __future__ import annotations

from vini.model import NotFound, SliceSpec, Topology, ViniError
from vini.rules import access
from vini.rules.caller import Caller
from vini.rules.leases import moment
from vini.rules.nouns import SliceRow
from vini.store import last_members, slices, specs
from vini.store.database import Database, Tx


def seen(tx: Tx, caller: Caller, name: str, lock: bool = False) -> SliceRow:
    """Raises NotFound where it is not there, or he may not know that it is."""
    try:
        row = slices.get(tx, name, lock)
    except NotFound as e:
        ended = last_members.ended(tx, name, caller.email)
        if ended is None:
            raise
        raise NotFound(
            f"Slice {name!r}, of which you were a member, ended at {moment(ended)}: its time was over, and nobody had "
            "renewed it. A PI of its site may create it anew."
        ) from e
    access.seen(caller, access.of_slice(row))  # also where he was a member of one before that had its name
    return row


def asked_before(row: SliceRow) -> Topology:
    """What was asked for until now; nothing, where another version stored it that we can't read."""
    try:
        return row.topology
    except ViniError:
        return Topology(row.name)


def held(database: Database, caller: Caller, name: str, action: str, sliver: str = "") -> dict[str, SliceSpec]:
    """Node -> the spec of it, of those that hold something of the slice.  Of a `sliver` he must be allowed it."""
    with database.reading() as tx:
        row = seen(tx, caller, name)
        access.may(caller, action, access.of_sliver(row, sliver) if sliver else access.of_slice(row))
        return {n: s for n, s in specs.of_slice(tx, name).items() if s.objects}
