"""What each slice is granted in the world."""

from __future__ import annotations

import msgspec
from sqlalchemy import delete, insert, select

from vini.model import OutsideGrant
from vini.store.database import Tx
from vini.store.tables import outside_grants, slices


def get(tx: Tx, name: str) -> OutsideGrant | None:
    """Of the slice of that name; None: nothing."""
    query = select(outside_grants.c.body).join(slices).where(slices.c.name == name)
    body = tx.scalar(query)
    return None if body is None else msgspec.json.decode(bytes(body), type=OutsideGrant)


def put(tx: Tx, slice_id: int, grant: OutsideGrant | None, by: str, at: float) -> None:
    """In place of what was granted before."""
    tx.execute(delete(outside_grants).where(outside_grants.c.slice_id == slice_id))
    if grant is not None:
        row = {"slice_id": slice_id, "body": msgspec.json.encode(grant), "by": by, "at": at}
        tx.execute(insert(outside_grants).values(row))
