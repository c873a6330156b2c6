"""Sites."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Response
from msgspec import UNSET
from msgspec.structs import asdict

from vini.central.api.call import Asked, Cursor, Like, Limit, SiteName, paged
from vini.central.api.describe import body, route, routes
from vini.rules import Caller, may, of_site
from vini.rules.nouns import Site
from vini.rules.quota import Taken
from vini.rules.wishes import ChangeSite, NewSite, Page
from vini.store import sites, takings
from vini.store.database import Tx

router = routes("sites")
_OPEN = {"name", "latitude", "longitude"}  # what a PI may change; the rest is quota


@route(router, "GET", "/sites", gives=Page[Site])
def list_sites(
    call: Asked, limit: Limit = 100, cursor: Cursor = "", name: Like = "", enabled: bool | None = None
) -> Response:
    """Sites by name."""

    def ask(tx: Tx, caller: Caller) -> Page[Site]:
        may(caller, "see site", of_site("any"))
        return paged(sites.some(tx, cursor or None, limit, name, enabled), "login_base")

    return call.read(ask)


@route(router, "GET", "/sites/{login_base}", gives=Site)
def get_site(call: Asked, login_base: SiteName) -> Response:
    """One site."""

    def ask(tx: Tx, caller: Caller) -> Site:
        may(caller, "see site", of_site(login_base))
        return sites.get(tx, login_base)

    return call.read(ask)


@route(router, "GET", "/sites/{login_base}/taken", gives=Taken)
def get_site_taken(call: Asked, login_base: SiteName) -> Response:
    """What all slices of a site take together of its quota."""

    def ask(tx: Tx, caller: Caller) -> Taken:
        may(caller, "see site", of_site(login_base))
        return takings.of_site(tx, sites.number(tx, login_base))

    return call.read(ask)


@route(router, "POST", "/sites", takes=NewSite, gives=Site, status=201)
def add_site(call: Asked, wish: Annotated[NewSite, Depends(body(NewSite))]) -> Response:
    """A new site."""

    def do(tx: Tx, caller: Caller) -> Site:
        may(caller, "add site", of_site(wish.login_base))
        return sites.add(tx, wish)

    return call.write("add site", "site", wish.login_base, do, 201)


@route(router, "PATCH", "/sites/{login_base}", takes=ChangeSite, gives=Site)
def change_site(call: Asked, login_base: SiteName, wish: Annotated[ChangeSite, Depends(body(ChangeSite))]) -> Response:
    """Change what is named of a site; quotas and whether it is enabled only as an admin."""

    def do(tx: Tx, caller: Caller) -> Site:
        values = {k: v for k, v in asdict(wish).items() if v is not UNSET}
        site = sites.get(tx, login_base, lock=True)
        may(caller, "change site" if values.keys() <= _OPEN else "set quota of site", of_site(login_base))
        call.same(site)
        return sites.change(tx, login_base, values)

    return call.write("change site", "site", login_base, do)


@route(router, "DELETE", "/sites/{login_base}", status=204)
def delete_site(call: Asked, login_base: SiteName) -> Response:
    """A site without nodes and slices."""

    def do(tx: Tx, caller: Caller) -> None:
        may(caller, "delete site", of_site(login_base))
        call.same(sites.get(tx, login_base, lock=True))
        sites.delete(tx, login_base)

    return call.write("delete site", "site", login_base, do)
