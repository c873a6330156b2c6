"""Leases: a node for one slice, for whole hours; of one node no two overlap."""

from __future__ import annotations

from sqlalchemy import delete as delete_rows
from sqlalchemy import insert, select

from vini.model import NotFound
from vini.rules import leases as rules
from vini.rules.access import absent
from vini.rules.nouns import Lease
from vini.store import nodes, slices
from vini.store.database import Tx
from vini.store.page import AnyRow, matches, page
from vini.store.tables import leases
from vini.store.tables import nodes as nodes_table
from vini.store.tables import slices as slices_table

_JOINED = leases.join(slices_table).join(nodes_table, nodes_table.c.id == leases.c.node_id)
_QUERY = select(
    leases.c.id,
    slices_table.c.name.label("slice"),
    nodes_table.c.name.label("node"),
    leases.c.start,
    leases.c.end,
).select_from(_JOINED)


def add(tx: Tx, slice_: str, node: str, start: float, end: float, now: float) -> Lease:
    """Start rounded up, end down.  Raises Conflict where it overlaps another, Invalid where nothing is left."""
    first, last = rules.rounded(start, end, now)
    node_id = nodes.get(tx, node, lock=True).id  # two at once wait for each other
    others = tx.execute(select(leases.c.start, leases.c.end).where(leases.c.node_id == node_id, leases.c.end > first))
    rules.free(node, first, last, [(a, b) for a, b in others])
    values = {"slice_id": slices.get(tx, slice_).id, "node_id": node_id, "start": first, "end": last}
    return get(tx, tx.execute(insert(leases).values(values).returning(leases.c.id)).scalar_one())


def get(tx: Tx, number: int) -> Lease:
    """Raises NotFound."""
    row = tx.execute(_QUERY.where(leases.c.id == number)).one_or_none()
    if row is None:
        raise NotFound(absent("lease", str(number)))
    return _lease(row)


def some(
    tx: Tx, after: int | None, limit: int, *, slice_: str = "", node: str = "", since: float = 0.0
) -> tuple[list[Lease], bool]:
    """One page by number, of those that end after `since`, and whether more follow."""
    query = _QUERY.where(matches(slices_table.c.name, slice_), matches(nodes_table.c.name, node), leases.c.end > since)
    rows, more = page(tx, query, leases.c.id, after, limit)
    return [_lease(row) for row in rows], more


def holder(tx: Tx, node: str, at: float) -> str:
    """The slice that has the node at that moment; "": none."""
    query = _QUERY.where(nodes_table.c.name == node, leases.c.start <= at, leases.c.end > at)
    row = tx.execute(query).one_or_none()
    return row.slice if row else ""


def delete(tx: Tx, number: int) -> None:
    """Raises NotFound."""
    if not tx.execute(delete_rows(leases).where(leases.c.id == number)).rowcount:
        raise NotFound(absent("lease", str(number)))


def _lease(row: AnyRow) -> Lease:
    return Lease(**row._mapping)
