"""Persons: accounts, by e-mail address; and what roles they have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import delete as delete_rows
from sqlalchemy import insert, select, update

from vini.model import Conflict, NotFound
from vini.rules.access import absent
from vini.rules.caller import EVERYWHERE
from vini.rules.nouns import Held, Person
from vini.store import authorized, roles
from vini.store.database import Tx
from vini.store.page import AnyRow, matches, page
from vini.store.tables import persons, sites
from vini.store.tables import roles as roles_table

_SHOWN = (persons.c.id, persons.c.email, persons.c.name, persons.c.enabled)


def add(tx: Tx, email: str, name: str = "", password_hash: str = "", enabled: bool = True) -> Person:
    """Raises Conflict where the address has an account."""
    email = email.lower()
    if tx.scalar(select(persons.c.id).where(persons.c.email == email)):
        raise Conflict(f"{email} has an account already; change that one.")
    tx.execute(insert(persons).values(email=email, name=name, password=password_hash, enabled=enabled))
    return get(tx, email)


def get(tx: Tx, email: str, lock: bool = False) -> Person:
    """Raises NotFound."""
    query = select(*_SHOWN).where(persons.c.email == email.lower())
    row = tx.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFound(absent("person", email))
    return _persons(tx, [row])[0]


def some(
    tx: Tx,
    after: str | None,
    limit: int,
    email: str = "",
    site: str = "",
    enabled: bool | None = None,
    of: Iterable[str] | None = None,
    self: str = "",
) -> tuple[list[Person], bool]:
    """One page by address, and whether more follow; with `of` only persons of those sites, and `self`."""
    query = select(*_SHOWN).where(matches(persons.c.email, email.lower()))
    if enabled is not None:
        query = query.where(persons.c.enabled.is_(enabled))
    if site:
        query = query.where(_at([site]))
    if of is not None:
        query = query.where(_at(of) | (persons.c.email == self))
    rows, more = page(tx, query, persons.c.email, after, limit)
    return _persons(tx, rows), more


def change(tx: Tx, email: str, values: dict[str, Any]) -> Person:
    """Columns -> what they are from now on; `password` is a hash."""
    if values:
        authorized.changed(tx)
        tx.execute(update(persons).where(persons.c.email == email.lower()).values(values))
    return get(tx, email)


def delete(tx: Tx, email: str) -> None:
    """With his roles, keys, tokens and memberships."""
    authorized.changed(tx)
    tx.execute(delete_rows(persons).where(persons.c.id == number(tx, email)))


def number(tx: Tx, email: str) -> int:
    """The person's id.  Raises NotFound."""
    found = tx.scalar(select(persons.c.id).where(persons.c.email == email.lower()))
    if found is None:
        raise NotFound(absent("person", email))
    return int(found)


def password_hash(tx: Tx, email: str) -> str:
    """What his password was hashed to; "" where no password fits, or nobody has this address."""
    query = select(persons.c.password).where(persons.c.email == email.lower(), persons.c.enabled)
    return tx.scalar(query) or ""


def any_admin(tx: Tx) -> bool:
    """Whether somebody may administer this testbed."""
    join = roles_table.join(persons)
    admins = select(persons.c.id).select_from(join).where(roles_table.c.role == "admin", persons.c.enabled)
    return tx.scalar(admins.limit(1)) is not None


def _at(login_bases: Iterable[str]) -> Any:
    join = roles_table.join(sites, sites.c.id == roles_table.c.site_id)
    return persons.c.id.in_(
        select(roles_table.c.person_id).select_from(join).where(sites.c.login_base.in_(list(login_bases)))
    )


def _persons(tx: Tx, rows: Iterable[AnyRow]) -> list[Person]:
    found = list(rows)
    held = roles.of(tx, [row.id for row in found])
    return [
        Person(r.id, r.email, r.name, r.enabled, tuple(Held(*h) for h in sorted(held.get(r.id, ())))) for r in found
    ]


def is_admin(person: Person) -> bool:
    """Whether he may do everything."""
    return Held("admin", EVERYWHERE) in person.roles
