"""Reminders: a slice's owners are told before it ends, by an event, once for each of `expiry.REMIND_S`."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import select

from vini.rules import expiry
from vini.rules.leases import moment
from vini.rules.notices import REMIND
from vini.store import counters, events
from vini.store.database import Tx
from vini.store.tables import events as events_table
from vini.store.tables import slices


class Reminder(NamedTuple):
    """A slice, when it ends, and how long before that its owners are to be told."""

    slice: str
    expires: float
    before_s: float


def remind(tx: Tx, now: float) -> list[Reminder]:
    """What is due and was not said before; afterwards it was, by an event of the slice."""
    counters.add(tx, "reminders", 0)  # ours until we commit: of two centrals one says it
    soon = select(slices.c.name, slices.c.expires).where(
        slices.c.expires > now, slices.c.expires <= now + max(expiry.REMIND_S)
    )
    due = [Reminder(name, expires, expiry.reminder(now, expires)) for name, expires in tx.execute(soon)]
    new = [r for r in due if not _said(tx, r)]
    for r in new:
        detail = (
            f"It ends in {(r.expires - now) / expiry.DAY_S:.1f} days, at {moment(r.expires)}; "
            f"`vini slice renew {r.slice}` prolongs it."
        )
        events.add(tx, at=now, who="central", what=REMIND, kind="slice", target=r.slice, detail=detail)
    return new


def _said(tx: Tx, r: Reminder) -> bool:
    mine = (events_table.c.kind == "slice") & (events_table.c.target == r.slice) & (events_table.c.what == REMIND)
    return (
        tx.scalar(select(events_table.c.id).where(mine, events_table.c.at >= r.expires - r.before_s).limit(1))
        is not None
    )
