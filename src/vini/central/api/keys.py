"""Public SSH keys."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Response
from msgspec.structs import replace

from vini.central.api.call import Asked, Cursor, Limit, Number, PersonName, part
from vini.central.api.describe import body, route, routes
from vini.rules import Caller, Target, may, of_person, seen
from vini.rules.nouns import Key
from vini.rules.wishes import NewKey, Page
from vini.store import keys, persons
from vini.store.database import Tx

router = routes("keys")


@route(router, "GET", "/persons/{email}/keys", gives=Page[Key])
def list_keys(call: Asked, email: PersonName, limit: Limit = 1000, cursor: Cursor = "") -> Response:
    """Somebody's keys, the oldest first."""

    def ask(tx: Tx, caller: Caller) -> Page[Key]:
        person = persons.get(tx, email)
        seen(caller, of_person(person))
        return part(keys.of(tx, [person.email]), "id", cursor, limit)

    return call.read(ask)


@route(router, "POST", "/persons/{email}/keys", takes=NewKey, gives=Key, status=201)
def add_key(call: Asked, email: PersonName, wish: Annotated[NewKey, Depends(body(NewKey))]) -> Response:
    """A key with which he comes into his slices."""

    def do(tx: Tx, caller: Caller) -> Key:
        person = persons.get(tx, email)
        seen(caller, of_person(person))
        may(caller, "add key", of_person(person))
        return keys.add(tx, person.email, wish.key)

    return call.write("add key", "person", email.lower(), do, 201)


@route(router, "DELETE", "/keys/{number}", status=204)
def delete_key(call: Asked, number: Number) -> Response:
    """He can't come in with it any more."""

    def do(tx: Tx, caller: Caller) -> None:
        key = keys.get(tx, number)
        target = replace(of_person(persons.get(tx, key.person)), kind="key", name=str(number))
        seen(caller, target)
        may(caller, "delete key", target)
        call.same(key)
        keys.delete(tx, number)

    return call.write("delete key", "key", str(number), do)


@route(router, "GET", "/key-blacklist", gives=Page[str])
def list_blacklist(call: Asked, limit: Limit = 1000, cursor: Cursor = "") -> Response:
    """The keys that nobody may have."""

    def ask(tx: Tx, caller: Caller) -> Page[str]:
        may(caller, "blacklist key", Target("key", "any"))
        return part(keys.blacklisted(tx), "", cursor, limit)

    return call.read(ask)


@route(router, "POST", "/key-blacklist", takes=NewKey, status=204)
def blacklist_key(call: Asked, wish: Annotated[NewKey, Depends(body(NewKey))]) -> Response:
    """Take a key from whoever has it, for ever."""

    def do(tx: Tx, caller: Caller) -> None:
        may(caller, "blacklist key", Target("key", "this"))
        keys.blacklist(tx, wish.key)

    return call.write("blacklist key", "key", keys.split(wish.key)[0][-40:], do)
