"""Who was a member of a slice when its time was over: nothing else is left that says so."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Select, func, insert, select

from vini.store.database import Tx
from vini.store.tables import events, last_members, persons


def note(tx: Tx, event_id: int, emails: Collection[str]) -> None:
    """These were, when that event ended it; it stays as long as the event."""
    if emails:
        tx.execute(insert(last_members), [{"event_id": event_id, "email": email} for email in emails])


def of(tx: Tx, event_id: int) -> list[str]:
    """The addresses of those whose accounts are enabled."""
    query = select(persons.c.email).join(last_members, last_members.c.email == persons.c.email)
    return list(tx.scalars(query.where(last_members.c.event_id == event_id, persons.c.enabled).order_by("email")))


def ends(email: str) -> Select[Any]:
    """The numbers of the events that ended slices of which he was a member, as a subquery."""
    return select(last_members.c.event_id).where(last_members.c.email == email)


def ended(tx: Tx, slice_: str, email: str) -> float | None:
    """When the last slice of that name ended of which he was a member (Unix time, s); None: none did."""
    query = select(func.max(events.c.at)).where(events.c.kind == "slice", events.c.target == slice_)
    found: float | None = tx.scalar(query.where(events.c.id.in_(ends(email))))
    return found
