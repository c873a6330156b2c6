"""Nodes: they join by themselves (`join.py`); here they are looked at, switched, and deleted."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Response

from vini.central.api.call import Asked, Cursor, Like, Limit, NodeName, paged
from vini.central.api.describe import body, route, routes
from vini.rules import Caller, Target, may, of_node
from vini.rules.nouns import InterfaceRow, NodeRow, NodeWays, Way
from vini.rules.wishes import ChangeNode, Page
from vini.store import interfaces, latencies, nodes
from vini.store.database import Tx

router = routes("nodes")


@route(router, "GET", "/nodes", gives=Page[NodeRow])
def list_nodes(
    call: Asked, limit: Limit = 100, cursor: Cursor = "", name: Like = "", site: Like = "", boot_state: Like = ""
) -> Response:
    """Nodes by name."""

    def ask(tx: Tx, caller: Caller) -> Page[NodeRow]:
        may(caller, "see node", Target("node", "any"))
        rows, more = nodes.some(tx, cursor or None, limit, name, site, boot_state)
        return paged((call.connected(rows), more), "name")

    return call.read(ask)


@route(router, "GET", "/node-ways", gives=Page[NodeWays])
def list_node_ways(call: Asked, limit: Limit = 100, cursor: Cursor = "", name: Like = "") -> Response:
    """How far nodes are from each other, as they measured it; by name."""

    def ask(tx: Tx, caller: Caller) -> Page[NodeWays]:
        may(caller, "see node", Target("node", "any"))
        rows, more = nodes.some(tx, cursor or None, limit, name)
        found: dict[str, dict[str, Way]] = {row.name: {} for row in rows}
        for (a, b), m in latencies.all(tx, call.now).items():
            for one, other in ((a, b), (b, a)):
                if one in found:
                    found[one][other] = Way(m.rtt_us / 1000, m.at)
        return paged(([NodeWays(name, ways) for name, ways in found.items()], more), "name")

    return call.read(ask)


@route(router, "GET", "/nodes/{name}", gives=NodeRow)
def get_node(call: Asked, name: NodeName) -> Response:
    """One node."""

    def ask(tx: Tx, caller: Caller) -> NodeRow:
        may(caller, "see node", Target("node", name))
        return call.connected([nodes.get(tx, name)])[0]

    return call.read(ask)


@route(router, "GET", "/nodes/{name}/interfaces", gives=Page[InterfaceRow])
def list_interfaces_of_node(call: Asked, name: NodeName, limit: Limit = 100, cursor: Cursor = "") -> Response:
    """The network interfaces of a node's machine, by name."""

    def ask(tx: Tx, caller: Caller) -> Page[InterfaceRow]:
        may(caller, "see node", Target("node", name))
        nodes.number(tx, name)  # else there were just none
        return paged(interfaces.some(tx, cursor or None, limit, name), "key")

    return call.read(ask)


@route(router, "GET", "/interfaces", gives=Page[InterfaceRow])
def list_interfaces(
    call: Asked, limit: Limit = 100, cursor: Cursor = "", node: Like = "", name: Like = ""
) -> Response:  # fmt: skip
    """The network interfaces of nodes' machines, by node and name."""

    def ask(tx: Tx, caller: Caller) -> Page[InterfaceRow]:
        may(caller, "see node", Target("node", "any"))
        return paged(interfaces.some(tx, cursor or None, limit, node, name), "key")

    return call.read(ask)


@route(router, "PATCH", "/nodes/{name}", takes=ChangeNode, gives=NodeRow)
def change_node(call: Asked, name: NodeName, wish: Annotated[ChangeNode, Depends(body(ChangeNode))]) -> Response:
    """Set a node's boot state; one that is disabled is cut off, one in reinstall may join anew with another key."""

    def do(tx: Tx, caller: Caller) -> NodeRow:
        node = nodes.get(tx, name, lock=True)
        may(caller, "change node", of_node(node))
        call.same(node)
        return nodes.set_state(tx, name, wish.boot_state)

    return call.write("change node", "node", name, do)


@route(router, "DELETE", "/nodes/{name}", status=204)
def delete_node(call: Asked, name: NodeName) -> Response:
    """A node, with its tags and leases; what slices have on it is lost."""

    def do(tx: Tx, caller: Caller) -> None:
        node = nodes.get(tx, name, lock=True)
        may(caller, "delete node", of_node(node))
        call.same(node)
        nodes.delete(tx, name)

    return call.write("delete node", "node", name, do)
