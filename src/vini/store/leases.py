"""Leases: a node for one slice, for whole hours; of one node no two overlap.

Nobody is driven from a node where he may stay to his end: it can be leased from then on.  Only who has a lease himself
has it for that time, and stays longer if nobody comes after him.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace
from sqlalchemy import delete as delete_rows
from sqlalchemy import insert

from vini.model import NotFound, SliceSpec
from vini.rules import leases as rules
from vini.rules.access import absent
from vini.rules.nouns import Lease
from vini.store import calendar, nodes, slices, specs, takings
from vini.store.database import Tx
from vini.store.page import AnyRow, matches, page
from vini.store.tables import leases
from vini.store.tables import nodes as nodes_table
from vini.store.tables import slices as slices_table

_LOOKED_AT = 20  # nodes, for one that is free when another isn't


def add(tx: Tx, slice_: str, node: str, start: float, end: float, now: float) -> Lease:
    """Start rounded up, end down.

    Raises Conflict, with the nearest time that fits, where another slice has a lease in that time, or has slivers there
    and may stay; Invalid where nothing is left.
    """
    first, last = rules.rounded(start, end, now)
    takings.turn(tx)
    node_id, ahead = nodes.get(tx, node).id, calendar.ahead(tx, now)
    taken = list(_busy(tx, slice_, node, ahead.get(node, ()), first, now))
    if rules.clash(first, last, taken):
        elsewhere = _elsewhere(tx, slice_, ahead, first, last, now)
        raise rules.refused(node, first, last, taken, elsewhere)
    values = {"slice_id": slices.get(tx, slice_).id, "node_id": node_id, "start": first, "end": last}
    return get(tx, tx.execute(insert(leases).values(values).returning(leases.c.id)).scalar_one())


def _busy(tx: Tx, slice_: str, node: str, terms: Sequence[Lease], first: int, now: float) -> Iterator[rules.Busy]:
    """When the node is not free for that slice."""
    yield from map(calendar.busy, terms)
    leaving = {t.slice for t in terms if t.end <= first}  # each has its lease, and goes when the next one comes
    for spec in specs.specs_of_node(tx, node):
        if spec.objects and spec.slice not in {slice_, *leaving}:
            yield rules.Busy(now, spec.expires, f"has slivers of slice {spec.slice!r}, which has no lease there,")


def _elsewhere(tx: Tx, slice_: str, ahead: dict[str, list[Lease]], first: int, last: int, now: float) -> str:
    """A node that is free in that time, of the first few that nobody has leased; "": none."""
    names = (row.name for row in nodes.all(tx) if row.boot_state == "boot")
    some = [n for n in names if not rules.clash(first, last, map(calendar.busy, ahead.get(n, ())))]
    for node in some[:_LOOKED_AT]:
        if not rules.clash(first, last, _busy(tx, slice_, node, ahead.get(node, ()), first, now)):
            return node
    return ""


def settle(tx: Tx, node: str, now: float) -> dict[str, float]:
    """Slices that have slivers on the node stay as long as its leases say now.  Slice -> until when, of those of which
    that is something else than before.

    Ask for it whenever a lease of the node was added or taken away.
    """
    out: dict[str, float] = {}
    for name in slices.locked(tx, {s.slice for s in specs.specs_of_node(tx, node) if s.objects}):
        expires = slices.get(tx, name).expires
        end = calendar.stays(calendar.ahead(tx, now), name, expires, now, {node}).get(node, expires)

        def stay(spec: SliceSpec, end: float = end) -> SliceSpec:
            return replace(spec, expires=end) if spec.node == node else spec

        if end and slices.amend(tx, name, stay):
            out[name] = end
    return out


def get(tx: Tx, number: int) -> Lease:
    """Raises NotFound."""
    row = tx.execute(calendar.query().where(leases.c.id == number)).one_or_none()
    if row is None:
        raise NotFound(absent("lease", str(number)))
    return _lease(row)


def some(
    tx: Tx, after: int | None, limit: int, *, slice_: str = "", node: str = "", since: float = 0.0
) -> tuple[list[Lease], bool]:
    """One page by number, of those that end after `since`, and whether more follow."""
    query = calendar.query().where(matches(slices_table.c.name, slice_), matches(nodes_table.c.name, node))
    rows, more = page(tx, query.where(leases.c.end > since), leases.c.id, after, limit)
    return [_lease(row) for row in rows], more


def delete(tx: Tx, number: int) -> None:
    """Raises NotFound."""
    if not tx.execute(delete_rows(leases).where(leases.c.id == number)).rowcount:
        raise NotFound(absent("lease", str(number)))


def _lease(row: AnyRow) -> Lease:
    return Lease(**row._mapping)
