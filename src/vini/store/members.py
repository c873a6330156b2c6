"""Members of slices: who may use them."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import bindparam, delete, insert, select

from vini.model import NotFound
from vini.store import authorized, persons
from vini.store.database import Tx
from vini.store.tables import persons as persons_table
from vini.store.tables import slice_members

_OF = (
    select(slice_members.c.slice_id, persons_table.c.email)
    .select_from(slice_members.join(persons_table))
    .where(slice_members.c.slice_id.in_(bindparam("of", expanding=True)))
    .order_by(persons_table.c.email)
)


def add(tx: Tx, slice_id: int, email: str) -> None:
    """He is one afterwards, whether or not he was.  Raises NotFound where he has no account."""
    person = persons.number(tx, email)
    mine = select(slice_members).where(slice_members.c.slice_id == slice_id, slice_members.c.person_id == person)
    if tx.execute(mine).first() is None:
        authorized.changed(tx)
        tx.execute(insert(slice_members).values(slice_id=slice_id, person_id=person))


def remove(tx: Tx, slice_id: int, email: str) -> None:
    """Raises NotFound where he is none."""
    who = select(persons_table.c.id).where(persons_table.c.email == email.lower()).scalar_subquery()
    gone = tx.execute(
        delete(slice_members).where(slice_members.c.slice_id == slice_id, slice_members.c.person_id == who)
    )
    if not gone.rowcount:
        raise NotFound(f"{email} is no member of this slice.")
    authorized.changed(tx)


def of(tx: Tx, slice_ids: Collection[int]) -> dict[int, list[str]]:
    """Slice -> the addresses of its members, sorted."""
    if not slice_ids:
        return {}
    found: dict[int, list[str]] = {}
    for slice_, email in tx.execute(_OF, {"of": list(slice_ids)}):
        found.setdefault(slice_, []).append(email)
    return found
