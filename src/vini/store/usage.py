"""What slices used: one row for each slice, node and day, with all that its slivers used there on that day."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Double, Select, and_, cast, func, literal, or_, select, true
from sqlalchemy import delete as delete_rows
from sqlalchemy.dialects import postgresql, sqlite

from vini.model import Value
from vini.rules.caller import Caller
from vini.rules.nouns import UsageRow
from vini.rules.usage import Wanted, day_of, row_of, text_of, told
from vini.rules.words import SLICE, WORD, site_of
from vini.store import slices
from vini.store.database import Tx
from vini.store.page import MOST, matches
from vini.store.tables import ended, specs, usage
from vini.store.tables import nodes as nodes_table
from vini.store.tables import slices as slices_table
from vini.usage import DAY_S, FIELDS, SliceUse, Use, plus, total

log = logging.getLogger("vini.central")
KEPT_DAYS = 400
_BELIEVED_DAYS = 40  # a node keeps fewer
_LOT = 2000  # rows that are written at once
_MOST_SLIVERS, _MOST_LETTERS, _LONGEST_SLICE = 10_000, 64, 40
_MOST_BYTES, _ROW_BYTES = 1 << 20, 300  # the most of one node and day: of ten thousand slivers
_BELIEVED = 1 << 53  # more of anything no node has in a day
_MOST_COUNTED = (1 << 63) - 1
_KEYS = ("node", "day", "slice")
Told = tuple[str, SliceUse]  # node, and what it says
Place = tuple[str, str]  # in a list: a day and a name


class Body(Value, frozen=True, forbid_unknown_fields=False):
    """What slivers used on one node in one day."""

    book: str
    uses: dict[str, Use]  # by that book
    before: dict[str, Use] = {}  # by books that were lost since


class _Body(NamedTuple):
    person: str
    body: Body


class _Slice(NamedTuple):
    """Who has, or had, a name."""

    creator: str | None  # None: there is no such slice now
    created: float
    before: str | None  # who was responsible for one of its name that ended; None: there was none

    def person(self, day: int) -> str | None:
        """Who was responsible on that day; None: there was no such slice."""
        is_later = self.creator is None or self.created >= (day + 1) * DAY_S
        return self.before if is_later and self.before is not None else self.creator

    def had_ended(self, day: int) -> bool:
        """Whether on that day there may have been one that ended: where that was nobody knows any more."""
        return self.before is not None and (self.creator is None or self.created >= day * DAY_S)


# --- what nodes tell --------------------------------------------------------------------------


def until(tx: Tx, nodes: Collection[str]) -> dict[str, int]:
    """Node -> the newest day that it told of; that one was not over then."""
    query = select(usage.c.node, func.max(usage.c.day)).where(usage.c.node.in_(nodes)).group_by(usage.c.node)
    return {str(node): int(day) for node, day in tx.execute(query)}


def note(tx: Tx, said: Sequence[Told], now: float) -> None:
    """Write down what nodes tell, in place of what the same books told before.  What makes no sense is left out, and
    what is of slices that there never were, or that were never on that node; and what is more than a node can have."""
    today = int(now) // DAY_S
    found = {(node, row.day, row.slice): row for node, row in said if _is_sound(row, today)}
    keys = sorted(found)
    for lot in (keys[i : i + _LOT] for i in range(0, len(keys), _LOT)):
        _note(tx, {key: found[key] for key in lot})


def _is_sound(row: SliceUse, today: int) -> bool:
    return (
        today - _BELIEVED_DAYS <= row.day <= today + 1
        and len(row.slice) <= _LONGEST_SLICE
        and re.fullmatch(SLICE, row.slice) is not None
        and len(row.book) <= _MOST_LETTERS
        and row.book.isalnum()
        and len(row.slivers) <= _MOST_SLIVERS
        and all(re.fullmatch(WORD, name) for name in row.slivers)
        and all(getattr(use, field) >= 0 for use in row.slivers.values() for field in FIELDS)
        and all(n < _BELIEVED for n in _counted(total(row.slivers.values())))
    )


def _note(tx: Tx, found: Mapping[tuple[str, int, str], SliceUse]) -> None:
    nodes, days, names = (set(column) for column in zip(*found, strict=True))
    people = _people(tx, names)
    before = _there(tx, nodes, days, names)
    places = _places(tx, nodes, names, min(days))
    held = _held(tx, nodes, days)
    rows, refused = [], set()
    for key, row in found.items():
        node, day, name = key
        old, of = before.get(key), people.get(name)
        person = old.person if old else of.person(day) if of else None
        if person is None or not (old or (node, name) in places or (of and of.had_ended(day))):
            continue
        made = _with(old.body if old else None, row)
        if old == _Body(person, made):
            continue
        new = _row(key, person, made)
        size = held.get((node, day), 0) + _size(new) - (_size(_row(key, person, old.body)) if old else 0)
        if size > _MOST_BYTES:
            refused.add(node)
            continue
        held[node, day] = size
        rows.append(new)
    for node in refused:
        log.warning(
            "node %s tells of more slivers in one day than a node can have; what is beyond %d KiB is not written down: "
            "look what it runs", node, _MOST_BYTES >> 10,
        )  # fmt: skip
    if rows:
        of = (sqlite if tx.dialect.name == "sqlite" else postgresql).insert(usage)
        changed = {c.name: c for c in of.excluded if c.name not in _KEYS}
        tx.execute(of.on_conflict_do_update(index_elements=_KEYS, set_=changed), rows)


def _people(tx: Tx, names: Collection[str]) -> dict[str, _Slice]:
    """Who is responsible for a slice, or was until it ended."""
    gone = dict(tx.execute(select(ended.c.name, ended.c.person).where(ended.c.name.in_(names))).all())
    there = select(slices_table.c.name, slices_table.c.creator, slices_table.c.created)
    found = tx.execute(there.where(slices_table.c.name.in_(names)))
    now = {name: _Slice(creator, created, gone.get(name)) for name, creator, created in found}
    return {name: _Slice(None, 0.0, person) for name, person in gone.items()} | now


def _places(tx: Tx, nodes: Collection[str], names: Collection[str], since: int) -> set[tuple[str, str]]:
    """Node and slice, of those that are on the node, or were when it told of them."""
    asked = select(nodes_table.c.name, specs.c.slice).join(specs, specs.c.node_id == nodes_table.c.id)
    asked = asked.where(nodes_table.c.name.in_(nodes), specs.c.slice.in_(names))
    told_of = select(usage.c.node, usage.c.slice).distinct()
    told_of = told_of.where(usage.c.slice.in_(names), usage.c.day >= since - 1, usage.c.node.in_(nodes))
    return {(str(node), str(name)) for query in (asked, told_of) for node, name in tx.execute(query)}


def _held(tx: Tx, nodes: Collection[str], days: Collection[int]) -> dict[tuple[str, int], int]:
    """Node and day -> about how many bytes are written down of it."""
    size = func.sum(func.length(usage.c.slivers) + _ROW_BYTES)
    query = select(usage.c.node, usage.c.day, size).where(usage.c.node.in_(nodes), usage.c.day.in_(days))
    return {(node, day): int(held) for node, day, held in tx.execute(query.group_by(usage.c.node, usage.c.day))}


def _size(row: Mapping[str, Any]) -> int:
    return len(row["slivers"]) + _ROW_BYTES


def _there(
    tx: Tx, nodes: Collection[str], days: Collection[int], names: Collection[str]
) -> dict[tuple[str, int, str], _Body]:
    query = select(usage.c.node, usage.c.day, usage.c.slice, usage.c.person, usage.c.slivers)
    query = query.where(usage.c.node.in_(nodes), usage.c.day.in_(days), usage.c.slice.in_(names))
    return {(node, day, name): _Body(person, _read(body)) for node, day, name, person, body in tx.execute(query)}


def _read(body: bytes) -> Body:
    """Nothing of what another version wrote."""
    try:
        return msgspec.msgpack.decode(body, type=Body)
    except msgspec.DecodeError:
        return Body("", {})


def _with(old: Body | None, row: SliceUse) -> Body:
    """A book that begins anew knows nothing of what the one before counted."""
    if old is None:
        return Body(row.book, row.slivers)
    if old.book == row.book:
        return Body(row.book, row.slivers, old.before)
    return Body(row.book, row.slivers, _merged(old))


def _merged(body: Body) -> dict[str, Use]:
    """By all books; of one that is lost again and again no more than a database can hold."""
    names = sorted(body.uses.keys() | body.before.keys())[:_MOST_SLIVERS]
    both = {name: plus(body.uses.get(name, Use()), body.before.get(name, Use())) for name in names}
    return {name: Use(*(min(n, _BELIEVED) for n in _counted(use))) for name, use in both.items()}


def _counted(use: Use) -> list[int]:
    return [getattr(use, field) for field in FIELDS]


def _row(key: tuple[str, int, str], person: str, body: Body) -> dict[str, Any]:
    sums = _counted(total((*body.uses.values(), *body.before.values())))
    return {
        **dict(zip(_KEYS, key, strict=True)), "site": site_of(key[2]), "person": person,
        **{field: min(n, _MOST_COUNTED) for field, n in zip(FIELDS, sums, strict=True)},
        "slivers": msgspec.msgpack.encode(body),
    }  # fmt: skip


def forget(tx: Tx, now: float) -> None:
    """What is older than is kept."""
    tx.execute(delete_rows(usage).where(usage.c.day < int(now) // DAY_S - KEPT_DAYS))


# --- what is asked ----------------------------------------------------------------------------


def some(tx: Tx, wanted: Wanted, after: str, limit: int, caller: Caller) -> tuple[list[UsageRow], str]:
    """One page of what the caller may see, by day (where that is wanted) and name, and the cursor of the next."""
    limit = min(limit, MOST)
    ask = _slivers if wanted.of.per == "sliver" else _sums
    rows = ask(tx, wanted, caller, told(after) if after else ("", ""), limit + 1)
    return rows[:limit], f"{rows[limit - 1].day}/{rows[limit - 1].name}" if len(rows) > limit else ""


def _sums(tx: Tx, wanted: Wanted, caller: Caller, after: Place, limit: int) -> list[UsageRow]:
    name = usage.c[wanted.of.per]
    day = usage.c.day if wanted.of.daily else literal(-1)
    of_slice = wanted.of.per == "slice"
    query: Select[Any] = select(
        name, day, *((func.max(c) if of_slice else literal("")) for c in (usage.c.site, usage.c.person)),
        func.count(usage.c.node.distinct()), *(_sum(field) for field in FIELDS),
    )  # fmt: skip
    query = _where(query, wanted, caller)
    if after[1]:
        behind = day_of(after[0]) if wanted.of.daily else -1
        in_order = or_(day > behind, and_(day == behind, name > after[1]))
        query = query.where(in_order if wanted.of.daily else name > after[1])
    keys = (usage.c.day, name) if wanted.of.daily else (name,)
    return [
        row_of(str(of), text_of(at) if wanted.of.daily else "", site, person, nodes, Use(*map(int, sums)))
        for of, at, site, person, nodes, *sums in tx.execute(query.group_by(*keys).order_by(*keys).limit(limit))
    ]


def _sum(field: str) -> ColumnElement[Any]:
    """As floating point: 64 bits would not hold what a large testbed used in a year."""
    column = usage.c[field]
    return func.max(column) if field.endswith("_most") else func.sum(cast(column, Double))


def _slivers(tx: Tx, wanted: Wanted, caller: Caller, after: Place, limit: int) -> list[UsageRow]:
    query = select(usage.c.day, usage.c.node, usage.c.slice, usage.c.site, usage.c.person, usage.c.slivers)
    used: dict[tuple[str, str], tuple[str, str, set[str], Use]] = {}
    for day, node, slice_, site, person, body in tx.execute(_where(query, wanted, caller)):
        for sliver, use in _merged(_read(body)).items():
            key = (text_of(day) if wanted.of.daily else "", f"{slice_}/{sliver}")
            _, _, nodes, before = used.get(key, ("", "", set(), Use()))
            used[key] = site, person, nodes | {node}, plus(before, use)
    return [
        row_of(name, day, site, person, len(nodes), use)
        for (day, name), (site, person, nodes, use) in sorted(used.items())
        if (day, name) > after
    ][:limit]


def _where(query: Select[Any], wanted: Wanted, caller: Caller) -> Select[Any]:
    return query.where(
        usage.c.day.between(wanted.first, wanted.last),
        matches(usage.c.slice, wanted.of.slice), matches(usage.c.site, wanted.of.site),
        matches(usage.c.person, wanted.of.person), matches(usage.c.node, wanted.of.node), _seen_by(caller),
    )  # fmt: skip


def _seen_by(caller: Caller) -> ColumnElement[bool]:
    """What slices used that he may see, or was responsible for, or that were of his site; not what one of the same
    name used before he could."""
    if caller.is_admin:
        return true()
    visible = slices.visible(caller)
    lived = slices_table.c.created < (usage.c.day + 1) * DAY_S
    lives = visible.where(slices_table.c.name == usage.c.slice, lived).correlate(usage).exists()
    return or_(
        and_(usage.c.slice.in_(visible), lives), usage.c.site.in_(caller.sites("pi", "tech")),
        usage.c.person == caller.email,
    )  # fmt: skip
