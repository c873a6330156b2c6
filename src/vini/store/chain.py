"""The chain of events: nobody can change, leave out or put in one afterwards without its being seen.

Each event has a link: its place in the chain, and the SHA-256 of the link before it and of what the event says.  Links
are made as the last thing of the transaction that adds the events, so that whoever waits for the chain's end waits for
a commit and for nothing else; and two centrals on one database take turns.  Who can write the database can also make
the whole chain anew: so its head is kept elsewhere (`vini central audit` prints it), and compared later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Row, bindparam, delete, func, insert, select

from vini.store import counters
from vini.store.database import Tx
from vini.store.tables import event_chain, events

_LENGTH, _FORGOTTEN = "event chain", "event chain forgotten"  # counters: places given, and places no longer kept
_PAGE = 5000
_HASH = select(event_chain.c.hash).where(event_chain.c.place == bindparam("at"))
_LINK = insert(event_chain)
START = "0" * 64  # what the first link says of the one before it


class Head(NamedTuple):
    """A place in the chain and the hash there; written as `PLACE:HASH`."""

    place: int
    hash: str

    def __str__(self) -> str:
        return f"{self.place}:{self.hash}"


class Verdict(NamedTuple):
    """What a check of the whole chain found; with `broken` "" it is whole up to `head`."""

    events: int  # that were checked
    head: Head
    broken: str = ""  # the first thing that is wrong, as a sentence


def linked(before: str, event: Iterable[Any]) -> str:
    """The hash of an event's link: SHA-256 of the hash before it and of the event's columns in their order, as JSON."""
    number, at, *rest, duration_s = event
    content = msgspec.json.encode([before, number, float(at), *rest, float(duration_s)])
    return hashlib.sha256(content).hexdigest()


def seal(tx: Tx, new: Sequence[Sequence[Any]]) -> None:
    """Put new events of this transaction, each its columns in their order, at the chain's end; from here to its commit
    nobody else adds one."""
    place = counters.add(tx, _LENGTH, len(new)) - len(new)
    tx.execute(_LINK, list(_links(new, _head(tx, place))))


def forget(tx: Tx, before: float) -> int:
    """Take away the oldest events, up to the first that is not older than that; how many.

    The last link of them stays, as what the oldest that is kept refers to.
    """
    done = counters.add(tx, _FORGOTTEN, 0)  # ours until we commit
    kept = select(func.min(event_chain.c.place)).join(events, events.c.id == event_chain.c.event_id)
    first = tx.scalar(kept.where(events.c.at >= before))
    last = first - 1 if first else counters.value(tx, _LENGTH)
    if last <= done:
        return 0
    gone = select(event_chain.c.event_id).where(event_chain.c.place <= last)
    count = tx.execute(delete(events).where(events.c.id.in_(gone))).rowcount
    tx.execute(delete(event_chain).where(event_chain.c.place < last))
    counters.add(tx, _FORGOTTEN, last - done)
    return count


def check(tx: Tx, kept: Head | None = None) -> Verdict:
    """Follow the whole chain; with `kept` also whether what was its head once is still in it."""
    forgotten = counters.value(tx, _FORGOTTEN)
    head, count = Head(0, START), 0
    if forgotten:
        head = _head(tx, forgotten)
        if not head.hash:
            return Verdict(0, head, f"Link {forgotten}, to which the oldest event refers, is missing.")
    if kept and kept.place < forgotten:
        return Verdict(0, head, f"Events up to place {forgotten} are not kept any more; compare with a newer head.")
    for row in _pages(tx, forgotten):
        if why := _wrong(head, row):
            return Verdict(count, head, why)
        head, count = Head(row.place, row.hash), count + 1
        if kept and kept.place == head.place and kept.hash != head.hash:
            return Verdict(count, head, f"The chain was made anew: at place {kept.place} it had another hash once.")
    return Verdict(count, head, _loose(tx, head, kept))


def _head(tx: Tx, place: int) -> Head:
    if place == 0:
        return Head(0, START)
    return Head(place, tx.scalar(_HASH, {"at": place}) or "")


def _links(new: Iterable[Sequence[Any]], head: Head) -> Iterator[dict[str, object]]:
    for event in new:
        head = Head(head.place + 1, linked(head.hash, event))
        yield {"place": head.place, "event_id": event[0], "hash": head.hash}


def _pages(tx: Tx, after: int) -> Iterator[Row[Any]]:
    """Links, each with its event's columns; None in these where that is gone."""
    both = event_chain.outerjoin(events, events.c.id == event_chain.c.event_id)
    query = select(event_chain, *events.c).select_from(both).order_by(event_chain.c.place).limit(_PAGE)
    while rows := tx.execute(query.where(event_chain.c.place > after)).all():
        yield from rows
        after = rows[-1].place


def _wrong(head: Head, row: Row[Any]) -> str:
    """Why this link is none after that one; "" where it is."""
    if row.place != head.place + 1:
        return f"Links {head.place + 1} to {row.place - 1} are missing, before event {row.event_id}."
    if row.id is None:
        return f"Event {row.event_id}, at place {row.place}, was taken out."
    if row.hash != linked(head.hash, row[3:]):
        return f"Event {row.event_id}, at place {row.place}, or its link, was changed."
    return ""


def _loose(tx: Tx, head: Head, kept: Head | None) -> str:
    """What is wrong beyond the links; "" where nothing is."""
    length = counters.value(tx, _LENGTH)
    if length != head.place:
        return f"The chain ends at place {head.place}, but {length} events were put into it: the newest are missing."
    if kept and kept.place > head.place:
        return f"The chain ends at place {head.place}, before the head that you kept: the newest events are missing."
    alien = tx.scalar(select(func.min(events.c.id)).where(events.c.id.not_in(select(event_chain.c.event_id))))
    return f"Event {alien} was put in by hand: it is not in the chain." if alien is not None else ""
