"""The substrate: links between nodes and sites that operators declare, and take down for maintenance."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Response
from msgspec import UNSET
from msgspec.structs import asdict

from vini.central.api.call import Asked, Cursor, Limit, WordName, part
from vini.central.api.describe import body, route, routes
from vini.rules import Caller, Target, may
from vini.rules.nouns import SubstrateLink
from vini.rules.substrate import SITE
from vini.rules.wishes import ChangeSubstrateLink, NewSubstrateLink, Page
from vini.store import nodes, substrate, takings
from vini.store.database import Tx

router = routes("substrate")
_KIND = "substrate link"


@route(router, "GET", "/substrate-links", gives=Page[SubstrateLink])
def list_substrate_links(call: Asked, limit: Limit = 1000, cursor: Cursor = "") -> Response:
    """All, by name."""

    def ask(tx: Tx, caller: Caller) -> Page[SubstrateLink]:
        may(caller, "see substrate link", Target(_KIND, "any"))
        return part(substrate.all(tx), "name", cursor, limit)

    return call.read(ask)


@route(router, "GET", "/substrate-links/{name}", gives=SubstrateLink)
def get_substrate_link(call: Asked, name: WordName) -> Response:
    """One link of the substrate."""

    def ask(tx: Tx, caller: Caller) -> SubstrateLink:
        may(caller, "see substrate link", Target(_KIND, name))
        return substrate.get(tx, name)

    return call.read(ask)


@route(router, "POST", "/substrate-links", takes=NewSubstrateLink, gives=SubstrateLink, status=201)
def add_substrate_link(call: Asked, wish: Annotated[NewSubstrateLink, Depends(body(NewSubstrateLink))]) -> Response:
    """Declare a link between two nodes or sites; what rides between them rides on it from now on."""

    def do(tx: Tx, caller: Caller) -> SubstrateLink:
        may(caller, "add substrate link", Target(_KIND, wish.name))
        takings.turn(tx)
        before = substrate.picture(tx)
        made = substrate.add(tx, wish)
        substrate.settle(tx, before)
        return made

    return call.write("add substrate link", _KIND, wish.name, do, 201)


@route(router, "PATCH", "/substrate-links/{name}", takes=ChangeSubstrateLink, gives=SubstrateLink)
def change_substrate_link(
    call: Asked, name: WordName, wish: Annotated[ChangeSubstrateLink, Depends(body(ChangeSubstrateLink))]
) -> Response:
    """Take a link down, saying why, or ("") up again: what rides on it fails and comes back within a second.  What it
    carries and how long that takes only as an admin."""

    def do(tx: Tx, caller: Caller) -> SubstrateLink:
        values = {k: v for k, v in asdict(wish).items() if v is not UNSET}
        takings.turn(tx)
        link = substrate.get(tx, name)
        may(caller, "switch substrate link" if values.keys() <= {"down"} else "change substrate link", _of(tx, link))
        call.same(link)
        before = substrate.picture(tx)
        made = substrate.change(tx, name, values, call.now)
        substrate.settle(tx, before)
        return made

    return call.write("change substrate link", _KIND, name, do)


@route(router, "DELETE", "/substrate-links/{name}", status=204)
def delete_substrate_link(call: Asked, name: WordName) -> Response:
    """Declare a link no more; what rode on it is as if there were none."""

    def do(tx: Tx, caller: Caller) -> None:
        takings.turn(tx)
        link = substrate.get(tx, name)
        may(caller, "delete substrate link", _of(tx, link))
        call.same(link)
        before = substrate.picture(tx)
        substrate.delete(tx, name)
        substrate.settle(tx, before)

    return call.write("delete substrate link", _KIND, name, do)


def _of(tx: Tx, link: SubstrateLink) -> Target:
    """Roles count at the sites of both ends."""
    sites = {e.removeprefix(SITE) if e.startswith(SITE) else nodes.get(tx, e).site for e in (link.a, link.b)}
    return Target(_KIND, link.name, frozenset(sites))
