"""Idempotency keys: a request that is sent again gets the answer that it had, and does nothing again."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from vini.rules.errors import Invalid
from vini.store.database import Tx
from vini.store.tables import idempotency

KEPT_S = 86_400.0


class Answer(NamedTuple):
    """What was answered."""

    status: int
    body: bytes


def begin(tx: Tx, key: str, who: str, request: bytes, at: float) -> Answer | None:
    """What this request was answered with before; None: it is new, and the same one at the same moment waits for us.

    Raises Invalid where the key was for something else.
    """
    digest = hashlib.sha256(request).hexdigest()
    insert = (sqlite if tx.dialect.name == "sqlite" else postgresql).insert
    new = insert(idempotency).values(key=key, who=who, request=digest, status=0, body=b"", at=at)
    if tx.execute(new.on_conflict_do_nothing().returning(idempotency.c.key)).first():
        return None
    row = tx.execute(select(idempotency).where(idempotency.c.key == key, idempotency.c.who == who)).one()
    if row.request != digest:
        raise Invalid("This Idempotency-Key was used for another request; take a new one for each.")
    return Answer(row.status, row.body)


def keep(tx: Tx, key: str, who: str, answer: Answer) -> None:
    """In the transaction in which it began."""
    mine = (idempotency.c.key == key) & (idempotency.c.who == who)
    tx.execute(update(idempotency).where(mine).values(status=answer.status, body=answer.body))


def forget(tx: Tx, before: float) -> None:
    """Those of before that time."""
    tx.execute(delete(idempotency).where(idempotency.c.at < before))
