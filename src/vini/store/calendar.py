"""The calendar of nodes: who has leased which one when, and until when a slice may be where."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Select, bindparam, select

from vini.rules import leases as rules
from vini.rules.nouns import Lease
from vini.store.database import Tx
from vini.store.tables import leases
from vini.store.tables import nodes as nodes_table
from vini.store.tables import slices as slices_table

JOINED = leases.join(slices_table).join(nodes_table, nodes_table.c.id == leases.c.node_id)


def query() -> Select[Any]:
    """Leases as they are shown."""
    slice_, node = slices_table.c.name.label("slice"), nodes_table.c.name.label("node")
    return select(leases.c.id, slice_, node, leases.c.start, leases.c.end).select_from(JOINED)


_AHEAD = query().where(leases.c.end > bindparam("now")).order_by(leases.c.start)


def ahead(tx: Tx, now: float) -> dict[str, list[Lease]]:
    """Node -> its leases that are not over, in the order of time."""
    out: dict[str, list[Lease]] = {}
    for row in tx.execute(_AHEAD, {"now": now}):
        out.setdefault(row.node, []).append(Lease(**row._mapping))
    return out


def busy(lease: Lease) -> rules.Busy:
    """The time of a lease."""
    return rules.Busy(lease.start, lease.end, f"is leased by slice {lease.slice!r}")


def stays(
    terms_of: Mapping[str, Sequence[Lease]], slice_: str, expires: float, now: float, there: Collection[str]
) -> dict[str, float]:
    """Node -> until when a slice may be on it, 0: not at all; of nodes that others have leased.

    `terms_of` is `ahead`; `there` are those that it is on.
    """
    out = {}
    for node, terms in terms_of.items():
        others = [busy(t) for t in terms if t.slice != slice_]
        if others:
            out[node] = rules.until(now, expires, others, node in there or len(others) < len(terms))
    return out
