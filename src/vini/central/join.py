"""How a machine becomes a node, the central's side: its authority for everybody, and a place for whoever has a token.

`take` decides, in one transaction: it spends the token, and writes the node.  Its errors are told to who asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from fastapi import APIRouter, Request, Response

from vini.bus.joining import JoinAsked, Joined
from vini.central import faults
from vini.model import ViniError
from vini.rules.errors import Invalid
from vini.rules.wishes import Fault

_LARGEST = 1 << 16  # bytes of what a machine says of itself


def join_router(take: Callable[[JoinAsked], Joined], ca_pem: str) -> APIRouter:
    """GET /v1/ca and POST /v1/join.  `take` is called in a thread; it raises Denied for a token that is not good."""
    router = APIRouter()

    @router.get("/v1/ca", include_in_schema=False)
    async def ca() -> Response:
        """The certificate of the central's authority; its fingerprint is in every join token."""
        return Response(ca_pem, media_type="application/x-pem-file")

    @router.post("/v1/join", include_in_schema=False)
    async def join(request: Request) -> Response:
        """Make the machine that asks a node."""
        try:
            asked = _asked(await _body(request), request.client.host if request.client else "")
            joined = await asyncio.to_thread(take, asked)
        except ViniError as e:
            status, kind = faults.status_and_kind(e)
            return faults.answer(status, Fault(kind, str(e)))
        return Response(msgspec.json.encode(joined), media_type="application/json")

    return router


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST:
            raise Invalid("What the machine says of itself is too long to be that.")
    return body


def _asked(body: bytes, seen: str) -> JoinAsked:
    """Where the machine names no address of its own, the one that we see."""
    try:
        asked = msgspec.json.decode(body, type=JoinAsked)
    except msgspec.DecodeError as e:
        raise Invalid(f"What the machine says of itself can't be understood: {e}; is its VINI of this age?") from e
    if len(asked.key) != 32:
        raise Invalid("The machine's public key is none of Ed25519: that takes 32 bytes.")
    return asked if asked.address else msgspec.structs.replace(asked, address=seen)
