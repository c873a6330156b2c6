"""Notices that wait to be sent: of which event, to whom, how often it was tried.  One that was sent is forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from sqlalchemy import delete, func, insert, select, update

from vini.rules.nouns import Event
from vini.store import counters, events
from vini.store.database import Tx
from vini.store.tables import events as events_table
from vini.store.tables import notices, persons, slice_members, slices

SETTLE_S = 10.0  # events of the last seconds may still come in out of order
MOST = 10_000  # that wait; what comes when there are more is sent to nobody
_AT_ONCE = 1000
_SEEN = "notices"  # a counter: 1 and the number of the newest event that was looked at; 0: none was ever


class Waiting(NamedTuple):
    """One notice; `tries` counts this one."""

    id: int
    channel: str
    address: str
    tries: int
    event: Event | None  # None: it was forgotten meanwhile


def queue(tx: Tx, now: float, of: Callable[[Event], Iterable[tuple[str, str]]]) -> int:
    """Have those told whom `of` names (channel and address) of events since the last call; how many notices that are.

    The first call ever only begins: nobody is told of what happened long ago.
    """
    seen = counters.add(tx, _SEEN, 0)  # ours until we commit: of two centrals one queues
    until = events.settled(tx, now - SETTLE_S)
    if seen == 0:
        counters.add(tx, _SEEN, until + 1)
        return 0
    some = [e for e in events.since(tx, seen - 1, limit=_AT_ONCE) if e.id <= until]
    if not some:
        return 0
    counters.add(tx, _SEEN, some[-1].id + 1 - seen)
    room = MOST - (tx.scalar(select(func.count()).select_from(notices)) or 0)
    rows = [{"event_id": e.id, "channel": c, "address": a, "tries": 0, "due": now} for e in some for c, a in of(e)]
    if rows[: max(0, room)]:
        tx.execute(insert(notices), rows[: max(0, room)])
    return len(rows)


def members(tx: Tx, slice_: str) -> list[str]:
    """The addresses of a slice's members whose accounts are enabled."""
    joined = slice_members.join(slices).join(persons)
    query = select(persons.c.email).select_from(joined).where(slices.c.name == slice_, persons.c.enabled)
    return list(tx.scalars(query.order_by(persons.c.email)))


def claim(tx: Tx, now: float, until: float, limit: int = 10) -> list[Waiting]:
    """Some that are due; they are nobody else's until that time."""
    due = select(notices.c.id).where(notices.c.due <= now).order_by(notices.c.due).limit(limit)
    mine = update(notices).where(notices.c.id.in_(due.with_for_update(skip_locked=True)))
    claimed = tx.execute(mine.values(due=until, tries=notices.c.tries + 1).returning(notices)).all()
    rows = tx.execute(select(events_table).where(events_table.c.id.in_({n.event_id for n in claimed}))).all()
    known = {row.id: Event(**row._mapping) for row in rows}
    return [Waiting(n.id, n.channel, n.address, n.tries, known.get(n.event_id)) for n in claimed]


def again(tx: Tx, number: int, at: float) -> None:
    """It failed, and is tried again then."""
    tx.execute(update(notices).where(notices.c.id == number).values(due=at))


def done(tx: Tx, number: int) -> None:
    """It was sent, or given up."""
    tx.execute(delete(notices).where(notices.c.id == number))
