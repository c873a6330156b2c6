"""Tokens: secrets that stand for a person (API tokens, sessions) or let a machine join.  Only their hash is kept."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import Select, bindparam, insert, select, update
from sqlalchemy import delete as delete_rows

from vini.model import Denied, NotFound
from vini.rules.access import absent
from vini.rules.caller import SCOPES, Caller
from vini.rules.errors import Unauthenticated
from vini.rules.nouns import Token
from vini.store import persons, roles, sites
from vini.store.database import Tx
from vini.store.page import AnyRow
from vini.store.tables import join_tokens, tokens
from vini.store.tables import persons as persons_table
from vini.store.tables import sites as sites_table

SESSION_S = 12 * 3600.0
_WHOSE = (
    select(tokens.c.expires, tokens.c.scopes, persons_table.c.id, persons_table.c.email, persons_table.c.enabled)
    .select_from(tokens.join(persons_table))
    .where(tokens.c.secret == bindparam("of"))
)


def issue_api(
    tx: Tx, person: str, scopes: Collection[str], lifetime_s: float, now: float, name: str = "", kind: str = "api"
) -> str:
    """A secret that stands for the person, as far as the scopes go."""
    secret = _new("vini_")
    tx.execute(
        insert(tokens).values(
            secret=_hash(secret), kind=kind, person_id=persons.number(tx, person), name=name,
            scopes=" ".join(sorted(scopes)), created=now, expires=now + lifetime_s,
        )
    )  # fmt: skip
    return secret


def issue_session(tx: Tx, person: str, now: float) -> str:
    """The same for whoever gave his password."""
    return issue_api(tx, person, SCOPES, SESSION_S, now, kind="session")


def whose(tx: Tx, secret: str, now: float) -> Caller:
    """The person that it stands for, with the roles that he has now.  Raises Unauthenticated, saying why."""
    row = tx.execute(_WHOSE, {"of": _hash(secret)}).one_or_none()
    if row is None:
        raise Unauthenticated("This login or token is not known here (any more); `vini login` gets one.")
    if row.expires <= now:
        raise Unauthenticated("This login or token has expired; `vini login` gets a new one.")
    if not row.enabled:
        raise Unauthenticated(f"The account {row.email} is disabled; ask a PI of your site.")
    held = roles.of(tx, [row.id], enabled=True).get(row.id, set())
    return Caller(row.email, frozenset(held), frozenset(row.scopes.split()), now)


def some(tx: Tx, person: str) -> list[Token]:
    """All of a person, oldest first."""
    return [_token(row) for row in tx.execute(_shown().where(persons_table.c.email == person).order_by(tokens.c.id))]


def get(tx: Tx, number: int) -> Token:
    """Raises NotFound."""
    row = tx.execute(_shown().where(tokens.c.id == number)).one_or_none()
    if row is None:
        raise NotFound(absent("token", str(number)))
    return _token(row)


def delete(tx: Tx, number: int) -> None:
    """It stands for nobody from this moment on."""
    tx.execute(delete_rows(tokens).where(tokens.c.id == number))


def delete_secret(tx: Tx, secret: str) -> None:
    """The same by the secret itself: to log out."""
    tx.execute(delete_rows(tokens).where(tokens.c.secret == _hash(secret)))


def delete_sessions(tx: Tx, person: str) -> None:
    """All that a person's password opened."""
    mine = select(persons_table.c.id).where(persons_table.c.email == person).scalar_subquery()
    tx.execute(delete_rows(tokens).where(tokens.c.person_id == mine, tokens.c.kind == "session"))


def forget(tx: Tx, before: float) -> None:
    """Those that expired before that time."""
    tx.execute(delete_rows(tokens).where(tokens.c.expires < before))
    tx.execute(delete_rows(join_tokens).where(join_tokens.c.expires < before))


def issue_join(tx: Tx, site: str, lifetime_s: float, now: float) -> str:
    """A secret with which one machine may become a node of the site, once."""
    secret = _new("")
    values = {"secret": _hash(secret), "site_id": sites.number(tx, site), "created": now, "expires": now + lifetime_s}
    tx.execute(insert(join_tokens).values(values))
    return secret


def use_join(tx: Tx, secret: str, now: float, again: Callable[[], bool] = lambda: False) -> tuple[str, bool]:
    """The site that it is for, and whether it was used now; where it was before, `again` tells whether by who asks: it
    is called then, since that may have been while this waited.  Raises Denied: it is wrong, used, or has expired."""
    mine = join_tokens.c.secret == _hash(secret)
    good = update(join_tokens).where(mine, join_tokens.c.used.is_(None), join_tokens.c.expires > now)
    site = tx.execute(good.values(used=now).returning(join_tokens.c.site_id)).scalar_one_or_none()
    row = None if site else tx.execute(select(join_tokens.c.used, join_tokens.c.site_id).where(mine)).one_or_none()
    is_first = site is not None
    if row is not None and row.used is not None and again():
        site = row.site_id
    if site is not None:
        return str(tx.scalar(select(sites_table.c.login_base).where(sites_table.c.id == site))), is_first
    ask = "Ask for a new one: `vini node token --site SITE`."
    if row is None:
        raise Denied(f"This join token is wrong: was all of it copied? {ask}")
    if row.used is not None:
        raise Denied(f"This join token was used already, and is good for one machine. {ask}")
    raise Denied(f"This join token has expired. {ask}")


def _new(prefix: str) -> str:
    return prefix + secrets.token_urlsafe(32)  # 256 bits


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()


def _shown() -> Select[Any]:
    shown = (c for c in tokens.c if c.name not in ("person_id", "secret"))
    return select(*shown, persons_table.c.email.label("person")).select_from(tokens.join(persons_table))


def _token(row: AnyRow) -> Token:
    return Token(**{**row._mapping, "scopes": tuple(row.scopes.split())})
