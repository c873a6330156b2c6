"""What slices used, summed up: of a slice, a sliver, a site, a person responsible, or a node."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Response

from vini.central.api.call import Asked, Cursor, Like, Limit
from vini.central.api.describe import route, routes
from vini.rules import Caller, Target, may
from vini.rules.nouns import UsageRow
from vini.rules.usage import Per, UsageAsked, of_one, wanted
from vini.rules.wishes import Page
from vini.store import usage
from vini.store.database import Tx
from vini.usage import DAY_S

router = routes("usage")
DayText = Annotated[str, Query(pattern=r"^([0-9]{4}-[0-9]{2}-[0-9]{2})?$", description="A day of UTC, 2026-11-29.")]


@route(router, "GET", "/usage", gives=Page[UsageRow])
def list_usage(
    call: Asked,
    limit: Limit = 100,
    cursor: Cursor = "",
    per: Per = "slice",
    daily: bool = False,
    since: DayText = "",
    until: DayText = "",
    slice_: Annotated[Like, Query(alias="slice")] = "",
    site: Like = "",
    person: Like = "",
    node: Like = "",
) -> Response:
    """Network, CPU, memory and disk that were used in these days (the last 30), of slices that the caller may see or is
    responsible for, or of his site's as its PI or technical contact; an admin's: all.
    Per sliver of one slice only, and of at most 31 days."""

    def ask(tx: Tx, caller: Caller) -> Page[UsageRow]:
        may(caller, "see usage", Target("usage", "any"))
        today = int(call.now) // DAY_S
        asked = UsageAsked(per, daily, since, until, slice_, site, person, node)
        return Page(*usage.some(tx, wanted(of_one(asked), today), cursor, limit, caller))

    return call.read(ask)
