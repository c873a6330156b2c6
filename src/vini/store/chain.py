"""The chain of a central's events: nobody can change, leave out or put in one afterwards without its being seen.

Links (`hashchain`) are made as the last thing of the transaction that adds the events, so that whoever waits for the
chain's end waits for a commit and for nothing else; and two centrals on one database take turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select

from vini.store import counters
from vini.store.database import Tx
from vini.store.hashchain import START, Head, Kept, Link, Verdict, follow, linked, links
from vini.store.tables import event_chain, events

__all__ = ["LENGTH", "START", "Head", "Verdict", "check", "forget", "length", "linked", "place", "seal"]

LENGTH, _FORGOTTEN = "event chain", "event chain forgotten"  # counters: places given, and places no longer kept
_PAGE = 5000
_HASH = select(event_chain.c.hash).where(event_chain.c.place == bindparam("at"))
_LINK = insert(event_chain)


def seal(tx: Tx, new: Sequence[Sequence[Any]]) -> None:
    """Put new events of this transaction, each its columns in their order, at the chain's end; from here to its commit
    nobody else adds one."""
    place = counters.add(tx, LENGTH, len(new)) - len(new)
    made = links(new, _head(tx, place))
    tx.execute(_LINK, [{"place": at, "event_id": number, "hash": digest} for at, number, digest in made])


def length(tx: Tx) -> int:
    """The last place that was given by a transaction that has ended: later ones only give higher places."""
    return counters.value(tx, LENGTH)


def place(tx: Tx, event_id: int) -> int:
    """Of an event; of a number that none has (any more), the place before those that are numbered higher."""
    found = tx.scalar(select(event_chain.c.place).where(event_chain.c.event_id == event_id))
    if found is None:
        higher = tx.scalar(select(func.min(event_chain.c.place)).where(event_chain.c.event_id > event_id))
        found = length(tx) if higher is None else higher - 1
    return int(found)


def forget(tx: Tx, before: float) -> int:
    """Take away the oldest events, up to the first that is not older than that; how many.

    The last link of them stays, as what the oldest that is kept refers to.
    """
    done = counters.add(tx, _FORGOTTEN, 0)  # ours until we commit
    kept = select(func.min(event_chain.c.place)).join(events, events.c.id == event_chain.c.event_id)
    first = tx.scalar(kept.where(events.c.at >= before))
    last = first - 1 if first else counters.value(tx, LENGTH)
    if last <= done:
        return 0
    gone = select(event_chain.c.event_id).where(event_chain.c.place <= last)
    count = tx.execute(delete(events).where(events.c.id.in_(gone))).rowcount
    tx.execute(delete(event_chain).where(event_chain.c.place < last))
    counters.add(tx, _FORGOTTEN, last - done)
    return count


def check(tx: Tx, once: Head | None = None) -> Verdict:
    """Follow the whole chain; with `once` also whether what was its head once is still in it."""
    forgotten = counters.value(tx, _FORGOTTEN)
    alien = tx.scalar(select(func.min(events.c.id)).where(events.c.id.not_in(select(event_chain.c.event_id))))
    return follow(Kept(_head(tx, forgotten), _pages(tx, forgotten), counters.value(tx, LENGTH), alien), once)


def _head(tx: Tx, place: int) -> Head:
    """With the hash "" where that link is gone."""
    if place == 0:
        return Head(0, START)
    return Head(place, tx.scalar(_HASH, {"at": place}) or "")


def _pages(tx: Tx, after: int) -> Iterator[Link]:
    both = event_chain.outerjoin(events, events.c.id == event_chain.c.event_id)
    query = select(event_chain, *events.c).select_from(both).order_by(event_chain.c.place).limit(_PAGE)
    while rows := tx.execute(query.where(event_chain.c.place > after)).all():
        yield from (Link(row[0], row[1], row[2], None if row.id is None else row[3:]) for row in rows)
        after = rows[-1].place
