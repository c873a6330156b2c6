"""Idempotency keys: a request that is sent again gets the answer that it had, and does nothing again.

Answers may have secrets in them, of which nothing but a hash is kept: so they are sealed by the key that came with the
request, of which the database has the hash, too.  The version before kept them by the key itself and unsealed: those
are still answers, for the day that they stay.
"""

from __future__ import annotations

import hashlib
import os
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from vini.rules.errors import Invalid
from vini.store.database import Tx
from vini.store.page import AnyRow
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
    digest, name = hashlib.sha256(request).hexdigest(), _name(key)
    if before := _row(tx, key, who, digest):  # of the version before, which may run beside us
        return Answer(before.status, before.body)
    insert = (sqlite if tx.dialect.name == "sqlite" else postgresql).insert
    new = insert(idempotency).values(key=name, who=who, request=digest, status=0, body=b"", at=at)
    if tx.execute(new.on_conflict_do_nothing().returning(idempotency.c.key)).first():
        return None
    row = _row(tx, name, who, digest)
    return Answer(row.status, _opened(key, row.body)) if row else None


def _row(tx: Tx, name: str, who: str, digest: str) -> AnyRow | None:
    """What is kept by that name.  Raises Invalid where it is of another request."""
    row = tx.execute(select(idempotency).where(idempotency.c.key == name, idempotency.c.who == who)).one_or_none()
    if row is not None and row.request != digest:
        raise Invalid("This Idempotency-Key was used for another request; take a new one for each.")
    return row


def keep(tx: Tx, key: str, who: str, answer: Answer) -> None:
    """In the transaction in which it began."""
    mine = (idempotency.c.key == _name(key)) & (idempotency.c.who == who)
    tx.execute(update(idempotency).where(mine).values(status=answer.status, body=_sealed(key, answer.body)))


def forget(tx: Tx, before: float) -> None:
    """Those of before that time."""
    tx.execute(delete(idempotency).where(idempotency.c.at < before))


def _name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _cipher(key: str) -> AESGCM:
    return AESGCM(hashlib.blake2b(key.encode(), digest_size=32, person=b"vini answer").digest())


def _sealed(key: str, body: bytes) -> bytes:
    nonce = os.urandom(12)
    return nonce + _cipher(key).encrypt(nonce, body, None)


def _opened(key: str, sealed: bytes) -> bytes:
    return _cipher(key).decrypt(sealed[:12], sealed[12:], None)
