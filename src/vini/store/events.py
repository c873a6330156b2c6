"""Events: everything that was asked for, by whom, and with what result."""

from __future__ import annotations

from math import inf
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, func, insert, select

from vini.rules.caller import Caller
from vini.rules.notices import REMIND
from vini.rules.nouns import Event
from vini.store import chain, last_members, slices
from vini.store.database import Tx, at_last
from vini.store.page import MOST, matches, page
from vini.store.tables import event_chain, events

__all__ = [
    "MOST",
    "PATH_BACK",
    "PATH_FAILED",
    "SLOWED",
    "UNSLOWED",
    "add",
    "failures",
    "forget",
    "of_slice",
    "place",
    "since",
    "some",
]

PATH_FAILED, PATH_BACK = "path failed", "path back"  # what nodes say of links that mirror a path
SLOWED, UNSLOWED = "slowed", "slowed no more"  # and of slivers that sent what they may in a day
_HAPPENED = (PATH_FAILED, PATH_BACK, SLOWED, UNSLOWED, REMIND)


_ADD = insert(events).returning(events.c.id)


def add(
    tx: Tx,
    *,
    at: float,
    who: str,
    what: str,
    kind: str,
    target: str,
    source: str = "",
    result: str = "ok",
    detail: str = "",
    duration_s: float = 0.0,
) -> int:
    """Its number.  It gets its place in the chain when the transaction ends."""
    row = {
        "at": float(at), "who": who, "what": what, "kind": kind, "target": target, "source": source, "result": result,
        "detail": detail, "duration_s": float(duration_s),
    }  # fmt: skip
    number = int(tx.execute(_ADD, row).scalar_one())
    at_last(tx, chain.seal, (number, *row.values()))
    return number


def some(
    tx: Tx,
    after: int | None,
    limit: int,
    *,
    who: str = "",
    what: str = "",
    kind: str = "",
    target: str = "",
    caller: Caller | None = None,
) -> tuple[list[Event], bool]:
    """One page, the newest first, and whether more follow; with `caller` only what he may see."""
    query = _wanted(who, what, kind, target, caller)
    rows, more = page(tx, query, events.c.id, after, limit, newest_first=True)
    return [Event(**row._mapping) for row in rows], more


def of_slice(tx: Tx, name: str, limit: int, caller: Caller) -> list[Event]:
    """What was asked of a slice, and what happened to it on its nodes; the newest first."""
    is_asked = (events.c.detail != "") & (func.ltrim(events.c.detail, "0123456789") == "")  # its generation
    query = _wanted("", "", "slice", name, caller)
    query = query.where(events.c.result == "ok", events.c.what.in_(_HAPPENED) | is_asked)
    rows, _ = page(tx, query, events.c.id, None, limit, newest_first=True)
    return [Event(**row._mapping) for row in rows]


class Since(NamedTuple):
    """Events after a place of the chain, and the place that comes after them."""

    events: list[Event]
    until: int


def since(tx: Tx, place: int, caller: Caller | None = None, limit: int = MOST, at_least: float = -inf) -> Since:
    """Those after that place of the chain, in its order, and not older than that (Unix time, s).

    Places are given as transactions end, so whoever goes on from `until` misses none, whatever clocks say.
    """
    until = chain.length(tx)  # first: what has a place up to here can be seen by all that is asked from now on
    if until <= place:
        return Since([], until)
    query = _wanted("", "", "", "", caller).join(event_chain, event_chain.c.event_id == events.c.id)
    query = query.where(event_chain.c.place > place, event_chain.c.place <= until, events.c.at >= at_least)
    rows = tx.execute(query.add_columns(event_chain.c.place).order_by(event_chain.c.place).limit(limit)).all()
    if len(rows) == limit:
        until = rows[-1].place
    return Since([Event(*(getattr(row, f) for f in Event.__struct_fields__)) for row in rows], until)


def place(tx: Tx, number: int | None) -> int:
    """Of the event with that number in the chain, or where it would be; None: of the newest."""
    return chain.length(tx) if number is None else chain.place(tx, number)


def failures(tx: Tx, who: str, source: str, what: str, since_: float) -> int:
    """How often that was refused to him from there since then."""
    mine = (events.c.who == who) & (events.c.source == source) & (events.c.what == what)
    query = select(func.count()).select_from(events)
    return tx.scalar(query.where(mine, events.c.result != "ok", events.c.at >= since_)) or 0


def forget(tx: Tx, before: float) -> int:
    """Those of before that time; how many."""
    return chain.forget(tx, before)


def _wanted(who: str, what: str, kind: str, target: str, caller: Caller | None) -> Select[Any]:
    query = select(events).where(
        matches(events.c.who, who), matches(events.c.what, what), matches(events.c.kind, kind),
        matches(events.c.target, target),
    )  # fmt: skip
    return query if caller is None or caller.is_admin else query.where(_seen_by(caller))


def _seen_by(caller: Caller) -> ColumnElement[bool]:
    """His own, those of slices that he may see, and the ends of those that he was a member of."""
    ends = last_members.ends(caller.email)
    visible = (events.c.kind == "slice") & events.c.target.in_(slices.visible(caller))
    return (events.c.who == caller.email) | visible | events.c.id.in_(ends)
