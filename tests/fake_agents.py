"""A central on loopback with TLS and a desk in memory, and agents that are real but for their machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from fastapi import FastAPI
from msgspec.structs import replace
from strategies import spec_of

from vini import bus
from vini.bus import frames
from vini.central import natsserver, rights
from vini.central.ca import Authority
from vini.central.delivery import Admitted, Lack, Newer, Who
from vini.central.hub import Hub, Identity, Rhythm
from vini.central.join import join_router
from vini.central.natsbus import NatsBus
from vini.central.sockets import Sockets
from vini.model import SliceSpec, Sliver, Topology
from vini.node import identity as identities
from vini.node import uplink
from vini.node.answers import Answers
from vini.node.fake import FakeDriver
from vini.node.fake_agent import agent_over
from vini.node.files.service import ConfFileService
from vini.node.ledgers import Ledgers
from vini.node.place import Place
from vini.node.reached import trusting
from vini.node.rhythm import Rhythm as UplinkRhythm
from vini.node.running import Prepared
from vini.rules.interfaces import NodeInterface
from vini.store.database import DatabaseError

T = TypeVar("T")
QUICK = Rhythm(beat=0.2, review=0.0, patience=5.0, first=0.05, longest=0.2)
QUICK_UPLINK = UplinkRhythm(
    first=0.02, longest=0.2, patience=5.0, look=0.05, push=0.01, lasting=0.5, beat=30.0, nearer=0.5
)  # fmt: skip


async def eventually(check: Callable[[], T], within: float = 120.0) -> T:
    """The first true value of `check`; fails with its last one.  The time is what a busy machine may need."""
    deadline = time.monotonic() + within
    while not (found := check()):
        assert time.monotonic() < deadline, f"not within {within:g} s; last: {found!r}"
        await asyncio.sleep(0.005)
    return found


async def once_there(act: Callable[[], Awaitable[T]], within: float = 60.0) -> T:
    """What comes of it when the node is connected: it may be changing its server, or starve on a busy machine."""
    deadline = time.monotonic() + within
    while True:
        try:
            return await act()
        except bus.NodeAway:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.1)


def spec(slice_: str, generation: int, *slivers: str, **fields: Any) -> SliceSpec:
    """One for a node, with some slivers; without, the slice's end."""
    return replace(spec_of(Topology(slice_, {n: Sliver(n) for n in slivers}), generation), **fields)


class FakeDesk:
    """Nodes and specs in dicts; `broken` makes every question fail."""

    def __init__(self) -> None:
        self.nodes: dict[str, Identity] = {}
        self.specs: dict[str, dict[str, list[SliceSpec]]] = {}
        self.heard: list[tuple[str, bus.Message]] = []
        self.admissions: dict[str, dict[str, bus.Admission]] = {}
        self.ways: dict[str, bus.AskRtts] = {}
        self.files: dict[str, tuple[bus.NodeFile, ...]] = {}
        self.until = 0  # of the last login that was told
        self.broken = False
        self.asked = 0

    def identities(self, nodes: Sequence[str]) -> list[Identity | None]:
        self._may_break()
        return [self.nodes.get(node) for node in nodes]

    def newer(self, lacks: Sequence[Lack]) -> list[Newer]:
        self._may_break()
        return [Newer(tuple(self._newer(lack.node, lack.greeting))) for lack in lacks]

    def _newer(self, node: str, greeting: bus.Greeting) -> list[SliceSpec]:
        have = greeting.ended | greeting.generations
        return [s for of in self.specs.get(node, {}).values() for s in of if s.generation > have.get(s.slice, 0)]

    def authorized(self, whos: Sequence[Who]) -> list[Admitted]:
        self._may_break()
        return [Admitted(self.admissions.get(who.node, {})) for who in whos]

    def conf_files(self, nodes: Sequence[str]) -> list[tuple[bus.NodeFile, ...]]:
        self._may_break()
        return [self.files.get(node, ()) for node in nodes]

    def far(self, nodes: Sequence[str]) -> list[bus.AskRtts | None]:
        return [self.ways.get(node) for node in nodes]

    def told_until(self, nodes: Sequence[str]) -> list[int]:
        return [0 for _ in nodes]

    def logins_until(self, nodes: Sequence[str]) -> list[int]:
        return [self.until for _ in nodes]

    def reported(self, words: Sequence[tuple[str, bus.Message]]) -> list[None]:
        self._may_break()
        self.heard += words
        return [None] * len(words)

    def _may_break(self) -> None:
        self.asked += 1
        if self.broken:
            raise DatabaseError("The database refused: the disk is full.")

    def put(self, node: str, *specs: SliceSpec) -> None:
        self.specs.setdefault(node, {})[specs[-1].slice] = list(specs)

    def said(self, node: str, kind: type[T]) -> list[T]:
        """What was heard of a node, of one kind."""
        return [m for n, m in list(self.heard) if n == node and isinstance(m, kind)]

    def last(self, node: str, slice_: str) -> bus.Report | None:
        """The newest report of a slice."""
        return next((r for r in reversed(self.said(node, bus.Report)) if r.slice == slice_), None)

    def holds(self, node: str, slice_: str, generation: int) -> bool:
        """Whether the node has said so, and that all of it is ready."""
        r = self.last(node, slice_)
        return bool(r and r.generation == generation and not r.refused and all(s.state == "ready" for s in r.slivers))


class Server(uvicorn.Server):
    """One that leaves signals alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Engine:
    """A nats-server on loopback, with the configuration that a central writes."""

    def __init__(self, directory: Path, authority: Authority):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.rights = rights.make(directory)
        ports = natsserver.Ports("127.0.0.1", self.port)
        self.own = natsserver.Own(directory, self.rights, authority, ["127.0.0.1", "localhost"], self.url, ports)
        self.own.write()
        self.configuration = self.own.path
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"tls://127.0.0.1:{self.port}"

    def start(self) -> None:
        log = self.configuration.with_suffix(".log")
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [natsserver.PROGRAM, "-c", str(self.configuration)], stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        while not self._listens():
            assert self._process.poll() is None, log.read_text()
            time.sleep(0.01)

    def _listens(self) -> bool:
        with socket.socket() as dialled:
            return dialled.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """SIGKILL."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


def no_engine() -> str:
    """Why there can be none; "": there can."""
    return "" if shutil.which(natsserver.PROGRAM) else "no nats-server: apt install nats-server"


class Central:
    """An ASGI server on loopback; `stop` and `start` as its machine's reboot."""

    def __init__(self, directory: Path, desk: FakeDesk | None = None, rhythm: Rhythm = QUICK,
                 take: Callable[[Any], Any] | None = None, engine: str = "hub"):  # fmt: skip
        self.desk, self._rhythm = desk or FakeDesk(), rhythm
        self.authority = Authority(directory / "ca")
        self._take = take or _nobody
        self.port = 0
        self.clock = time.time
        self._serving: asyncio.Task[None] | None = None
        self.engine = Engine(directory, self.authority) if engine == "nats" else None
        self._over_engine: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self.hub = self._bus()
        app = FastAPI()
        app.include_router(join_router(self._take, self.authority.pem))
        app.add_api_websocket_route(frames.PATH, self.hub.endpoint)
        served = self.authority.serve(["127.0.0.1", "localhost"])
        config = uvicorn.Config(
            app, log_level="error", lifespan="off", ssl_certfile=served.certificate, ssl_keyfile=served.key,
            timeout_graceful_shutdown=1, ws_max_size=frames.LARGEST, ws_per_message_deflate=False, ws=Sockets,
        )  # fmt: skip
        self._server = Server(config)
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        self._serving = asyncio.create_task(self._server.serve([listening]))
        await eventually(lambda: self._server.started)

    def _bus(self) -> Any:
        if self.engine is None:
            return Hub(self.desk, rhythm=self._rhythm, clock=lambda: self.clock())
        bus_ = NatsBus(
            self.desk, self.engine.rights, self.engine.url, trusting(self.authority.pem), rhythm=self._rhythm,
            clock=lambda: self.clock(),
        )  # fmt: skip
        self._over_engine = asyncio.create_task(bus_.serve())
        return bus_

    async def stop(self) -> None:
        if self._over_engine:
            self._over_engine.cancel()
            await asyncio.gather(self._over_engine, return_exceptions=True)
        self._server.should_exit = self._server.force_exit = True
        if self._serving:
            await self._serving

    def admit(self, name: str) -> identities.Identity:
        """As if it had joined."""
        key = os.urandom(32)
        self.desk.nodes[name] = Identity(identities.public_half(key))
        return identities.Identity(name, "site", self.url, key, self.authority.pem)


def _nobody(_: object) -> object:
    raise AssertionError("nobody joins in this test")


@asynccontextmanager
async def central(directory: Path, **how: Any) -> AsyncIterator[Central]:
    """One that runs."""
    it = Central(directory, **how)
    if it.engine:
        it.engine.start()
    try:
        await it.start()
        yield it
    finally:
        await it.stop()
        if it.engine:
            it.engine.kill()


KEY = "k" * 43 + "="  # of its encrypted tunnels
ETH0 = NodeInterface("eth0", "02:00:00:00:00:01", 1500, ("192.0.2.1/24", "2001:db8::1/64"), 1000)


class FakeNode:
    """A real agent, with its ledgers on disk and its uplink, over a machine in a dict."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time,
                 rhythm: UplinkRhythm = QUICK_UPLINK, **answers: Any):  # fmt: skip
        self.state, self._clock, self._rhythm = directory, clock, rhythm
        self._answers = {"interfaces": lambda: (ETH0,), **answers}
        self.driver = FakeDriver()
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, *, loop: bool = True) -> FakeNode:
        """The agent as a process that has just begun."""
        identities.directory(self.state).mkdir(parents=True, exist_ok=True)
        self.ledgers = Ledgers.below(self.state, self._clock)
        self.agent = agent_over(self.driver, self.ledgers)
        greeting = bus.Greeting("test", os.getpid(), "local", frozenset({"netem"}), {})
        place = Place("t", self.state / "run", self.state)
        self.files = ConfFileService(place, lambda: self.agent.wanted.owner, look_s=0.5)
        self.answers = Answers(
            self.agent, greeting, _as_it_is, asyncio.Event(), self._clock, lambda: KEY, files=self.files,
            **self._answers,
        )  # fmt: skip
        self.uplink = uplink.Uplink(self.agent, self.answers, self.state, self._rhythm)
        self.tasks = [asyncio.create_task(self.uplink.run()), asyncio.create_task(self.files.run())]
        if loop:
            self.tasks.append(asyncio.create_task(self.agent.run()))
        return self

    async def stop(self) -> None:
        """Its end, as by SIGTERM; the machine stays as it is."""
        for task in self.tasks:
            task.cancel()
        for task in self.tasks:
            with suppress(asyncio.CancelledError):
                await task
        self.agent.close()

    def slivers(self) -> set[str]:
        """What there is on its machine."""
        return {ns for o in list(self.driver.have.values()) for ns in o.slivers}


def _as_it_is(run: bus.Run) -> Prepared:
    return Prepared(run.argv, {"PATH": os.environ["PATH"], **run.environment})


@asynccontextmanager
async def node(directory: Path, identity: identities.Identity | None, **how: Any) -> AsyncIterator[FakeNode]:
    """One that runs, and has joined."""
    own = ("clock", "measure", "rhythm", "uplink_mbit", "interfaces")
    it = FakeNode(directory, **{k: v for k, v in how.items() if k in own})
    if identity:
        identities.write(directory, identity)
    it.start(loop=how.get("loop", True))
    try:
        yield it
    finally:
        await it.stop()


async def typed(*messages: bus.Typed | Awaitable[object]) -> AsyncIterator[bus.Typed]:
    """Input for a command; what can be waited for is."""
    for message in messages:
        if isinstance(message, (bus.Input, bus.Resize, bus.Signal)):
            yield message
        else:
            await message
