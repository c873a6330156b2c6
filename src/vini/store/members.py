"""Members of slices: who may use them; and who is in them at all."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import bindparam, delete, insert, null, select, union_all

from vini.model import NotFound
from vini.rules.nouns import Guest
from vini.store import authorized, persons
from vini.store.database import Tx
from vini.store.tables import persons as persons_table
from vini.store.tables import slice_guests, slice_members

_THOSE: Any = bindparam("of", expanding=True)
_GUESTS = select(
    slice_guests.c.slice_id, persons_table.c.email, slice_guests.c.slivers, slice_guests.c.until, slice_guests.c.host
)
_MEMBERS = select(slice_members.c.slice_id, persons_table.c.email, null(), null(), null())
_OF = union_all(
    _GUESTS.select_from(slice_guests.join(persons_table)).where(slice_guests.c.slice_id.in_(_THOSE)),
    _MEMBERS.select_from(slice_members.join(persons_table)).where(slice_members.c.slice_id.in_(_THOSE)),
).order_by("email")


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


class People(NamedTuple):
    """Of a slice."""

    members: list[str]  # their addresses, sorted
    guests: list[Guest]  # by their addresses


def of(tx: Tx, slice_ids: Collection[int]) -> dict[int, People]:
    """Slice -> its members and guests; of those that have any."""
    found: dict[int, People] = {}
    for slice_, email, slivers, until, host in tx.execute(_OF, {"of": list(slice_ids)}) if slice_ids else ():
        people = found.setdefault(slice_, People([], []))
        if slivers is None:
            people.members.append(email)
        else:
            people.guests.append(Guest(email, msgspec.json.decode(slivers, type=tuple[str, ...]), until, host))
    return found
