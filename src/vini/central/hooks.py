"""Tells one program elsewhere of one event, by a POST that it can check (webhook)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import httpx
import msgspec

from vini.central.mailing import Unsent
from vini.rules import notices as rules
from vini.rules.nouns import Event

_TIMEOUT_S = 10.0  # for all of it


def post(hook: rules.Webhook, event: Event, now: float) -> None:
    """Raises Unsent unless the other side says 2xx.  Not inside a running loop: it has one of its own, since only that
    bounds the whole, however slowly somebody answers."""
    where = rules.shown(hook.url)
    try:
        status = _within_a_loop(_status(hook, event, now))
    except TimeoutError as e:
        raise Unsent(f"{where} does not answer within {_TIMEOUT_S:.0f} s.") from e
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as e:
        why = f"{e}".replace(hook.url, where) or type(e).__name__
        raise Unsent(f"{where} can't be told ({why}).") from e
    if 300 <= status < 400:
        raise Unsent(f"{where} answers with a redirection ({status}), which is not followed; name its end.", alone=True)
    if not 200 <= status < 300:
        raise Unsent(f"{where} answers with {status}.", alone=True)


def _within_a_loop(work: Coroutine[Any, Any, int]) -> int:
    """As `asyncio.run`, which would wait for the thread that asks for a name's address, however long that takes."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


async def _status(hook: rules.Webhook, event: Event, now: float) -> int:
    """What it answers with; the rest of the answer is not read."""
    body = msgspec.json.encode(event)
    headers = {
        "Content-Type": "application/json",
        "VINI-Event": f"{event.id}",
        "VINI-Signature": rules.signature(hook.secret, body, int(now)),
    }
    async with (
        asyncio.timeout(_TIMEOUT_S),
        httpx.AsyncClient(timeout=_TIMEOUT_S, follow_redirects=False) as http,
        http.stream("POST", hook.url, content=body, headers=headers) as answer,
    ):
        return answer.status_code
