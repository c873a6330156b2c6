"""How many events a node's own words may be in a minute; what is more is counted, so that none fills the database."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import delete, insert, select

from vini.store.database import Tx
from vini.store.tables import event_budgets as budgets

_MINUTE_S = 60.0


class Left(NamedTuple):
    """Of a budget."""

    events: int  # that may be written now
    more: int  # that were not written in the minute before, and are not told of yet


def take(tx: Tx, node_id: int, what: str, now: float, wanted: int, most: int) -> Left:
    """As many of the wanted as are left of this minute's; whoever takes them holds the node's row, so nobody else does
    so meanwhile."""
    mine = (budgets.c.node_id == node_id) & (budgets.c.what == what)
    row = tx.execute(select(budgets.c.since, budgets.c.events, budgets.c.more).where(mine)).one_or_none()
    since, spent, more = row or (now, 0, 0)
    told = 0
    if not 0 <= now - since < _MINUTE_S:
        since, spent, told, more = now, 0, more, 0
    may = min(wanted, max(0, most - spent))
    tx.execute(delete(budgets).where(mine))
    tx.execute(
        insert(budgets).values(
            node_id=node_id, what=what, since=since, events=spent + may, more=more + wanted - may
        )
    )  # fmt: skip
    return Left(may, told)
