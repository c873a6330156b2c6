"""A central as one process: the API, the hub that nodes dial, and what has to be done from time to time."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import ssl
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.routing import WebSocketRoute

from vini.bus.joining import JoinAsked, Joined
from vini.central import engine_files, natsserver, process
from vini.central import settings as settings_file
from vini.central.added import Added
from vini.central.api.desired import desired_router
from vini.central.app import make_app
from vini.central.ca import Authority
from vini.central.clocks import Clocks, Verdict
from vini.central.delivery import Desk, Rhythm
from vini.central.desk import StoredDesk
from vini.central.hub import Hub
from vini.central.issuer import Issuer
from vini.central.issuer import read as read_issuer
from vini.central.join import join_router
from vini.central.making import finish, refuse_unfinished
from vini.central.natsbus import NatsBus
from vini.central.notices import Channels, Notifier
from vini.central.peers import Peers
from vini.central.rights import read as read_rights
from vini.central.settings import Settings
from vini.central.sockets import Sockets
from vini.central.testbed import Testbed
from vini.model import Value, ViniError
from vini.plugins.tunnels import TunnelKind
from vini.rules.notices import EXPIRE
from vini.rules.nouns import NodeSaid
from vini.rules.strangers import TUNNELS
from vini.store import (
    authorized,
    conf_files,
    counters,
    engine_servers,
    events,
    guests,
    idempotency,
    last_members,
    logins,
    nodes,
    reminders,
    slices,
    specs,
    tokens,
    usage,
)
from vini.store.database import Database, Tx
from vini.usage import DAY_S

log = logging.getLogger("vini.central")
_LOOK_S = 0.2  # between looks what other centrals on the same database changed
_READMIT_S = 2.0  # between looks whether a node that the engine keeps out may come back
_TIDY_S = 60.0  # between looks what has expired
_NOTIFY_S = 5.0  # between looks what people are to be told
_KEEP_S = 30 * 86400.0  # tokens that expired are remembered so long, so that their users are told why
_SAY_S = 3600.0  # between two times that it is said why nothing is ended
_EVENTS_S = 3 * 365 * 86400.0


class _Seen(Value, frozen=True):
    """How often things had changed when it was looked last."""

    specs: int = 0
    admitted: int = 0
    nodes: int = -1
    files: int = 0


def _is_node(tx: Tx, asked: JoinAsked) -> bool:
    """It was told so, and may not have heard it; nobody has shut it out since."""
    key, state = nodes.identities(tx, [asked.name]).get(asked.name, (b"", ""))
    return key == asked.key and state in nodes.CONNECTABLE


def _seen(tx: Tx) -> _Seen:
    return _Seen(*counters.values(tx, specs.COUNTER, authorized.COUNTER, nodes.COUNTER, conf_files.COUNTER))


class Central:
    """Everything of one central, over a database that is migrated."""

    def __init__(
        self, database: Database, authority: Authority, clock: Callable[[], float] = time.time,
        channels: Channels | None = None, tunnel: TunnelKind = "vxlan", url: str = "",
        engine: Callable[[Desk], NatsBus] | None = None, strangers: bool = False, issuer: Issuer | None = None,
        rhythm: Rhythm | None = None, clocks: Clocks | None = None,
    ):  # fmt: skip
        self._database, self._clock = database, clock
        self._clocks = clocks or Clocks(clock)
        self._doubt_said = -math.inf  # when it was said why the clock is not believed
        self._may_give_up = False  # by what was known of the clock when it was looked last
        self._accounted = 0  # the day on which what is too old was forgotten last
        self._notifier = Notifier(database, channels or Channels(), clock)
        self._desk = StoredDesk(database, clock, self._clocks)
        self.engine = engine(self._desk) if engine else None
        hub = Hub(self._desk, clock=clock, rhythm=rhythm)
        self.hub = self.engine or hub
        # Also where each central has an engine of its own; and SQLite has only one central.
        self._peers = None if database.is_sqlite else Peers(self.hub, database, url, authority.pem)
        if self.engine and self._peers:
            self.engine.others = self._peers.has_others
        self.testbed = Testbed(database, self._peers or self.hub, clock, tunnel, strangers)
        self.app: FastAPI = make_app(
            database,
            clock=clock,
            issuer=issuer,
            connected=(self._peers or self.hub).connected,
            routers=(join_router(self._take, authority.pem), desired_router(self.testbed, database, clock)),
        )
        self.app.router.routes.append(WebSocketRoute("/v1/uplink", self.hub.endpoint))
        if self._peers:
            self.app.router.routes += self._peers.routes

    def _take(self, asked: JoinAsked) -> Joined:
        """A machine becomes a node, in one transaction with its token and its event."""
        now = self._clock()
        said = NodeSaid(
            asked.capabilities, asked.address, asked.mtu, asked.cores, asked.memory_mib, asked.version,
            disk_mb=asked.disk_mb,
        )  # fmt: skip
        with self._database.transaction() as tx:
            site, is_first = tokens.use_join(tx, asked.secret, now, lambda: _is_node(tx, asked))
            row = nodes.join(tx, asked.name, site, asked.key, said, now)
            if is_first:
                events.add(
                    tx, at=now, who=f"node {row.name}", what="join", kind="node", target=row.name, source=asked.address
                )
        return Joined(row.name, row.site)

    # --- from time to time --------------------------------------------------------------------

    async def tend(self) -> None:
        """Until cancelled.  A database that is away is asked again."""
        work = [self._again(_TIDY_S, self._tidy), self._again(_NOTIFY_S, self._notify), self._follow()]
        if self._peers:
            work.append(self._peers.tend())
        if self.engine:
            work += [self.engine.serve(), self._again(_READMIT_S, self._readmit)]
        await asyncio.gather(*work)

    async def _again(self, every_s: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            try:
                await work()
            except ViniError as e:
                log.warning("%s", e)
            except Exception:  # the log has its traceback each time; all else goes on
                log.exception("a mistake in VINI keeps the central from doing what it does every %g s", every_s)
            await asyncio.sleep(every_s)

    async def _follow(self) -> None:
        """Wake nodes for which anybody on this database wrote something, and cut off those that were disabled."""
        seen = _Seen()

        async def look() -> None:
            nonlocal seen
            now, concerned, allowed = await asyncio.to_thread(self._changed, seen)
            if now == seen:
                return
            if self.engine and now.nodes != seen.nodes:
                self.engine.look()
            if (now.admitted, now.files) == (seen.admitted, seen.files):  # `admitted` counts nodegroups, too
                self.hub.wake(concerned, now.specs)
            else:
                self.hub.wake(self.hub.connected())
            for node in self.hub.connected() - allowed if allowed is not None else ():
                self.hub.drop(node, await asyncio.to_thread(self._why_cut, node))
            seen = now

        await self._again(_LOOK_S, look)

    async def _readmit(self) -> None:
        """Whom the engine keeps out, and should not any more."""
        if self.engine:
            self.engine.readmit(await asyncio.to_thread(self._keys))

    def _keys(self) -> set[bytes]:
        with self._database.reading() as tx:
            return nodes.keys_of_connectable(tx)

    def _changed(self, seen: _Seen) -> tuple[_Seen, set[str], set[str] | None]:
        """What there is now, the nodes for which something was written since `seen`, and all that may be connected;
        None where that is as it was."""
        with self._database.looking() as tx:
            if _seen(tx) == seen:
                return seen, set(), None
        with self._database.reading() as tx:
            now = _seen(tx)
            concerned = specs.changed_since(tx, seen.specs)[1] if now.specs != seen.specs else set()
            return now, concerned, nodes.connectable(tx) if now.nodes != seen.nodes else None

    def _why_cut(self, node: str) -> str:
        """A sentence for it."""
        (found,) = self._desk.identities([node])
        return (found.why if found else "") or "An administrator has deleted it."

    async def _notify(self) -> None:
        """Also by a clock that may be wrong; but then none is given up."""
        sure = self._may_give_up and not self._clocks.was_set()
        await asyncio.to_thread(self._notifier.step, sure)

    async def _tidy(self) -> None:
        ended = await asyncio.to_thread(self._end_expired)
        if ended:
            self.hub.wake(self.hub.connected())

    def _end_expired(self) -> list[str]:
        """Slices whose time is over end; their nodes did that by themselves already, or do it now.  Not by a clock that
        nobody vouches for: a slice that ends or an event that is forgotten is gone."""
        now = self._clock()
        with self._database.transaction() as tx:
            believed = self._believes(tx, now)
            over = self._end(tx, now) if believed else []
            guests.expire(tx, now)
            tokens.forget(tx, now - _KEEP_S)
            logins.forget(tx, now)
            idempotency.forget(tx, now - idempotency.KEPT_S)
            if not believed:
                return []
            reminders.remind(tx, now)
            events.forget(tx, now - _EVENTS_S)
            if self._accounted != int(now) // DAY_S:  # a look through all that is kept, so once a day
                usage.forget(tx, now)
        self._accounted = int(now) // DAY_S
        return over

    def _end(self, tx: Tx, now: float) -> list[str]:
        locked = slices.locked(tx, slices.expired(tx, now))
        over = sorted({*slices.expired(tx, now)} & {*locked})  # one may have been renewed before it was ours
        for name in over:
            members = slices.get(tx, name).members
            slices.delete(tx, name)
            number = events.add(tx, at=now, who="central", what=EXPIRE, kind="slice", target=name)
            last_members.note(tx, number, members)
        return over

    def _believes(self, tx: Tx, now: float) -> bool:
        """What keeps us from it is said where something is over by this clock, or nodes say that it is wrong."""
        site_of = nodes.heard_of(tx)
        found = self._clocks.look(site_of, self.hub.attended())
        self._may_give_up = not found.why
        if found.refuted or (found.why and not found.early and slices.expired(tx, now)):
            self._say(found)
        elif not found.why and self._doubt_said > -math.inf:
            self._doubt_said = -math.inf
            log.warning("The clock can be right again: slices are ended, and what is old is forgotten.")
        return not found.why

    def _say(self, found: Verdict) -> None:
        if time.monotonic() - self._doubt_said > _SAY_S:
            self._doubt_said = time.monotonic()
            log.warning("No slice is ended, and no event forgotten: %s.", found.why)


def run(directory: Path, listen: str, say: Callable[[str], None]) -> None:
    """Serve until told to stop (SIGTERM, Ctrl-C); at that address, "": at all of this machine, IPv4 and IPv6."""
    process.prepare()
    settings = settings_file.read(directory)
    database = Database(settings.database_url(directory))
    database.check_filled()
    finish(directory, database)
    refuse_unfinished(database)
    every = ["0.0.0.0", "::"] if _has_ipv6() else ["0.0.0.0"]
    bound = _bound([listen] if listen else every, settings.port)
    listen = listen or every[-1]  # nats-server takes "::" as both
    database.migrate()
    authority = Authority(directory / "ca")
    ending = authority.check()
    served = authority.serve(settings.names)
    central, server = _made(directory, settings, database, authority, listen)
    config = uvicorn.Config(
        central.app, host=listen, port=settings.port, ssl_certfile=served.certificate, ssl_keyfile=served.key,
        log_level="warning", ws=Sockets, ws_max_size=1 << 24, timeout_graceful_shutdown=2,
    )  # fmt: skip
    say(f"The central answers at {settings.url}; its database is {database}.")
    if ending:
        say(ending)
    if settings.strangers and settings.tunnel not in TUNNELS:
        say(
            f"Links between nodes are refused in slices that don't say `tunnel: {TUNNELS[0]}`, since strangers use "
            f'this testbed: set "tunnel": "{TUNNELS[0]}" in {directory / "settings.json"}, and start the central again.'
        )
    if settings.engine == "nats":
        say(f"Nodes are reached over the engine {settings.nats_url}.")
    asyncio.run(_serve(uvicorn.Server(config), bound, central, authority, settings.names, server, directory))


def _has_ipv6() -> bool:
    """Whether this kernel does."""
    try:
        socket.socket(socket.AF_INET6).close()
    except OSError:
        return False
    return True


def _bound(addresses: Sequence[str], port: int) -> list[socket.socket]:
    """Before anything else: a second central in the same place says so at once.  Nobody is let in yet."""
    made: list[socket.socket] = []
    for address in addresses:
        try:
            family, *_, where = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            # What is accepted inherits the protocol, and asyncio sends small writes at once (TCP_NODELAY) only where
            # that is TCP by number: else an answer in two writes waits for the other side's delayed ACK, 40 ms.
            made.append(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP))
            made[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                made[-1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made[-1].bind(where)
        except OSError as e:
            for one in made:
                one.close()
            raise ViniError(
                f"The central can't listen at {address}, port {port} ({e.strerror}): does another one run here, or is "
                'the address none of this machine\'s?  `--listen` names the address, "port" in settings.json the port.'
            ) from e
    return made


def _made(
    directory: Path, settings: Settings, database: Database, authority: Authority, listen: str
) -> tuple[Central, natsserver.Server | None]:
    """With the nats-server that it runs itself, if it does."""
    rhythm = Rhythm(usage=max(1.0, settings.usage_s))
    made = partial(
        Central, database, authority, clocks=Clocks(file=directory / "clock.json"),
        channels=Channels(settings.mail, settings.webhooks, settings.url), tunnel=settings.tunnel,
        url=settings.internal or settings.url, strangers=settings.strangers,
        issuer=read_issuer(settings.oidc) if settings.oidc else None, rhythm=rhythm,
    )  # fmt: skip
    if settings.engine == "hub":
        return made(), None
    rights = read_rights(directory)
    trusted = ssl.create_default_context(cadata=authority.pem)
    server = None
    if not settings.engine_url:
        ports = natsserver.Ports(listen, settings.engine_port)
        own = natsserver.Own(directory, rights, authority, settings.names, settings.nats_url, ports)
        own.write(_added(database).servers)
        server = natsserver.Server(own)
    central = made(
        engine=lambda desk: NatsBus(
            desk,
            rights,
            settings.nats_url,
            trusted,
            rhythm=rhythm,
            added=lambda: _added(database),
            changed=lambda added: server.follow(added.servers) if server else None,
        )
    )
    return central, server


def _added(database: Database) -> Added:
    """The engine's servers that operators added."""
    with database.reading() as tx:
        return Added(engine_servers.all(tx), engine_servers.nodes_at(tx))


async def _serve(
    server: uvicorn.Server, bound: list[socket.socket], central: Central, authority: Authority, names: tuple[str, ...],
    engine: natsserver.Server | None, directory: Path,
) -> None:  # fmt: skip
    if engine:
        await natsserver.check()
    server.config.load()
    assert server.config.ssl is not None
    tending = [
        asyncio.create_task(central.tend()),
        asyncio.create_task(engine_files.watch(directory)),
        asyncio.create_task(authority.keep(server.config.ssl, names, engine.keep if engine else lambda _: None)),
    ]
    if engine:
        tending.append(asyncio.create_task(engine.run()))
    try:
        await server.serve(bound)
    finally:
        for task in tending:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
