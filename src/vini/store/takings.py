"""What each slice takes of its site's quota; and whose turn it is to take something of what all share."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, func, insert, select
from sqlalchemy import delete as delete_rows

from vini.rules.quota import Taken
from vini.store import counters
from vini.store.database import Tx
from vini.store.tables import slices, takings

_SUMS = [func.coalesce(func.sum(takings.c[field]), 0) for field in Taken.__struct_fields__]


def turn(tx: Tx) -> None:
    """From here to its end no other transaction decides what goes where: what is read of nodes, quotas, leases and
    the substrate stays as it is.

    Two slices at once could else both get the last room of a node.  Ask for it before any row is locked: else two
    transactions could wait for each other.
    """
    counters.add(tx, "placement", 0)


def put(tx: Tx, slice_: str, taken: Taken) -> None:
    """The slice takes that from now on."""
    number = select(slices.c.id).where(slices.c.name == slice_).scalar_subquery()
    tx.execute(delete_rows(takings).where(takings.c.slice_id == number))
    values: dict[str, Any] = {field: getattr(taken, field) for field in taken.__struct_fields__}
    tx.execute(insert(takings).values(slice_id=number, **values))


def others(tx: Tx, slice_: str) -> Taken:
    """What all other slices of its site take together."""
    site = select(slices.c.site_id).where(slices.c.name == slice_).scalar_subquery()
    return _sum(tx, slices.c.site_id == site, slices.c.name != slice_)


def of_site(tx: Tx, number: int) -> Taken:
    """What all slices of the site with that id take together."""
    return _sum(tx, slices.c.site_id == number)


def _sum(tx: Tx, *those: ColumnElement[bool]) -> Taken:
    query = select(*_SUMS).select_from(takings.join(slices)).where(*those)
    slivers, cores, memory, mbit, vnis, disk = tx.execute(query).one()
    return Taken(int(slivers), round(cores, 6), round(memory, 6), round(mbit, 6), int(vnis), round(disk, 6))
