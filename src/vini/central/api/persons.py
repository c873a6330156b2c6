"""Persons and their roles."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Query, Response
from msgspec import UNSET

from vini.central import passwords
from vini.central.api.call import Asked, Cursor, Like, Limit, PersonName, paged
from vini.central.api.describe import body, route, routes
from vini.model import Conflict
from vini.rules import EVERYWHERE, Caller, Target, may, of_person, of_site, seen
from vini.rules.access import may_at_all_sites, may_begin
from vini.rules.caller import Role
from vini.rules.nouns import Person
from vini.rules.wishes import ChangePerson, Grant, NewPerson, Page
from vini.rules.words import LOGIN_BASE
from vini.store import persons, roles, sites, tokens
from vini.store.database import Tx

router = routes("persons")


@route(router, "GET", "/persons", gives=Page[Person])
def list_persons(
    call: Asked,
    limit: Limit = 100,
    cursor: Cursor = "",
    email: Like = "",
    site: Like = "",
    enabled: bool | None = None,
) -> Response:
    """The accounts that the caller may see, by address: his own, and those of sites where he is PI or tech."""

    def ask(tx: Tx, caller: Caller) -> Page[Person]:
        of = None if caller.is_admin else caller.sites("pi", "tech")
        found = persons.some(tx, cursor or None, limit, email, site, enabled, of, caller.email)
        return paged(found, "email")

    return call.read(ask)


@route(router, "GET", "/persons/{email}", gives=Person)
def get_person(call: Asked, email: PersonName) -> Response:
    """One account."""
    return call.read(lambda tx, caller: _seen(tx, caller, email))


@route(router, "POST", "/persons", takes=NewPerson, gives=Person, status=201)
def add_person(call: Asked, wish: Annotated[NewPerson, Depends(body(NewPerson))]) -> Response:
    """A new account, with a role at a site; without a site only as an admin."""
    kept = "" if wish.password is UNSET else passwords.hashed(str(wish.password))

    def do(tx: Tx, caller: Caller) -> Person:
        site = EVERYWHERE if wish.site is UNSET else str(wish.site)
        at = of_site(site) if site else Target("site", "everywhere")
        may(caller, "add person", at)
        person = persons.add(tx, wish.email, wish.name, kept)
        if site or wish.role == "admin":
            may(caller, f"grant {wish.role}", at)
            roles.grant(tx, person.id, wish.role, site)
        return persons.get(tx, wish.email)

    return call.write("add person", "person", wish.email.lower(), do, 201)


@route(router, "PATCH", "/persons/{email}", takes=ChangePerson, gives=Person)
def change_person(
    call: Asked, email: PersonName, wish: Annotated[ChangePerson, Depends(body(ChangePerson))]
) -> Response:
    """Change what is named of an account; another password ends its sessions."""
    values: dict[str, Any] = {} if wish.name is UNSET else {"name": wish.name}
    if wish.password is not UNSET:
        values["password"] = passwords.hashed(str(wish.password))

    def do(tx: Tx, caller: Caller) -> Person:
        person = _seen(tx, caller, email)
        if values or wish.enabled is UNSET:
            may(caller, "change person", of_person(person))
        if wish.enabled is not UNSET:
            may_at_all_sites(caller, "enable person", person, "enable" if wish.enabled else "disable")
            values["enabled"] = wish.enabled
        call.same(person)
        changed = persons.change(tx, email, values)
        if "password" in values or not changed.enabled:
            tokens.delete_sessions(tx, person.email)
        _keep_an_admin(tx, person)
        return changed

    return call.write("change person", "person", email.lower(), do)


@route(router, "DELETE", "/persons/{email}", status=204)
def delete_person(call: Asked, email: PersonName) -> Response:
    """An account, with its keys, tokens and memberships."""

    def do(tx: Tx, caller: Caller) -> None:
        person = _seen(tx, caller, email)
        may(caller, "delete person", of_person(person))
        call.same(person)
        persons.delete(tx, email)
        _keep_an_admin(tx, person)

    return call.write("delete person", "person", email.lower(), do)


@route(router, "POST", "/persons/{email}/roles", takes=Grant, gives=Person, status=200)
def grant_role(call: Asked, email: PersonName, wish: Annotated[Grant, Depends(body(Grant))]) -> Response:
    """Give somebody a role at a site, or, as an admin, that of an admin."""
    site = EVERYWHERE if wish.site is UNSET else str(wish.site)

    def do(tx: Tx, caller: Caller) -> Person:
        if site:
            sites.get(tx, site)
        may(caller, f"grant {wish.role}", of_site(site) if site else Target("site", "everywhere"))
        person = persons.get(tx, email, lock=True)
        may_begin(caller, person)
        roles.grant(tx, person.id, wish.role, site)
        return persons.get(tx, email)

    return call.write(f"grant {wish.role}", "person", email.lower(), do)


@route(router, "DELETE", "/persons/{email}/roles/{role}", gives=Person)
def revoke_role(
    call: Asked,
    email: PersonName,
    role: Role,
    site: Annotated[str, Query(pattern=f"{LOGIN_BASE}|^$", description="Where; of an admin: nowhere.")] = "",
) -> Response:
    """Take a role from somebody."""

    def do(tx: Tx, caller: Caller) -> Person:
        may(caller, f"grant {role}", of_site(site) if site else Target("site", "everywhere"))
        person = persons.get(tx, email, lock=True)
        call.same(person)
        roles.revoke(tx, person.id, role, site)
        _keep_an_admin(tx, person)
        return persons.get(tx, email)

    return call.write(f"revoke {role}", "person", email.lower(), do)


def _seen(tx: Tx, caller: Caller, email: str) -> Person:
    """Raises NotFound where he may not know of him."""
    person = persons.get(tx, email)
    seen(caller, of_person(person))
    return person


def _keep_an_admin(tx: Tx, before: Person) -> None:
    """Raises Conflict where the last one would be gone: nobody could make another."""
    if persons.is_admin(before) and not persons.any_admin(tx):
        raise Conflict(f"{before.email} is the last admin; make somebody else an admin first.")
