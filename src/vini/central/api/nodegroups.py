"""Nodegroups: all nodes whose tag has a value."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Response

from vini.central.api.call import Asked, Cursor, Limit, WordName, part
from vini.central.api.describe import body, route, routes
from vini.rules import Caller, Target, may
from vini.rules.nouns import NodeGroup
from vini.rules.wishes import NewNodeGroup, Page
from vini.store import nodegroups
from vini.store.database import Tx

router = routes("nodegroups")


@route(router, "GET", "/nodegroups", gives=Page[NodeGroup])
def list_nodegroups(call: Asked, limit: Limit = 1000, cursor: Cursor = "") -> Response:
    """All nodegroups with the nodes that are in them now, by name."""

    def ask(tx: Tx, caller: Caller) -> Page[NodeGroup]:
        may(caller, "see nodegroup", Target("nodegroup", "any"))
        return part(nodegroups.all(tx), "name", cursor, limit)

    return call.read(ask)


@route(router, "POST", "/nodegroups", takes=NewNodeGroup, gives=NodeGroup, status=201)
def add_nodegroup(call: Asked, wish: Annotated[NewNodeGroup, Depends(body(NewNodeGroup))]) -> Response:
    """A new nodegroup."""

    def do(tx: Tx, caller: Caller) -> NodeGroup:
        may(caller, "change nodegroup", Target("nodegroup", wish.name))
        return nodegroups.add(tx, wish.name, wish.tag, wish.value)

    return call.write("change nodegroup", "nodegroup", wish.name, do, 201)


@route(router, "DELETE", "/nodegroups/{name}", status=204)
def delete_nodegroup(call: Asked, name: WordName) -> Response:
    """A nodegroup, with the tags that slices have in it."""

    def do(tx: Tx, caller: Caller) -> None:
        may(caller, "change nodegroup", Target("nodegroup", name))
        call.same(nodegroups.get(tx, name))
        nodegroups.delete(tx, name)

    return call.write("change nodegroup", "nodegroup", name, do)
