"""Logins that wait for somebody to confirm them at an issuer: each is good once, and for some minutes."""

from __future__ import annotations

import hashlib
import secrets

from sqlalchemy import delete, func, insert, select, update

from vini.model import Denied
from vini.rules.errors import Unauthenticated
from vini.store.database import Tx
from vini.store.tables import oidc_logins

_MOST, _MOST_OF_ONE = 1000, 20  # that wait at once; of those from one address
_SLOWER_S = 5.0  # RFC 8628, 3.5


def room(tx: Tx, source: str, now: float) -> None:
    """Raises Denied where too many wait."""
    waiting = select(func.count()).select_from(oidc_logins).where(oidc_logins.c.expires > now)
    of_one = tx.scalar(waiting.where(oidc_logins.c.source == source)) or 0
    if of_one >= _MOST_OF_ONE or (tx.scalar(waiting) or 0) >= _MOST:
        raise Denied("Too many logins wait to be confirmed; confirm one, or try again in some minutes.")


def add(tx: Tx, device_code: str, nonce: str, expires: float, interval_s: float, source: str) -> str:
    """A secret by which whoever began it asks what became of it."""
    secret = secrets.token_urlsafe(32)
    tx.execute(
        insert(oidc_logins).values(
            secret=_hash(secret), device_code=device_code, nonce=nonce, expires=expires, interval_s=interval_s,
            polled=0.0, source=source,
        )
    )  # fmt: skip
    return secret


def turn(tx: Tx, secret: str, now: float) -> tuple[str, str] | None:
    """Device code and nonce, where the issuer may be asked again by now; else None.

    Raises Unauthenticated where it is none, was used, or has expired.
    """
    row = tx.execute(select(oidc_logins).where(oidc_logins.c.secret == _hash(secret)).with_for_update()).one_or_none()
    if row is None or row.expires <= now:
        raise Unauthenticated("This login was used already, has expired, or is none; begin a new one.")
    if now - row.polled < row.interval_s:
        return None
    tx.execute(update(oidc_logins).where(oidc_logins.c.secret == row.secret).values(polled=now))
    return row.device_code, row.nonce


def slower(tx: Tx, secret: str) -> None:
    """The issuer is to be asked less often."""
    more = oidc_logins.c.interval_s + _SLOWER_S
    tx.execute(update(oidc_logins).where(oidc_logins.c.secret == _hash(secret)).values(interval_s=more))


def take(tx: Tx, secret: str) -> bool:
    """It is over; whether it was still there: of two who ask at once one is told so."""
    return bool(tx.execute(delete(oidc_logins).where(oidc_logins.c.secret == _hash(secret))).rowcount)


def forget(tx: Tx, before: float) -> None:
    """Those that expired before that time."""
    tx.execute(delete(oidc_logins).where(oidc_logins.c.expires < before))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()
