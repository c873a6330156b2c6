"""Tags of nodes, slices, slices in a nodegroup, and slivers."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Response
from msgspec import UNSET

from vini.central.api.call import Asked, Cursor, Like, Limit, NodeName, Number, SliceName, number, paged
from vini.central.api.describe import body, route, routes
from vini.central.slice_rows import seen
from vini.model import NotFound
from vini.rules import Caller, Target, allows, may, of_node, of_slice
from vini.rules.access import absent
from vini.rules.nouns import Tag
from vini.rules.wishes import NewTag, Page
from vini.store import nodes, slices, tags
from vini.store.database import Tx

router = routes("tags")


@route(router, "GET", "/tags", gives=Page[Tag])
def list_tags(
    call: Asked,
    limit: Limit = 100,
    cursor: Cursor = "",
    name: Like = "",
    slice: Like = "",  # noqa: A002
    node: Like = "",
    nodegroup: Like = "",
) -> Response:
    """Tags by number, without those of slices that the caller may not see."""

    def ask(tx: Tx, caller: Caller) -> Page[Tag]:
        may(caller, "see node", Target("node", "any"))
        found = tags.some(
            tx, number(cursor), limit, name=name, slice_=slice, node=node, nodegroup=nodegroup, caller=caller
        )
        return paged(found, "id")

    return call.read(ask)


@route(router, "POST", "/tags", takes=NewTag, gives=Tag)
def put_tag(call: Asked, wish: Annotated[NewTag, Depends(body(NewTag))]) -> Response:
    """Give a tag this value, whether or not it had one."""
    slice_, node, nodegroup = ("" if v is UNSET else str(v) for v in (wish.slice, wish.node, wish.nodegroup))

    def do(tx: Tx, caller: Caller) -> Tag:
        _may_tag(tx, caller, slice_, node)
        return tags.put(tx, wish.name, wish.value, slice_=slice_, node=node, nodegroup=nodegroup)

    return call.write("tag slice" if slice_ else "tag node", "slice" if slice_ else "node", slice_ or node, do)


@route(router, "DELETE", "/tags/{number}", status=204)
def delete_tag(call: Asked, number: Number) -> Response:
    """A tag."""

    def do(tx: Tx, caller: Caller) -> None:
        tag = tags.get(tx, number)
        if tag.slice and not allows(caller, "see slice", of_slice(slices.get(tx, tag.slice))):
            raise NotFound(absent("tag", str(number)))
        _may_tag(tx, caller, tag.slice, tag.node)
        call.same(tag)
        tags.delete(tx, number)

    return call.write("delete tag", "tag", str(number), do)


@route(router, "GET", "/slices/{name}/nodes/{node}/tags", gives=dict[str, str])
def get_sliver_tags(call: Asked, name: SliceName, node: NodeName) -> Response:
    """The tags that hold for a slice on a node: those of the sliver go before its nodegroup's, and those before the
    slice's."""

    def ask(tx: Tx, caller: Caller) -> dict[str, str]:
        seen(tx, caller, name)
        nodes.get(tx, node)
        return tags.of_sliver(tx, name, node)

    return call.read(ask)


def _may_tag(tx: Tx, caller: Caller, slice_: str, node: str) -> None:
    if slice_:
        may(caller, "tag slice", of_slice(seen(tx, caller, slice_)))
    elif node:
        may(caller, "tag node", of_node(nodes.get(tx, node)))
