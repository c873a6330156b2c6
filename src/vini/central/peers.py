"""Several centrals on one database: each asks the nodes of the others through them.

Each tells in the database where the others reach it, and which nodes are connected to it; a request goes one step, to
the central that has the node.  What may be asked was decided by the central that was asked first.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from hmac import compare_digest
from typing import Any

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from vini import bus
from vini.central.relay import Relay
from vini.model import Value, ViniError
from vini.store import centrals
from vini.store.centrals import CentralRow
from vini.store.database import Database

log = logging.getLogger("vini.central")
_LOOK_S = 0.2  # between looks who has which node
_BEAT_S = 3.0  # between signs of life
_DEAD_S = 12.0  # without one: nothing is asked of it any more
_GONE_S = 120.0  # without one: its row goes
_PATIENCE_S = 60.0
_MOST_BYTES = 1 << 20  # of a question
_ASK, _RUN = "/v1/peers/ask", "/v1/peers/run"
_Question = (
    bus.Hello
    | bus.AskStatus
    | bus.AskFibs
    | bus.AskLoads
    | bus.AskActs
    | bus.AskMaps
    | bus.WriteRow
    | bus.AskClock
    | bus.AskFlows
    | bus.AskSsh
)
_ENCODE = msgspec.msgpack.Encoder()


class Question(Value, frozen=True):
    """What a central asks of a node through another one."""

    node: str
    request: _Question


class Command(Value, frozen=True):
    """A command that a central runs on a node through another one; then comes what is typed."""

    node: str
    command: bus.Stream


class Peers:
    """A `bus.seam.Bus` over the nodes of all centrals on one database: this one's by its hub, or what its engine
    reaches, the others' by theirs."""

    def __init__(self, hub: bus.Bus, database: Database, url: str, ca: str):
        self._hub, self._database = hub, database
        self._me = CentralRow(secrets.token_hex(8), url, secrets.token_urlsafe(32), 0, frozenset())
        self._trusted = ssl.create_default_context(cadata=ca)
        self._others: list[CentralRow] = []
        self._seen: dict[str, tuple[int, float]] = {}  # central -> its beat, and when that was new
        self._announced = 0.0

    # --- Bus ------------------------------------------------------------------------------------

    def connected(self) -> frozenset[str]:
        """The nodes that can be asked at this moment, of all centrals."""
        return self._hub.connected().union(*(peer.nodes for peer in self._others))

    def wake(self, nodes: Collection[str]) -> None:
        """The others look by themselves whether something is new."""
        self._hub.wake(nodes)

    async def ask(
        self, node: str, request: bus.Request, progress: Callable[[bus.Progress], None] = lambda _: None
    ) -> bus.Reply:
        """The node's final reply; of another central's node without the steps on the way to it."""
        peer = self._holder(node)
        if peer is None:
            return await self._hub.ask(node, request, progress)
        import httpx

        body = _ENCODE.encode(Question(node, request))  # type: ignore[arg-type]
        try:
            async with httpx.AsyncClient(verify=self._trusted, timeout=_PATIENCE_S, trust_env=False) as http:
                answer = await http.post(peer.url + _ASK, content=body, headers=_credentials(peer))
                answer.raise_for_status()
            reply: bus.Reply = msgspec.msgpack.decode(answer.content, type=bus.Reply)
        except (httpx.HTTPError, msgspec.DecodeError) as e:
            raise _away(node, peer, e) from e
        if isinstance(reply, bus.Refusal):
            raise bus.refused(reply)
        return reply

    async def run(self, node: str, command: bus.Stream, typed: AsyncIterator[bus.Typed]) -> AsyncIterator[bus.Said]:
        """What a command in a sliver says, until it has exited; it ends with whoever asked for it."""
        peer = self._holder(node)
        said = self._hub.run(node, command, typed) if peer is None else self._run_there(peer, node, command, typed)
        async for message in said:
            yield message

    def _holder(self, node: str) -> CentralRow | None:
        """The other central that has it; None where it is ours, or nobody's."""
        if node in self._hub.connected():
            return None
        return next((peer for peer in self._others if node in peer.nodes), None)

    async def _run_there(
        self, peer: CentralRow, node: str, command: bus.Stream, typed: AsyncIterator[bus.Typed]
    ) -> AsyncIterator[bus.Said]:
        from websockets.asyncio.client import connect
        from websockets.exceptions import WebSocketException

        url = peer.url.replace("https://", "wss://", 1) + _RUN
        hung_up = bus.NodeAway(
            f"The central {peer.url} hung up while the command ran on node {node}; it has been ended."
        )
        try:
            async with connect(
                url, ssl=self._trusted, additional_headers=_credentials(peer), max_size=_MOST_BYTES, proxy=None
            ) as socket:
                await socket.send(_ENCODE.encode(Command(node, command)))
                feeding = asyncio.create_task(_feed(socket, typed))
                try:
                    async for message in bus.said(socket, hung_up):
                        yield message
                finally:
                    feeding.cancel()
        except (OSError, WebSocketException, msgspec.DecodeError) as e:
            raise _away(node, peer, e) from e

    # --- who the others are ---------------------------------------------------------------------

    def has_others(self) -> bool:
        """Whether there were any when it was looked last."""
        return bool(self._others)

    async def tend(self) -> None:
        """Tell the others of us, and look for them; until cancelled, then we withdraw."""
        try:
            while True:
                try:
                    await asyncio.to_thread(self._look, self._hub.connected())
                except ViniError as e:
                    log.warning("other centrals can't be looked for: %s", e)
                await asyncio.sleep(_LOOK_S)
        finally:
            with suppress(ViniError):
                self._withdraw([self._me.id])

    def _look(self, connected: frozenset[str]) -> None:
        now = time.monotonic()
        if connected != self._me.nodes or now - self._announced > _BEAT_S:
            self._me = msgspec.structs.replace(self._me, beat=self._me.beat + 1, nodes=connected)
            self._announced = now
            with self._database.transaction() as tx:
                centrals.announce(tx, self._me)
        with self._database.looking() as tx:
            rows = centrals.others(tx, self._me.id)
        for row in rows:
            before = self._seen.get(row.id)
            if before is None or before[0] != row.beat:
                self._seen[row.id] = (row.beat, now)
            if before and before[0] != row.beat and row.url == self._me.url:
                log.warning(
                    "another central on this database says that it is %s, as this one does, so neither asks the "
                    "other's nodes; give each an address of its own, as `internal` in its settings.json", row.url
                )  # fmt: skip
        quiet = {row.id: now - self._seen[row.id][1] for row in rows}
        self._seen = {i: seen for i, seen in self._seen.items() if i in quiet}
        self._others = self._alive([row for row in rows if quiet[row.id] < _DEAD_S])
        if gone := [i for i, seconds in quiet.items() if seconds > _GONE_S]:
            self._withdraw(gone)

    def _alive(self, rows: list[CentralRow]) -> list[CentralRow]:
        """Without what is left of those that were killed just now, and answer by the same URL in another life."""
        newest = {row.url: row for row in sorted(rows, key=lambda row: self._seen[row.id][1])}
        return [row for url, row in newest.items() if url != self._me.url]

    def _withdraw(self, ids: Collection[str]) -> None:
        with self._database.transaction() as tx:
            centrals.withdraw(tx, ids)

    # --- what the others ask --------------------------------------------------------------------

    @property
    def routes(self) -> list[BaseRoute]:
        """For this central's app; they answer to those who know the secret that is in the database."""
        return [Route(_ASK, self._asked, methods=["POST"]), WebSocketRoute(_RUN, self._begun)]

    def _is_peer(self, headers: Any) -> bool:
        return compare_digest(
            headers.get("Authorization", "").encode(), _credentials(self._me)["Authorization"].encode()
        )

    async def _asked(self, request: HttpRequest) -> Response:
        if not self._is_peer(request.headers):
            return Response(status_code=401)
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > _MOST_BYTES:
                return Response(status_code=413)
        try:
            question = msgspec.msgpack.decode(bytes(body), type=Question)
        except msgspec.DecodeError:
            return Response(status_code=400)
        try:
            reply: bus.Message = await self._hub.ask(question.node, question.request)
        except ViniError as e:
            reply = bus.refusal(e)
        return Response(_ENCODE.encode(reply), media_type="application/msgpack")

    async def _begun(self, socket: WebSocket) -> None:
        if not self._is_peer(socket.headers):
            await socket.close(1008)
            return
        await socket.accept()
        relay = Relay(socket)
        try:
            asked = msgspec.msgpack.decode(await socket.receive_bytes(), type=Command)
            await relay.run(lambda typed: self._hub.run(asked.node, asked.command, typed))
        except ViniError as e:
            await relay.say(bus.refusal(e))
        except (WebSocketDisconnect, msgspec.DecodeError, KeyError):
            return
        await socket.close()


def _credentials(peer: CentralRow) -> dict[str, str]:
    return {"Authorization": f"Central {peer.secret}"}


def _away(node: str, peer: CentralRow, error: Exception) -> bus.NodeAway:
    status = getattr(getattr(error, "response", None), "status_code", None)  # of both libraries' errors
    why = f"it answers with {status}" if status else str(error) or type(error).__name__
    return bus.NodeAway(f"Node {node} is connected to the central {peer.url}, which does not answer this one ({why}).")


async def _feed(socket: Any, typed: AsyncIterator[bus.Typed]) -> None:
    from websockets.exceptions import ConnectionClosed

    with suppress(ConnectionClosed):  # who listens notices too
        async for message in typed:
            await socket.send(_ENCODE.encode(message))
