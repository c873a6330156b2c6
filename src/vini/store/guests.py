"""Guests of slices: whom a member lets in, into which slivers and until when."""

from __future__ import annotations

import msgspec
from sqlalchemy import delete, insert, select

from vini.model import NotFound
from vini.rules.nouns import Guest
from vini.store import authorized, persons
from vini.store.database import Tx
from vini.store.tables import persons as persons_table
from vini.store.tables import slice_guests


def put(tx: Tx, slice_id: int, guest: Guest) -> None:
    """He is one in this way afterwards, however he was before.  Raises NotFound where he has no account."""
    person = persons.number(tx, guest.email)
    tx.execute(delete(slice_guests).where(slice_guests.c.slice_id == slice_id, slice_guests.c.person_id == person))
    slivers = msgspec.json.encode(guest.slivers).decode()
    row = {"slice_id": slice_id, "person_id": person, "slivers": slivers, "until": guest.until, "host": guest.host}
    tx.execute(insert(slice_guests).values(row))
    authorized.changed(tx)


def remove(tx: Tx, slice_id: int, email: str) -> None:
    """Raises NotFound where he is none."""
    who = select(persons_table.c.id).where(persons_table.c.email == email.lower()).scalar_subquery()
    mine = delete(slice_guests).where(slice_guests.c.slice_id == slice_id, slice_guests.c.person_id == who)
    if not tx.execute(mine).rowcount:
        raise NotFound(f"{email} is no guest of this slice.")
    authorized.changed(tx)


def expire(tx: Tx, now: float) -> int:
    """Forget those whose time is over, whom nodes let in no more by their own clocks; how many those are."""
    over = delete(slice_guests).where(slice_guests.c.until > 0, slice_guests.c.until <= now)
    if gone := tx.execute(over).rowcount:
        authorized.changed(tx)
    return int(gone)
