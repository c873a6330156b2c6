"""Notices that wait to be sent: of which event, to whom, how often it was tried.  One that was sent is forgotten."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable
from math import inf
from typing import NamedTuple

from sqlalchemy import delete, func, insert, select, update

from vini.rules.notices import OLD_S, shown
from vini.rules.nouns import Event
from vini.store import chain, counters, events
from vini.store.database import Tx
from vini.store.tables import events as events_table
from vini.store.tables import notices, persons, slice_members, slices

MOST = 10_000  # that wait in one lane; what comes when there are more is sent to nobody
_AT_ONCE = 1000
_KEPT_S = 30 * 86400.0  # what nobody has claimed for so long is of a lane that is no more
_ALL = (
    "notices"  # a counter: its row is whose turn it is; versions before had there 1 and the number of the event up to
)
# which all was looked at


class Lane(NamedTuple):
    """What waits for one server: all mails, or one webhook's."""

    channel: str
    address: str = ""

    def __str__(self) -> str:
        return shown(self.address) if self.address else "the mail server"


class Topic(NamedTuple):
    """What a lane tells of: events of which a pattern speaks.  Each central has its own, by its settings; of those that
    have the same one, one looks at each event."""

    lane: Lane
    pattern: str

    @property
    def counter(self) -> str:
        """1 and the place in the chain of events up to which was looked; 0: it never was."""
        return f"notices {hashlib.sha256(chr(0).join((*self.lane, self.pattern)).encode()).hexdigest()[:32]}"


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


def behind(tx: Tx, topics: Collection[Topic]) -> list[Topic]:
    """Those for which there are events that nobody has looked at."""
    length, *seen = counters.values(tx, chain.LENGTH, *(topic.counter for topic in topics))
    return [topic for topic, n in zip(topics, seen, strict=True) if n != length + 1]


def queue(
    tx: Tx,
    topics: Collection[Topic],
    now: float,
    at_least: float,
    of: Callable[[Topic, Event], Iterable[str]],
    sure: bool = True,
) -> dict[Lane, int]:
    """Have those told whom `of` names (addresses) of events since each topic was looked at last, but of none that is
    older than what waits may get; for how many in each lane there was no room.  What is due is so by the clock that
    says `now`; how old it is counts from `at_least`, which is the time at least, whose clock ever is wrong.  While
    nobody is `sure` of that, a topic waits that has events which seem as old.

    Who looks at a topic for the first time only begins: nobody is told of what happened long ago.
    """
    before = counters.add(tx, _ALL, 0)  # ours until we commit: of two centrals one queues
    if sure:
        tx.execute(delete(notices).where(notices.c.due < at_least - _KEPT_S))
    begin = events.place(tx, before - 1) if before else chain.length(tx)
    lost: dict[Lane, int] = {}
    for topic in topics:
        seen = counters.value(tx, topic.counter)
        oldest = at_least - OLD_S
        found = events.since(tx, seen - 1 if seen else begin, limit=_AT_ONCE, at_least=oldest if sure else -inf)
        if any(event.at < oldest for event in found.events):
            before = 0  # it begins there the next time
            continue
        counters.add(tx, topic.counter, found.until + 1 - seen)
        new = [(event.id, to) for event in found.events for to in of(topic, event)]
        if excess := _add(tx, topic.lane, new, now):
            lost[topic.lane] = lost.get(topic.lane, 0) + excess
    if before:  # each topic of ours has a counter of its own now
        counters.add(tx, _ALL, -before)
    return lost


def _add(tx: Tx, lane: Lane, new: list[tuple[int, str]], now: float) -> int:
    """Of each the event's number and the address; how many had no room."""
    room = max(0, MOST - held(tx).get(lane, Held()).waiting) if new else 0
    rows = [{"event_id": e, "channel": lane.channel, "address": a, "tries": 0, "due": now} for e, a in new[:room]]
    if rows:
        tx.execute(insert(notices), rows)
    return len(new) - len(rows)


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
