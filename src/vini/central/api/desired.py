"""What is asked of a slice, how it is, and what runs in it: routes that need the nodes, and not only the store."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request, Response, WebSocket, WebSocketDisconnect

from vini import bus
from vini.central.api.call import Asked, Call, SliceName, WordName, shown
from vini.central.api.describe import body, route, routes
from vini.central.doings import Doing, Doings, doing
from vini.central.faults import status_and_kind
from vini.central.inside import SshAddress
from vini.central.looks import Seen
from vini.central.relay import Relay
from vini.central.testbed import Asked as AskedFor
from vini.central.testbed import Testbed
from vini.model import Denied, Mistake, OutsideGrant, Topology, TopologyError, Value, ViniError
from vini.reach import FibEntry
from vini.rules.caller import Caller
from vini.rules.errors import Invalid
from vini.rules.nouns import Event, Holder
from vini.store import events, tokens
from vini.store.database import Database, DatabaseError
from vini.topology import dump, parse

log = logging.getLogger("vini.central")
_MOST_BYTES = 32 << 20  # of a topology
_LOOK_S = 2.0  # between looks whether whoever runs a command may still do so
_LONGEST_WAIT_S = 120.0
_TAG = re.compile(r'"(\d{1,18})"\Z')
_TYPED: msgspec.msgpack.Decoder[bus.Stream | bus.Typed] = msgspec.msgpack.Decoder(bus.Stream | bus.Typed)


class Logged(Value, frozen=True, omit_defaults=False):
    """Something that was asked of a slice; or, with generation 0, that happened to the paths below it."""

    at: float
    who: str
    what: str
    generation: int = 0


class _Minute:
    """Remembers what was done in this minute: what is done again and again is one event in a minute."""

    def __init__(self) -> None:
        self._number, self._done = 0, set[tuple[str, ...]]()

    def is_first(self, now: float, *what: str) -> bool:
        """Whether that was not done yet in the minute that this moment, Unix time, s, is in."""
        if self._number != (number := int(now) // 60):
            self._number, self._done = number, set()
        is_first = what not in self._done
        self._done.add(what)
        return is_first


class Row(Value, frozen=True):
    """A row of a program's table, in hexadecimal digits; without a value it is taken out."""

    key: str
    value: str | None = None


Wait = Annotated[float, Query(ge=0, le=_LONGEST_WAIT_S, description="How long to wait for the nodes, s.")]
At = Annotated[float, Query(ge=0, le=1e11, description="When the nodes are to act, Unix time, s; 0: at once.")]
MapName = Annotated[str, Path(pattern=r"^[^\x00/]{1,200}$")]
What = Annotated[str, Query(pattern=r"^[^\x00]{1,200}$", description="What the slice's log calls it.")]
Granted = Annotated[OutsideGrant, Depends(body(OutsideGrant))]
Wanted = Annotated[Topology, Depends(body(Topology, _MOST_BYTES))]


def desired_router(testbed: Testbed, database: Database, clock: Callable[[], float]) -> APIRouter:
    """The routes of one testbed."""
    router = routes("desired states")
    _asked(router, testbed)
    _observed(router, testbed)
    _programs(router, testbed)
    _outside(router, testbed)
    doings = Doings(database, clock)
    router.lifespan_context = _closing(doings)

    @route(router, "GET", "/clock", gives=bus.Clock)
    def get_clock(call: Asked) -> Response:
        """What time it is at the central, when it got the question and when it answers."""
        received = clock()
        call.who()
        return shown(bus.Clock(received, clock()))

    @route(router, "POST", "/flows", takes=bus.AskFlows, gives=dict[str, bus.Flows])
    async def ask_flows(call: Asked, question: Annotated[bus.AskFlows, Depends(body(bus.AskFlows))]) -> Response:
        """Who sent this packet to the world?  By node, of those that are connected.  Only as an admin."""
        return shown(await testbed.looks.who(await asyncio.to_thread(call.who), question))

    @router.websocket("/slices/{name}/slivers/{sliver}/run")
    async def run(socket: WebSocket, name: str, sliver: str) -> None:
        """A command in a sliver, its logs, a connection to its SSH server, or packets that measure links: first a
        `Run`, `Logs`, `SshThrough` or `Measure`, then what is typed; back comes what it says (MessagePack)."""
        await _Running(socket, testbed, database, clock, doings).serve(name, sliver)

    return router


def _closing(doings: Doings) -> Callable[[object], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        yield
        await doings.close()

    return lifespan


def _outside(router: APIRouter, testbed: Testbed) -> None:
    @route(router, "GET", "/slices/{name}/outside", gives=OutsideGrant)
    def get_outside(call: Asked, name: SliceName) -> Response:
        """What the slice may do in the world; 404: nothing."""
        return shown(testbed.grants.granted(call.who(), name))

    @route(router, "PUT", "/slices/{name}/outside", takes=OutsideGrant, gives=OutsideGrant, faults=(422, 507))
    async def grant_outside(call: Asked, name: SliceName, grant: Granted) -> Response:
        """Let the slice do that in the world, and nothing else; its nodes are told at once.  Only as an admin."""
        await _granted(call, testbed, name, grant)
        return shown(grant)

    @route(router, "DELETE", "/slices/{name}/outside", status=204)
    async def revoke_outside(call: Asked, name: SliceName) -> Response:
        """Let the slice do nothing in the world any more; its nodes are told at once.  Only as an admin."""
        await _granted(call, testbed, name, None)
        return shown(None)


async def _granted(call: Call, testbed: Testbed, name: str, grant: OutsideGrant | None) -> None:
    caller = await asyncio.to_thread(call.who)
    try:
        await testbed.grants.grant(caller, name, grant)
    except ViniError as e:
        await asyncio.to_thread(call.note_fault, caller.email, "grant outside", "slice", name, e)
        raise


def _asked(router: APIRouter, testbed: Testbed) -> None:
    @route(router, "GET", "/topologies", gives=dict[str, Topology])
    def list_topologies(call: Asked) -> Response:
        """What is asked for, of all slices that the caller may see and that have something in them."""
        return shown(testbed.topologies(call.who()))

    @route(router, "GET", "/slices/{name}/topology", gives=AskedFor)
    def get_topology(call: Asked, name: SliceName) -> Response:
        """What is asked of a slice now.  The ETag is its generation."""
        found = testbed.asked(call.who(), name)
        return Response(msgspec.json.encode(found), headers={"ETag": f'"{found.generation}"'}, media_type=_JSON)

    @route(router, "PUT", "/slices/{name}/topology", takes=Topology, gives=bus.Report, faults=(422, 507))
    async def put_topology(
        call: Asked,
        request: Request,
        name: SliceName,
        topology: Wanted,
        what: What = "put",
        wait_s: Wait = 0.0,
        at: At = 0.0,
    ) -> Response:
        """Ask for this of a slice, on top of `If-Match` where that is given; without slivers it ends.

        Answered when all its nodes that are connected have taken it, or after `wait_s`.  With `at` all nodes act at
        that moment.
        """
        caller = await asyncio.to_thread(call.who)
        try:
            wanted = await asyncio.to_thread(_as_of_a_file, name, topology)
            report = await testbed.put(caller, wanted, what, _generation(request), wait_s, at)
        except ViniError as e:
            await asyncio.to_thread(call.note_fault, caller.email, what, "slice", name, e)
            raise
        return shown(report)

    @route(router, "POST", "/slices/{name}/plan", takes=Topology, gives=list[str], faults=(422, 507))
    async def plan_topology(call: Asked, name: SliceName, topology: Wanted) -> Response:
        """What asking for this would change, step by step; nothing is touched."""
        wanted = await asyncio.to_thread(_as_of_a_file, name, topology)
        return shown(await testbed.foresee(await asyncio.to_thread(call.who), wanted))

    @route(router, "GET", "/slices/{name}/log", gives=list[Logged])
    def get_log(call: Asked, name: SliceName, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> Response:
        """What was asked of a slice, and which of its links failed with a path between nodes; the newest first."""

        def ask(tx: Any, caller: Caller) -> list[Logged]:
            return [_logged(e) for e in events.of_slice(tx, name, limit, caller)]

        return call.read(ask)


def _logged(event: Event) -> Logged:
    if event.detail.isdigit():
        return Logged(event.at, event.who, event.what, int(event.detail))
    return Logged(event.at, event.who, f"{event.what}: {event.detail}")


def _observed(router: APIRouter, testbed: Testbed) -> None:
    @route(router, "GET", "/slices/{name}/status", gives=Seen)
    async def get_status(call: Asked, name: SliceName) -> Response:
        """How a slice's slivers are, by a fresh look at each of its nodes."""
        return shown(await testbed.looks.status(await asyncio.to_thread(call.who), name))

    @route(router, "GET", "/slices/{name}/fibs", gives=dict[str, tuple[FibEntry, ...]])
    async def get_fibs(call: Asked, name: SliceName) -> Response:
        """The main forwarding tables of a slice's slivers."""
        return shown(await testbed.looks.fibs(await asyncio.to_thread(call.who), name))

    @route(router, "GET", "/slices/{name}/loads", gives=dict[str, bus.SliverLoad])
    async def get_loads(call: Asked, name: SliceName) -> Response:
        """Traffic of the vifs, CPU and memory of the processes, and packets of the programs of a slice's slivers."""
        return shown(await testbed.looks.loads(await asyncio.to_thread(call.who), name))

    @route(router, "GET", "/slices/{name}/acts", gives=dict[str, tuple[bus.Act, ...]])
    async def get_acts(
        call: Asked, name: SliceName, after: Annotated[int, Query(ge=0)] = 0, linked: bool = False
    ) -> Response:
        """When each node put which generations above `after` in force, by its own clock; with `linked`, also when their
        links were as asked, or why not."""
        return shown(await testbed.looks.acts(await asyncio.to_thread(call.who), name, after, linked))

    @route(router, "GET", "/slices/{name}/nodes", gives=dict[str, Holder])
    def get_holders(call: Asked, name: SliceName) -> Response:
        """The nodes of a slice: the slivers that each has, and how its clock goes."""
        return shown(testbed.looks.holders(call.who(), name))

    @route(router, "GET", "/slices/{name}/ssh", gives=list[SshAddress])
    async def get_ssh(call: Asked, name: SliceName) -> Response:
        """How to log in to a slice's slivers by SSH, of those nodes that are connected."""
        return shown(await testbed.inside.ssh(await asyncio.to_thread(call.who), name))


def _programs(router: APIRouter, testbed: Testbed) -> None:
    @route(router, "GET", "/slices/{name}/slivers/{sliver}/maps", gives=bus.Maps)
    async def get_maps(call: Asked, name: SliceName, sliver: WordName, only: str | None = None) -> Response:
        """What the maps of a sliver's program hold: all, or `only` these (a,b)."""
        names = None if only is None else tuple(n for n in only.split(",") if n)
        caller = await asyncio.to_thread(call.who)
        return shown(await testbed.inside.ask_sliver(caller, name, sliver, bus.AskMaps(f"{name}.{sliver}", names)))

    minute = _Minute()

    @route(router, "PUT", "/slices/{name}/slivers/{sliver}/maps/{table}", takes=Row, status=204)
    async def put_row(
        call: Asked, name: SliceName, sliver: WordName, table: MapName, row: Annotated[Row, Depends(body(Row))]
    ) -> Response:
        """Set a row of a map of a sliver's program, or take it out.  All that one writes to a table in a minute is one
        event."""
        try:
            key = bytes.fromhex(row.key)
            value = None if row.value is None else bytes.fromhex(row.value)
        except ValueError as e:
            raise Invalid("A key and a value are bytes, each two hexadecimal digits.") from e
        caller, what = await asyncio.to_thread(call.who), f"write row: {sliver} {table}"
        try:
            await testbed.inside.ask_sliver(caller, name, sliver, bus.WriteRow(f"{name}.{sliver}", table, key, value))
        except ViniError as e:
            if minute.is_first(call.now, caller.email, name, what, status_and_kind(e)[1]):
                await asyncio.to_thread(call.note_fault, caller.email, what, "slice", name, e)
            raise
        if minute.is_first(call.now, caller.email, name, what):
            with suppress(ViniError):  # the row is written, whatever the database says
                await asyncio.to_thread(call.note, caller.email, what, "slice", name)
        return shown(None)


_JSON = "application/json"


def _as_of_a_file(name: str, topology: Topology) -> Topology:
    """The same, read as a file would be: a request may hold whatever its types allow, and names in it become paths on
    nodes.  Raises TopologyError with the mistakes that a file's writer would be told."""
    if topology.name != name:
        what = f"This topology is named {topology.name!r}, and is asked of slice {name!r}."
        raise TopologyError([Mistake(0, 0, what, "they have one name")])
    if not topology.slivers:
        return Topology(name)
    try:
        text = dump(topology, quick=True)
    except (ValueError, LookupError, TypeError, ArithmeticError) as e:
        what = "This topology has a value that no file can have."
        raise TopologyError([Mistake(0, 0, what, "ask for what `vini up` would, of a file")]) from e
    return parse(text, default_name=name)


def _generation(request: Request) -> int | None:
    """The one that the change goes on top of; None: whatever is there."""
    tag = request.headers.get("If-Match", "*").strip()
    if tag == "*":
        return None
    found = _TAG.match(tag)
    if not found:
        raise Invalid('If-Match is the ETag of the topology that you saw: its generation in quotes, or "*".')
    return int(found[1])


class _Running:
    """One command over one WebSocket."""

    def __init__(
        self, socket: WebSocket, testbed: Testbed, database: Database, clock: Callable[[], float], doings: Doings
    ):  # fmt: skip
        self._socket, self._testbed, self._database, self._clock = socket, testbed, database, clock
        self._doings = doings
        self._outcome = "its user went away"

    async def serve(self, name: str, sliver: str) -> None:
        """From its first byte to its exit code; refusals come as a `Refusal`."""
        await self._socket.accept()
        relay = Relay(self._socket)
        try:
            caller = await asyncio.to_thread(self._who, self._clock())
            node = await self._node(caller, name, sliver)
            command = _TYPED.decode(await self._socket.receive_bytes())
            if not isinstance(command, bus.Stream):
                raise Invalid("The first message of a command is `Run`, `Logs`, `SshThrough` or `Measure`.")
            if isinstance(command, bus.Measure):  # its frames go to other slivers too, which are not a guest's
                await self._testbed.inside.node_of(caller, name, sliver)
            action = "use slice" if isinstance(command, bus.Measure) else "enter slice"
            command = msgspec.structs.replace(command, ns=f"{name}.{sliver}")
            done = relay.run(
                lambda typed: self._heard(self._testbed.inside.run(node, command, typed)),
                self._guard(caller.at, name, sliver, action),
            )
            await self._noted(doing(caller, self._source, name, sliver, command), done)
        except ViniError as e:
            await relay.say(bus.Refusal(status_and_kind(e)[1], str(e)))
        except (WebSocketDisconnect, msgspec.DecodeError, KeyError):
            return
        await self._socket.close()

    @property
    def _source(self) -> str:
        return self._socket.client.host if self._socket.client else ""

    async def _node(self, caller: Caller, name: str, sliver: str) -> str:
        try:
            return await self._testbed.inside.node_of(caller, name, sliver, "enter slice")
        except Denied as e:  # so there is such a slice
            refused = Doing(caller.email, self._source, name, "enter", "", sliver)
            self._doings.failed(refused, time.monotonic(), status_and_kind(e)[1], str(e))
            raise

    async def _noted(self, told: Doing | None, done: Awaitable[None]) -> None:
        """It is an event when this begins, and when it ends; None: it is none."""
        if told is None:
            return await done
        began = self._doings.begun(told)
        failed: ViniError | None = None
        try:
            await done
        except ViniError as e:
            failed = e
            raise
        finally:  # also where whoever asked has gone, or the central ends
            if failed:
                self._doings.failed(told, began, status_and_kind(failed)[1], str(failed))
            else:
                self._doings.ended(told, began, self._outcome)

    async def _heard(self, said: AsyncIterator[bus.Said]) -> AsyncIterator[bus.Said]:
        """The same, of which we remember how it ended."""
        async for message in said:
            if isinstance(message, bus.Exited):
                self._outcome = f"exit code {message.code}"
            yield message

    async def _guard(self, began: float, name: str, sliver: str, action: str) -> None:
        """Raises the error that says why, when he may not do it any more."""
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await asyncio.to_thread(self._look, began, name, sliver, action)
            except DatabaseError as e:  # which tells nothing of him
                log.warning("whether somebody may go on in %s.%s can't be looked up: %s", name, sliver, e)

    def _look(self, began: float, name: str, sliver: str, action: str) -> None:
        """What he began goes on beyond his token's time, but not beyond its being taken back."""
        caller = msgspec.structs.replace(self._who(began), at=self._clock())
        self._testbed.inside.check(caller, name, sliver, action)

    def _who(self, at: float) -> Caller:
        secret = self._socket.headers.get("Authorization", "").partition(" ")[2].strip()
        with self._database.reading() as tx:
            return tokens.whose(tx, secret, at)
