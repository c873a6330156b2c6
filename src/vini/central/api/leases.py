"""Leases: a node for one slice, for whole hours."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Response

from vini.central.api.call import Asked, Cursor, Like, Limit, Number, number, paged
from vini.central.api.describe import body, route, routes
from vini.central.slice_rows import seen
from vini.rules import Caller, Target, may, of_slice
from vini.rules import leases as rules
from vini.rules.nouns import Lease
from vini.rules.wishes import NewLease, Page
from vini.store import events, leases, slices, takings
from vini.store.database import Tx

router = routes("leases")


@route(router, "GET", "/leases", gives=Page[Lease])
def list_leases(
    call: Asked,
    limit: Limit = 100,
    cursor: Cursor = "",
    slice: Like = "",  # noqa: A002
    node: Like = "",
    since: Annotated[float | None, Query(description="Only those that end later; unset: than now.")] = None,
) -> Response:
    """Leases by number; who has a node is no secret."""

    def ask(tx: Tx, caller: Caller) -> Page[Lease]:
        may(caller, "see lease", Target("lease", "any"))
        after = call.now if since is None else since
        return paged(leases.some(tx, number(cursor), limit, slice_=slice, node=node, since=after), "id")

    return call.read(ask)


@route(router, "POST", "/leases", takes=NewLease, gives=Lease, status=201)
def add_lease(call: Asked, wish: Annotated[NewLease, Depends(body(NewLease))]) -> Response:
    """A node for a slice, and for no other; the start is rounded up to a whole hour, the end down."""

    def do(tx: Tx, caller: Caller) -> Lease:
        may(caller, "lease node", of_slice(seen(tx, caller, wish.slice)))
        lease = leases.add(tx, wish.slice, wish.node, wish.start, wish.end, call.now)
        _settle(tx, call.now, caller, wish.node)
        return lease

    return call.write("lease node", "slice", wish.slice, do, 201)


@route(router, "DELETE", "/leases/{number}", status=204)
def end_lease(call: Asked, number: Number) -> Response:
    """Give the node back; slivers of other slices stay there as long as leases of others let them."""

    def do(tx: Tx, caller: Caller) -> None:
        lease = leases.get(tx, number)
        may(caller, "end lease", of_slice(slices.get(tx, lease.slice)))
        call.same(lease)
        takings.turn(tx)
        leases.delete(tx, number)
        _settle(tx, call.now, caller, lease.node)

    return call.write("end lease", "lease", str(number), do)


def _settle(tx: Tx, now: float, caller: Caller, node: str) -> None:
    """Who stays on the node for another time than before is told of it."""
    for slice_, end in leases.settle(tx, node, now).items():
        detail = f"slivers on node {node} stay until {rules.moment(end)}, as its leases say"
        events.add(tx, at=now, who=caller.email, what="stay", kind="slice", target=slice_, detail=detail)
