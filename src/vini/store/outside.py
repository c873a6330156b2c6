"""What each slice is granted in the world."""

from __future__ import annotations

import msgspec
from sqlalchemy import delete, insert, select

from vini.model import OutsideGrant, ViniError
from vini.store.database import Tx
from vini.store.tables import outside_grants, slices


def get(tx: Tx, name: str) -> OutsideGrant | None:
    """Of the slice of that name; None: nothing.  Raises ViniError where another version stored it."""
    query = select(outside_grants.c.body).join(slices).where(slices.c.name == name)
    body = tx.scalar(query)
    try:
        return None if body is None else msgspec.json.decode(bytes(body), type=OutsideGrant)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise ViniError(
            f"What slice {name!r} may do in the world was stored by another version of VINI, which this one can't read "
            f"({e}); an admin grants it anew, or revokes it: `vini outside revoke {name}`."
        ) from e


def put(tx: Tx, slice_id: int, grant: OutsideGrant | None, by: str, at: float) -> None:
    """In place of what was granted before."""
    tx.execute(delete(outside_grants).where(outside_grants.c.slice_id == slice_id))
    if grant is not None:
        row = {"slice_id": slice_id, "body": msgspec.json.encode(grant), "by": by, "at": at}
        tx.execute(insert(outside_grants).values(row))
