"""Events: what was asked for and what came of it; as a list, and as a stream of server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from fastapi import Header, Query, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from vini.central.api.call import Asked, Call, Cursor, Like, Limit, number, paged
from vini.central.api.describe import route, routes
from vini.model import ViniError
from vini.rules import Caller, Target, may
from vini.rules.nouns import Event
from vini.rules.wishes import Page
from vini.store import events, tokens
from vini.store.database import Tx

router = routes("events")
_LOOK_S = 0.25
_QUIET_S = 15.0  # then a line of comment goes out, so that nobody on the way takes the connection for dead


@route(router, "GET", "/events", gives=Page[Event])
def list_events(
    call: Asked,
    limit: Limit = 100,
    cursor: Cursor = "",
    who: Like = "",
    what: Like = "",
    kind: Like = "",
    target: Like = "",
) -> Response:
    """The newest first: the caller's own and those of slices that he may see; an admin's: all."""

    def ask(tx: Tx, caller: Caller) -> Page[Event]:
        may(caller, "see event", Target("event", "any"))
        found = events.some(tx, number(cursor), limit, who=who, what=what, kind=kind, target=target, caller=caller)
        return paged(found, "id")

    return call.read(ask)


@route(router, "GET", "/events/stream", gives=str, media="text/event-stream")
async def stream_events(
    call: Asked,
    last_event_id: Annotated[int | None, Header(ge=0, le=2**53, description="Begin after this one.")] = None,
    for_s: Annotated[float, Query(ge=0, le=3600, description="The stream ends after this time.")] = 3600.0,
) -> Response:
    """Events as they come (server-sent events); each has its number, after which a new stream begins."""
    follow = _Follow(call, last_event_id)
    await run_in_threadpool(follow.begin)
    return StreamingResponse(
        _lines(follow, for_s), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


class _Follow:
    """Where one stream is, as a place of the chain of events: nothing comes in below it any more."""

    def __init__(self, call: Call, after: int | None):
        self._call, self._after = call, after
        self._place = 0

    def begin(self) -> None:
        """Raises Unauthenticated or Denied."""
        with self._call.database.reading() as tx:
            caller = tokens.whose(tx, self._call.secret, self._call.now)
            may(caller, "see event", Target("event", "any"))
            self._place = events.place(tx, self._after)

    def look(self) -> list[Event]:
        """What is new.  Raises Unauthenticated as soon as the token is worth nothing any more."""
        with self._call.database.reading() as tx:
            caller = tokens.whose(tx, self._call.secret, self._call.clock())
            found, self._place = events.since(tx, self._place, caller)
        return found


async def _lines(follow: _Follow, for_s: float) -> AsyncIterator[str]:
    clock = asyncio.get_running_loop().time
    end, said = clock() + for_s, clock()
    yield ": events\n\n"
    while True:
        try:
            new = await run_in_threadpool(follow.look)
        except ViniError as e:
            yield f"event: fault\ndata: {msgspec.json.encode(str(e)).decode()}\n\n"
            return
        for event in new:
            yield f"id: {event.id}\nevent: {event.kind}\ndata: {msgspec.json.encode(event).decode()}\n\n"
        if clock() >= end:
            return
        if new:
            said = clock()
        elif clock() - said > _QUIET_S:
            yield ": still here\n\n"
            said = clock()
        await asyncio.sleep(min(_LOOK_S, end - clock()) if end > clock() else 0)
