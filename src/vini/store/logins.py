"""Logins that wait for somebody to confirm them at an issuer: each is good once, and for some minutes."""

from __future__ import annotations

import hashlib
import secrets
from ipaddress import ip_address, ip_network

from sqlalchemy import delete, func, insert, select, update

from vini.model import Denied
from vini.rules.errors import Unauthenticated
from vini.store import counters
from vini.store.database import Tx
from vini.store.tables import oidc_logins

_MOST = 1000  # that wait at once
_ASKING_S = 60.0  # in which the issuer answers, or the place is another's
_SLOWER_S = 5.0  # RFC 8628, 3.5


def reserve(tx: Tx, nonce: str, source: str, now: float) -> str:
    """A place for one that the issuer is going to be asked for, and the secret by which whoever began it asks what
    became of it.  Raises Denied where too many wait.

    No address may have more places than are free: so one alone has half of them, and that may be a proxy with all of
    the testbed's users behind it; and however many one takes, as many are left for others.
    """
    counters.add(tx, "logins", 0)  # they come one after the other
    whose = _network(source)
    waiting = select(func.count()).select_from(oidc_logins).where(oidc_logins.c.expires > now)
    of_one, of_all = tx.scalar(waiting.where(oidc_logins.c.source == whose)) or 0, tx.scalar(waiting) or 0
    if of_one >= _MOST - of_all:
        raise Denied("Too many logins wait to be confirmed; confirm one, or try again in some minutes.")
    secret = secrets.token_urlsafe(32)
    tx.execute(
        insert(oidc_logins).values(
            secret=_hash(secret), device_code="", nonce=nonce, expires=now + _ASKING_S, interval_s=0.0, polled=0.0,
            source=whose,
        )
    )  # fmt: skip
    return secret


def begun(tx: Tx, secret: str, device_code: str, expires: float, interval_s: float) -> None:
    """The issuer has begun it."""
    values = {"device_code": device_code, "expires": expires, "interval_s": interval_s}
    if not tx.execute(update(oidc_logins).where(oidc_logins.c.secret == _hash(secret)).values(values)).rowcount:
        raise Unauthenticated("The issuer took too long to begin this login; begin a new one.")


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


def _network(source: str) -> str:
    """Whoever has an IPv6 address has 2**64 of them."""
    try:
        address = ip_address(source)
    except ValueError:
        return source
    return str(ip_network((address, 64), strict=False)) if address.version == 6 else source


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()
