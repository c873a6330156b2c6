"""What each slice takes of its site's quota; and whose turn it is to take something of what all share."""

from __future__ import annotations

from functools import cache
from typing import Any

from msgspec.structs import asdict
from sqlalchemy import Select, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite

from vini.rules.quota import Taken
from vini.store import counters
from vini.store.database import Tx
from vini.store.tables import slices, takings

_SUMS = select(*(func.coalesce(func.sum(takings.c[field]), 0) for field in Taken.__struct_fields__))
_SUMS = _SUMS.select_from(takings.join(slices))
_OF_SITE = _SUMS.where(slices.c.site_id == bindparam("site"))
_OTHERS = _OF_SITE.where(slices.c.id != bindparam("but"))


def turn(tx: Tx) -> None:
    """From here to its end no other transaction decides what goes where: what is read of nodes, quotas, leases and
    the substrate stays as it is.

    Two slices at once could else both get the last room of a node.  Ask for it before any row is locked: else two
    transactions could wait for each other.
    """
    counters.add(tx, "placement", 0)


def put(tx: Tx, slice_id: int, taken: Taken) -> None:
    """The slice takes that from now on."""
    tx.execute(_putting(tx.dialect.name), {"slice_id": slice_id, **asdict(taken)})


@cache
def _putting(dialect: str) -> Any:
    made = (sqlite if dialect == "sqlite" else postgresql).insert(takings)
    changed = {field: made.excluded[field] for field in Taken.__struct_fields__}
    return made.on_conflict_do_update(index_elements=["slice_id"], set_=changed)


def others(tx: Tx, site_id: int, but: int) -> Taken:
    """What all slices of a site take together, but for that one; each by its id."""
    return _sum(tx, _OTHERS, site=site_id, but=but)


def of_site(tx: Tx, number: int) -> Taken:
    """What all slices of the site with that id take together."""
    return _sum(tx, _OF_SITE, site=number)


def _sum(tx: Tx, query: Select[Any], **those: int) -> Taken:
    slivers, cores, memory, mbit, vnis, disk = tx.execute(query, those).one()
    return Taken(int(slivers), round(cores, 6), round(memory, 6), round(mbit, 6), int(vnis), round(disk, 6))
