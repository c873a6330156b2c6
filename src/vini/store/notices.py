"""Notices that wait to be sent: of which event, to whom, how often it was tried.  One that was sent is forgotten."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import delete, func, insert, select, update

from vini.rules.notices import shown
from vini.rules.nouns import Event
from vini.store import counters, events
from vini.store.database import Tx
from vini.store.tables import events as events_table
from vini.store.tables import notices, persons, slice_members, slices

SETTLE_S = 10.0  # events of the last seconds may still come in out of order
MOST = 10_000  # that wait in one lane; what comes when there are more is sent to nobody
_AT_ONCE = 1000
_KEPT_S = 30 * 86400.0  # what nobody has claimed for so long is of a lane that is no more
_SEEN = "notices"  # a counter: 1 and the number of the newest event that was looked at; 0: none was ever


class Lane(NamedTuple):
    """What waits for one server: all mails, or one webhook's."""

    channel: str
    address: str = ""

    def __str__(self) -> str:
        return shown(self.address) if self.address else "the mail server"


class Waiting(NamedTuple):
    """One notice; `tries` counts this one."""

    id: int
    channel: str
    address: str
    tries: int
    event: Event | None  # None: it was forgotten meanwhile


class Held(NamedTuple):
    """How many wait in a lane, and how often the one was tried that was tried most."""

    waiting: int = 0
    tries: int = 0


def _lane(channel: str, address: str) -> Lane:
    return Lane(channel, "" if channel == "mail" else address)


def held(tx: Tx) -> dict[Lane, Held]:
    """Of each lane in which some wait."""
    out: dict[Lane, Held] = {}
    query = select(notices.c.channel, notices.c.address, func.count(), func.max(notices.c.tries))
    for channel, address, count, tries in tx.execute(query.group_by(notices.c.channel, notices.c.address)):
        lane = _lane(channel, address)
        before = out.get(lane, Held())
        out[lane] = Held(before.waiting + count, max(before.tries, tries))
    return out


def queue(tx: Tx, now: float, of: Callable[[Event], Iterable[tuple[str, str]]]) -> dict[Lane, int]:
    """Have those told whom `of` names (channel and address) of events since the last call; for how many in each lane
    there was no room.

    The first call ever only begins: nobody is told of what happened long ago.
    """
    seen = counters.add(tx, _SEEN, 0)  # ours until we commit: of two centrals one queues
    until = events.settled(tx, now - SETTLE_S)
    if seen == 0:
        counters.add(tx, _SEEN, until + 1)
        return {}
    some = [e for e in events.since(tx, seen - 1, limit=_AT_ONCE) if e.id <= until]
    if not some:
        return {}
    counters.add(tx, _SEEN, some[-1].id + 1 - seen)
    tx.execute(delete(notices).where(notices.c.due < now - _KEPT_S))
    room = {lane: MOST - n.waiting for lane, n in held(tx).items()}
    lost: dict[Lane, int] = {}
    new = []
    for event, (channel, address) in ((e, to) for e in some for to in of(e)):
        lane = _lane(channel, address)
        room[lane] = room.get(lane, MOST) - 1
        if room[lane] < 0:
            lost[lane] = -room[lane]
        else:
            new.append((event.id, channel, address))
    add(tx, new, now)
    return lost


def add(tx: Tx, new: Sequence[tuple[int, str, str]], due: float) -> None:
    """Of each the event's number, the channel and the address."""
    rows = [{"event_id": e, "channel": c, "address": a, "tries": 0, "due": due} for e, c, a in new]
    if rows:
        tx.execute(insert(notices), rows)


def members(tx: Tx, slice_: str) -> list[str]:
    """The addresses of a slice's members whose accounts are enabled."""
    joined = slice_members.join(slices).join(persons)
    query = select(persons.c.email).select_from(joined).where(slices.c.name == slice_, persons.c.enabled)
    return list(tx.scalars(query.order_by(persons.c.email)))


def claim(tx: Tx, lane: Lane, now: float, until: float, latest: float, limit: int = 10) -> list[Waiting]:
    """Some of a lane that are due; they are nobody else's until that time.  What is due after `latest` was written by
    a clock that was wrong, and is due now."""
    mine = notices.c.channel == lane.channel
    if lane.address:
        mine &= notices.c.address == lane.address
    due = mine & ((notices.c.due <= now) | (notices.c.due > latest))
    some = select(notices.c.id).where(due).order_by(notices.c.due, notices.c.id).limit(limit)
    change = update(notices).where(notices.c.id.in_(some.with_for_update(skip_locked=True)))
    claimed = tx.execute(change.values(due=until, tries=notices.c.tries + 1).returning(notices)).all()
    rows = tx.execute(select(events_table).where(events_table.c.id.in_({n.event_id for n in claimed}))).all()
    known = {row.id: Event(**row._mapping) for row in rows}
    ordered = sorted(claimed, key=lambda n: n.id)
    return [Waiting(n.id, n.channel, n.address, n.tries, known.get(n.event_id)) for n in ordered]


def again(tx: Tx, number: int, at: float) -> None:
    """It failed, and is tried again then."""
    tx.execute(update(notices).where(notices.c.id == number).values(due=at))


def put_back(tx: Tx, numbers: Collection[int], at: float) -> None:
    """These were claimed and not tried; they are due then."""
    mine = notices.c.id.in_(list(numbers))
    tx.execute(update(notices).where(mine).values(due=at, tries=notices.c.tries - 1))


def done(tx: Tx, number: int) -> None:
    """It was sent, or given up."""
    tx.execute(delete(notices).where(notices.c.id == number))
