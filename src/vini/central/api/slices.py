"""Slices: whose they are and until when.  What is asked of them is `desired.py`."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Response
from msgspec import UNSET
from msgspec.structs import asdict

from vini.central.api.call import Asked, Cursor, Like, Limit, PersonName, SliceName, paged
from vini.central.api.describe import body, route, routes
from vini.central.slice_rows import seen
from vini.rules import Caller, Invalid, expiry, may, of_site, of_slice
from vini.rules.nouns import Guest, Slice
from vini.rules.wishes import ChangeSlice, Invitation, NewSlice, Page, Renewal
from vini.rules.words import site_of
from vini.store import guests, members, sites, slices, takings
from vini.store.database import Tx

router = routes("slices")


@route(router, "GET", "/slices", gives=Page[Slice])
def list_slices(
    call: Asked, limit: Limit = 100, cursor: Cursor = "", name: Like = "", site: Like = "", member: Like = ""
) -> Response:
    """The slices that the caller may see, by name: his own, and those of sites where he is PI or tech."""

    def ask(tx: Tx, caller: Caller) -> Page[Slice]:
        return paged(slices.some(tx, cursor or None, limit, name, site, member, caller), "name")

    return call.read(ask)


@route(router, "GET", "/slices/{name}", gives=Slice)
def get_slice(call: Asked, name: SliceName) -> Response:
    """One slice."""
    return call.read(lambda tx, caller: seen(tx, caller, name).shown)


@route(router, "POST", "/slices", takes=NewSlice, gives=Slice, status=201)
def add_slice(call: Asked, wish: Annotated[NewSlice, Depends(body(NewSlice))]) -> Response:
    """A new slice, with its creator and others as members; it lives for two weeks, and longer when it is renewed."""

    def do(tx: Tx, caller: Caller) -> Slice:
        site = sites.get(tx, site_of(wish.name), lock=True)
        may(caller, "create slice", of_site(site.login_base))
        if not site.enabled:
            raise Invalid(f"Site {site.login_base!r} is disabled; ask an admin to enable it.")
        row = slices.add(tx, wish.name, caller.email, call.now, wish.description, wish.url)
        for email in (caller.email, *wish.members):
            members.add(tx, row.id, email)
        return slices.get(tx, wish.name).shown

    return call.write("create slice", "slice", wish.name, do, 201)


@route(router, "PATCH", "/slices/{name}", takes=ChangeSlice, gives=Slice)
def change_slice(call: Asked, name: SliceName, wish: Annotated[ChangeSlice, Depends(body(ChangeSlice))]) -> Response:
    """Change what is named of a slice; how many slivers it may have only as an admin."""

    def do(tx: Tx, caller: Caller) -> Slice:
        row = seen(tx, caller, name, lock=True)
        may(caller, "change slice" if wish.max_slivers is UNSET else "set quota of slice", of_slice(row))
        call.same(row.shown)
        return slices.change(tx, name, {k: v for k, v in asdict(wish).items() if v is not UNSET}).shown

    return call.write("change slice", "slice", name, do)


@route(router, "POST", "/slices/{name}/renewals", takes=Renewal, gives=Slice)
def renew_slice(call: Asked, name: SliceName, wish: Annotated[Renewal, Depends(body(Renewal))]) -> Response:
    """Let a slice live longer: up to eight weeks from now.  It needs a description and a URL."""

    def do(tx: Tx, caller: Caller) -> Slice:
        takings.turn(tx)
        row = seen(tx, caller, name, lock=True)
        may(caller, "renew slice", of_slice(row))
        until = call.now + expiry.AHEAD_S if wish.expires is UNSET else float(wish.expires)
        return slices.renew(tx, name, call.now, until).shown

    return call.write("renew slice", "slice", name, do)


@route(router, "DELETE", "/slices/{name}", status=204)
def delete_slice(call: Asked, name: SliceName) -> Response:
    """End a slice on all its nodes, and forget it."""

    def do(tx: Tx, caller: Caller) -> None:
        row = seen(tx, caller, name, lock=True)
        may(caller, "delete slice", of_slice(row))
        call.same(row.shown)
        slices.delete(tx, name)

    return call.write("delete slice", "slice", name, do)


@route(router, "PUT", "/slices/{name}/members/{email}", gives=Slice)
def add_member(call: Asked, name: SliceName, email: PersonName) -> Response:
    """Let somebody use a slice."""

    def do(tx: Tx, caller: Caller) -> Slice:
        row = seen(tx, caller, name, lock=True)
        may(caller, "change members of slice", of_slice(row))
        members.add(tx, row.id, email)
        return slices.get(tx, name).shown

    return call.write("add member", "slice", name, do)


@route(router, "DELETE", "/slices/{name}/members/{email}", gives=Slice)
def remove_member(call: Asked, name: SliceName, email: PersonName) -> Response:
    """Somebody may not use a slice any more."""

    def do(tx: Tx, caller: Caller) -> Slice:
        row = seen(tx, caller, name, lock=True)
        may(caller, "change members of slice", of_slice(row))
        call.same(row.shown)
        members.remove(tx, row.id, email)
        return slices.get(tx, name).shown

    return call.write("remove member", "slice", name, do)


@route(router, "PUT", "/slices/{name}/guests/{email}", takes=Invitation, gives=Slice)
def invite_guest(
    call: Asked, name: SliceName, email: PersonName, wish: Annotated[Invitation, Depends(body(Invitation))]
) -> Response:
    """Let somebody into a slice's slivers, or some of them, for a time: by SSH and commands, not to change it."""

    def do(tx: Tx, caller: Caller) -> Slice:
        row = seen(tx, caller, name, lock=True)
        may(caller, "invite to slice", of_slice(row))
        until = 0.0 if wish.until is UNSET else float(wish.until)
        if until and until <= call.now:
            raise Invalid("That time is over; say until when he may come in, or leave it out.")
        guests.put(tx, row.id, Guest(email.lower(), tuple(dict.fromkeys(wish.slivers)), until, caller.email))
        return slices.get(tx, name).shown

    return call.write("invite guest", "slice", name, do)


@route(router, "DELETE", "/slices/{name}/guests/{email}", gives=Slice)
def remove_guest(call: Asked, name: SliceName, email: PersonName) -> Response:
    """A guest may not come in any more, and is put out."""

    def do(tx: Tx, caller: Caller) -> Slice:
        row = seen(tx, caller, name, lock=True)
        may(caller, "invite to slice", of_slice(row))
        call.same(row.shown)
        guests.remove(tx, row.id, email)
        return slices.get(tx, name).shown

    return call.write("remove guest", "slice", name, do)
