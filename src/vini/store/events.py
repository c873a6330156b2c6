"""Events: everything that was asked for, by whom, and with what result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, func, insert, select

from vini.rules.caller import Caller
from vini.rules.nouns import Event
from vini.store import chain, slices
from vini.store.database import Tx, at_last
from vini.store.page import MOST, matches, page
from vini.store.tables import events

__all__ = [
    "MOST",
    "PATH_BACK",
    "PATH_FAILED",
    "SLOWED",
    "UNSLOWED",
    "add",
    "failures",
    "forget",
    "newest",
    "of_slice",
    "settled",
    "since",
    "some",
]

PATH_FAILED, PATH_BACK = "path failed", "path back"  # what nodes say of links that mirror a path
SLOWED, UNSLOWED = "slowed", "slowed no more"  # and of slivers that sent what they may in a day
_HAPPENED = (PATH_FAILED, PATH_BACK, SLOWED, UNSLOWED)


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


def since(tx: Tx, number: int, caller: Caller | None = None, limit: int = 1000) -> Sequence[Event]:
    """Those after that number, the oldest first.

    Two transactions may end in another order than they were numbered: who follows looks a little further back.
    """
    rows, _ = page(tx, _wanted("", "", "", "", caller), events.c.id, number, limit)
    return [Event(**row._mapping) for row in rows]


def newest(tx: Tx) -> int:
    """The number of the newest; 0: there is none."""
    return tx.scalar(select(func.max(events.c.id))) or 0


def settled(tx: Tx, before: float) -> int:
    """The highest number of those that are older than that: nothing can come in below it any more."""
    return tx.scalar(select(func.max(events.c.id)).where(events.c.at < before)) or 0


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
    """His own, and those of slices that he may see."""
    return (events.c.who == caller.email) | ((events.c.kind == "slice") & events.c.target.in_(slices.visible(caller)))
