"""Slices: whose they are, until when, and what is asked of them.  What nodes hold of them is in `specs`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import ColumnElement, Select, bindparam, case, func, insert, literal, or_, select, union_all, update
from sqlalchemy import delete as delete_rows

from vini import bandwidth, placement
from vini.model import Conflict, NotFound, SliceSpec, Stale, Topology
from vini.rules import expiry, quota
from vini.rules.access import absent
from vini.rules.caller import Caller
from vini.rules.errors import Invalid
from vini.rules.nouns import Slice, SliceRow, asked
from vini.rules.words import site_of
from vini.store import authorized, calendar, counters, crossings, members, sites, specs, takings, tunnels
from vini.store.database import Tx
from vini.store.page import AnyRow, matches, page
from vini.store.specs import (
    acknowledge,
    changed_since,
    generations_of_node,
    reports,
    spec,
    specs_of_node,
)
from vini.store.tables import ended, persons, slice_guests, slice_members, slices
from vini.store.tables import sites as sites_table

__all__ = [
    "acknowledge", "add", "all", "change", "changed_since", "delete", "expired", "generation",
    "generations_of_node", "get", "locked", "next_generation", "put_topology", "renew", "reports", "some", "spec",
    "specs_of_node", "topology", "visible",
]  # fmt: skip

_LEAP = 1 << 20  # more than a slice is changed between two backups
_AHEAD_S = 366 * 86400  # how far the clock may have been ahead when a backup was restored
_FLOOR = "generations"  # counter: what a slice that has nothing begins with is above it, too
_LIGHT = (*(c for c in slices.c if c.name not in ("site_id", "topology")), sites_table.c.login_base.label("site"))
_JOINED = slices.join(sites_table)
_GET = select(*_LIGHT, slices.c.topology.label("blob")).select_from(_JOINED).where(slices.c.name == bindparam("of"))
_GET_LOCKED = _GET.with_for_update(of=slices)
_AT = slices.c.name == bindparam("of")
_ASK = (
    update(slices)
    .where(_AT, slices.c.generation < bindparam("number"))
    .values(generation=bindparam("number"), updated=bindparam("at"), topology=bindparam("blob"))
    .returning(slices.c.id)
)


def add(tx: Tx, name: str, creator: str, now: float, description: str = "", url: str = "") -> SliceRow:
    """A slice without anything in it.  Raises Denied where its site may have no more, Conflict where there is one."""
    site = sites.get(tx, site_of(name), lock=True)
    if tx.scalar(select(slices.c.id).where(slices.c.name == name)):
        raise Conflict(f"There is a slice {name!r} already; take another name.")
    expiry.may_add(site.login_base, sites.slice_count(tx, site.id), site.max_slices)
    authorized.changed(tx)  # also where one of this name was there before, with other members
    before = tx.scalar(select(ended.c.generation).where(ended.c.name == name)) or 0
    tx.execute(
        insert(slices).values(
            name=name, site_id=site.id, description=description, url=url, creator=creator, created=now,
            expires=expiry.first(now), max_slivers=0, updated=now, generation=before, topology=b"",
        )
    )  # fmt: skip
    return get(tx, name)


def get(tx: Tx, name: str, lock: bool = False) -> SliceRow:
    """Raises NotFound.  With `lock` nobody else changes it until this transaction ends."""
    row = tx.execute(_GET_LOCKED if lock else _GET, {"of": name}).one_or_none()
    if row is None:
        raise NotFound(absent("slice", name))
    return _slices(tx, [row])[0]


def topology(tx: Tx, name: str) -> Topology:
    """What is asked of it.  Raises NotFound."""
    blob = tx.scalar(select(slices.c.topology).where(slices.c.name == name))
    if blob is None:
        raise NotFound(absent("slice", name))
    return asked(name, blob)


def all(tx: Tx) -> list[SliceRow]:
    """By name, with what is asked of them."""
    query = select(*_LIGHT, slices.c.topology.label("blob")).select_from(_JOINED).order_by(slices.c.name)
    return _slices(tx, tx.execute(query))


def some(
    tx: Tx,
    after: str | None,
    limit: int,
    name: str = "",
    site: str = "",
    member: str = "",
    caller: Caller | None = None,
) -> tuple[list[Slice], bool]:
    """One page by name, without topologies, and whether more follow; with `caller` only those that he may see."""
    query = select(*_LIGHT).select_from(_JOINED)
    query = query.where(matches(slices.c.name, name), matches(sites_table.c.login_base, site))
    if member:
        query = query.where(_has_member(member))
    if caller is not None and not caller.is_admin:
        query = query.where(_seen_by(caller))
    rows, more = page(tx, query, slices.c.name, after, limit)
    return [row.shown for row in _slices(tx, rows)], more


def visible(caller: Caller) -> Select[Any]:
    """The names of the slices that he may see, as a subquery."""
    query = select(slices.c.name).select_from(_JOINED)
    return query if caller.is_admin else query.where(_seen_by(caller))


def change(tx: Tx, name: str, values: dict[str, Any]) -> SliceRow:
    """Columns -> what they are from now on."""
    if values:
        tx.execute(update(slices).where(slices.c.name == name).values(values))
    return get(tx, name)


def renew(tx: Tx, name: str, now: float, until: float) -> SliceRow:
    """It lives until then, on its nodes too; on one that others have leased, until that begins.

    Raises Denied or Invalid where the rules are against it.
    """
    takings.turn(tx)
    row = get(tx, name, lock=True)
    site = sites.get(tx, row.site)
    until = expiry.renewed(
        name, now, row.expires, until, description=row.description, url=row.url, max_slices=site.max_slices,
        enabled=site.enabled,
    )  # fmt: skip
    ends = calendar.stays(calendar.ahead(tx, now), name, until, now, specs.of_slice(tx, name))
    amend(tx, name, lambda spec: replace(spec, expires=ends.get(spec.node, until) or spec.expires))
    return change(tx, name, {"expires": until})


def locked(tx: Tx, names: Collection[str]) -> list[str]:
    """Those of them that there are, in order; nobody else changes them until this transaction ends.

    Whoever changes several slices locks all before he writes specs: whoever writes specs holds their counter, and who
    waits for that holds a slice.
    """
    query = select(slices.c.name).where(slices.c.name.in_(names)).order_by(slices.c.name)
    return list(tx.scalars(query.with_for_update()))


def amend(tx: Tx, name: str, how: Callable[[SliceSpec], SliceSpec]) -> bool:
    """What its nodes hold is changed so, as a new generation; False, and nothing is written, where nothing changes."""
    above = get(tx, name, lock=True).generation + 1
    changed = specs.amend(tx, name, above, how)
    if changed:
        change(tx, name, {"generation": above})
    return changed


def overtake(tx: Tx, above: Mapping[str, int]) -> None:
    """Ask for the same by a generation above that of each slice, which a node holds though it was never stored here;
    of one that is gone, for its end.

    Far above it: other nodes may hold still higher ones of the same past, each that of its own last change.
    """
    there = locked(tx, above)
    for name in there:
        if specs.is_below(tx, name, above[name]):
            number = max(generation(tx, name), above[name]) + _LEAP
            change(tx, name, {"generation": number})
            specs.renumber(tx, name, number)
    for name in sorted(above.keys() - set(there)):
        counters.add(tx, specs.COUNTER)  # from here on nobody writes specs but us; who made it anew meanwhile has
        if not tx.scalar(select(slices.c.id).where(slices.c.name == name)) and specs.is_below(tx, name, above[name]):
            _end(tx, name, max(generation(tx, name), above[name]) + _LEAP)


def leap(tx: Tx, now: float) -> None:
    """Of a database that is a backup: what it numbers from now on is above all that was numbered after it was made, so
    that no node holds another thing of the same number; also where it is restored for the second time.

    Generations go by the clock then: a leap for each second since 1970, below 2^53 until 2242.
    """
    least = int(now) * _LEAP
    for table in (slices, ended):
        above = table.c.generation + _LEAP
        tx.execute(update(table).values(generation=case((above > least, above), else_=least)))
    counters.add(tx, _FLOOR, max(_LEAP, least - counters.value(tx, _FLOOR)))


def believable(now: float) -> int:
    """All generations that any central has given so far are below: those that changes counted, and those of restored
    databases, which go by the clock."""
    return (max(0, int(now)) + _AHEAD_S) * _LEAP


def _end(tx: Tx, name: str, number: int) -> None:
    specs.end(tx, name, number)
    now = select(slices.c.creator).where(slices.c.name == name).scalar_subquery()
    before = select(ended.c.person).where(ended.c.name == name).scalar_subquery()
    person = tx.scalar(select(func.coalesce(now, before, "")))
    tx.execute(delete_rows(ended).where(ended.c.name == name))
    tx.execute(insert(ended).values(name=name, generation=number, person=person))


def expired(tx: Tx, now: float) -> list[str]:
    """The names of those whose time is over."""
    return list(tx.scalars(select(slices.c.name).where(slices.c.expires <= now).order_by(slices.c.name)))


def delete(tx: Tx, name: str) -> None:
    """It ends on all its nodes; its name goes on counting.  Raises NotFound."""
    above = next_generation(tx, name)
    tunnels.give_back(tx, name)
    _end(tx, name, above)
    tx.execute(delete_rows(slices).where(slices.c.name == name))


def next_generation(tx: Tx, name: str) -> int:
    """What its next desired state is numbered; until this transaction ends nobody else gets a number for it.

    Of one that has nothing, above every generation that any slice ever had: nodes that forgot it refuse less.
    """
    return after(tx, get(tx, name, lock=True))


def after(tx: Tx, row: SliceRow) -> int:
    """The same of one that was got with a lock, in this transaction."""
    if _has_slivers(row.blob):
        return row.generation + 1
    known = union_all(select(func.max(slices.c.generation).label("g")), select(func.max(ended.c.generation)))
    return max(int(tx.scalar(select(func.max(known.subquery().c.g))) or 0), counters.value(tx, _FLOOR)) + 1


def generation(tx: Tx, name: str) -> int:
    """The newest that a slice of this name ever had, be it gone; 0: there was none."""
    found = tx.scalar(select(slices.c.generation).where(slices.c.name == name))
    return found or tx.scalar(select(ended.c.generation).where(ended.c.name == name)) or 0


def put_topology(
    tx: Tx, name: str, topology: Topology, wanted: Mapping[str, SliceSpec], at: float, above: int | None = None,
    held: Mapping[str, SliceSpec] | None = None, renamed: bool = True,
) -> frozenset[str]:  # fmt: skip
    """Store a new desired state; the generation is that of its specs, or without any `above`, or the next.  Returns the
    nodes for which something is at that generation.

    With `held`, what is stored of it, nodes for which nothing changes stay at the generation that they are at;
    `renamed`: as in `specs.put`.

    On nodes that held the slice and are not named in `wanted`, it ends.  Raises Stale unless it is newer than what is
    stored, and Invalid where two specs differ in generation.
    """
    numbers = {spec.generation for spec in wanted.values()}
    if len(numbers) > 1:
        raise Invalid(f"The specs of slice {name!r} are of several generations: {sorted(numbers)}.")
    number = numbers.pop() if numbers else above if above is not None else next_generation(tx, name)
    asked_for = {"of": name, "number": number, "at": at, "blob": msgspec.json.encode(topology)}
    slice_id = tx.scalar(_ASK, asked_for)
    if slice_id is None:
        now = get(tx, name).generation
        raise Stale(f"Slice {name!r} is at generation {now} already, and this is {number}; look, then retry.")
    placed = {s: node for s, node in placement.places(wanted).items() if s in topology.slivers}
    written = specs.put(tx, name, number, wanted, placement.use(topology, placed), held, renamed)
    takings.put(tx, slice_id, quota.taken(topology, placed))
    crossings.put(tx, slice_id, bandwidth.crossing(topology, placed))
    return written


class _Slivers(msgspec.Struct):
    slivers: dict[str, msgspec.Raw] = {}


def _has_slivers(topology: bytes) -> bool:
    """As far as it can be known of what another version wrote."""
    try:
        return bool(topology) and bool(msgspec.json.decode(topology, type=_Slivers).slivers)
    except msgspec.DecodeError:
        return True


def _has_member(email: str) -> ColumnElement[bool]:
    who = select(persons.c.id).where(persons.c.email == email).scalar_subquery()
    return slices.c.id.in_(select(slice_members.c.slice_id).where(slice_members.c.person_id == who))


def _has_guest(email: str, at: float) -> ColumnElement[bool]:
    who = select(persons.c.id).where(persons.c.email == email).scalar_subquery()
    now = (slice_guests.c.until == 0) | (slice_guests.c.until > at)
    return slices.c.id.in_(select(slice_guests.c.slice_id).where(slice_guests.c.person_id == who, now))


def _seen_by(caller: Caller) -> ColumnElement[bool]:
    """As the rules have it for "see slice", in SQL; a test compares the two."""
    return or_(
        _has_member(caller.email),
        _has_guest(caller.email, caller.at),
        sites_table.c.login_base.in_(caller.sites("pi", "tech")),
        literal(False),
    )


def _slices(tx: Tx, rows: Iterable[AnyRow]) -> list[SliceRow]:
    found = list(rows)
    people, nobody = members.of(tx, [row.id for row in found]), members.People([], [])
    return [
        SliceRow(**row._mapping, members=tuple(there.members), guests=tuple(there.guests))
        for row in found
        for there in (people.get(row.id, nobody),)
    ]
