"""Nodes over a NATS server: any number of centrals ask them, and one of these attends to each.

What is asked for stays in the database.  The engine keeps nothing: what it loses when it dies is found out by looking
again, as after every connection.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
import time
from collections.abc import Callable, Collection, Coroutine
from contextlib import suppress
from typing import Any

import msgspec
from starlette.websockets import WebSocket

from vini import bus
from vini.bus import engine, frames, subjects
from vini.bus.nkeys import claimed, nkey, public_key
from vini.central.added import NONE, Added
from vini.central.asking import Asking
from vini.central.attendance import CUT, away
from vini.central.connection import Connection
from vini.central.delivery import Desk, Desks, Rhythm
from vini.central.door import Door, check_version, unfit
from vini.central.rights import CENTRAL, Rights
from vini.central.visit import NatsCarrier, Visit
from vini.model import ViniError

log = logging.getLogger("vini.engine")
_HERE: msgspec.msgpack.Decoder[bus.Here] = msgspec.msgpack.Decoder(bus.Here)
_NAMES: msgspec.msgpack.Decoder[list[str]] = msgspec.msgpack.Decoder(list[str])
_SITE_S = (0.1, 0.5, 2.0, 5.0)  # between calls of a leaf node's nodes
_LIST_S = 150.0  # between looks which accounts a server knows: what it missed, others tell it within 120 s
_SITE_AGAIN_S = 10.0  # from the last of these calls to the first of the next: all nodes answer to each
_SIGHT_S, _BLIND_S = 2.0, 10.0  # between looks whether the database answers; how long a central does without it
_AGAIN_S = 2.0  # before the database is asked once more which servers there are
_SILENT = 90.0  # s without a word after which a node is taken to be gone; it says one every 20 s


class NatsBus(Asking):
    """A `bus.seam.Bus` over a NATS server.  `wake`, `drop` and `readmit` may be called by any thread; all else belongs
    to the loop that runs `run`."""

    def __init__(
        self, desk: Desk, rights: Rights, url: str, trusted: ssl.SSLContext, *,
        clock: Callable[[], float] = time.time, rhythm: Rhythm | None = None,
        added: Callable[[], Added] = lambda: NONE, changed: Callable[[Added], None] = lambda _: None,
    ):  # fmt: skip
        """`url` names all servers of a cluster, with commas between them; `added` reads, in a thread, which were added
        to it, and `changed` is told when these are others."""
        self._desk, self._rights, self._url, self._trusted = Desks(desk), rights, url, trusted
        self._read_added, self._changed = added, changed
        self._added: Added | None = None  # None: not read yet
        self._site_accounts: set[str] = set()  # to which somebody may be let in
        self._ended_accounts: set[str] = set()  # those that we took back
        self._look = asyncio.Event()
        self._clock, self._rhythm = clock, rhythm or Rhythm()
        self._visits: dict[str, Visit] = {}  # by the node's key
        self._of: dict[str, Visit] = {}  # by the node's name
        self._heard: dict[str, float] = {}  # node -> when it was there last
        self._leaves: dict[tuple[str, str], int] = {}  # account's subject, server -> how many leaf nodes it has there
        self._site_came = asyncio.Event()
        self._others_saw = -math.inf  # when another central said last that the database answers it
        self._introducing: dict[str, bus.Here] = {}  # key -> the last word of a node that is being looked up
        self._revoked: dict[str, int] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._line: engine.Line | None = None
        self._system: engine.Line | None = None
        self._claims_changed = asyncio.Event()
        self.others: Callable[[], bool] = lambda: False  # whether other centrals serve, too
        self._epoch = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._told = ""

    # --- Bus ------------------------------------------------------------------------------------

    def connected(self) -> frozenset[str]:
        """The nodes that can be asked at this moment."""
        return frozenset(list(self._of))

    def attended(self) -> frozenset[str]:
        """Those of them whose clocks we measure; another central those of the others."""
        return frozenset(node for node, visit in list(self._of.items()) if visit.attendance)

    def wake(self, nodes: Collection[str], written: int | None = None) -> None:
        """What is asked of these nodes has changed; the centrals that attend to them are told.  `written`: as in
        `Hub`."""
        self._soon(lambda: self._wake(nodes, written))

    def _wake(self, nodes: Collection[str], written: int | None) -> None:
        elsewhere = self._wake_ours(nodes, written)
        if elsewhere and self._line:
            self._spawn(self._say(subjects.WAKE, msgspec.msgpack.encode(elsewhere)))

    def _wake_ours(self, nodes: Collection[str], written: int | None = None) -> list[str]:
        """Those that we don't attend to."""
        others = []
        for node in nodes:
            visit = self._of.get(node)
            if visit and visit.attendance:
                visit.attendance.delivery.wake(written)
            else:
                others.append(node)
        return others

    def connection(self, node: str) -> Connection:
        """Raises NodeAway where there is none."""
        if node not in self._of:
            raise away(node, self._heard.get(node), self._clock(), "" if self._line else self._told)
        return self._of[node].connection

    # --- who may connect ------------------------------------------------------------------------

    async def endpoint(self, socket: WebSocket) -> None:
        """A node that dials this central, and is told where the engine is."""
        entered = await Door(self._desk.identities, self._rhythm.patience).let_in(socket)
        if entered:
            connection, proof, identity = entered
            self.readmit([identity.public_key])
            with suppress(ConnectionError):
                await connection.send(frames.UNASKED, self._elsewhere(proof.node, identity.public_key))
            connection.end("The engine is elsewhere.")
            await connection.ended(self._rhythm.patience)

    def drop(self, node: str, why: str = CUT) -> None:
        """Cut it off at once, from the engine itself."""

        def drop() -> None:
            if visit := self._of.get(node):
                visit.connection.end(why, frames.REFUSED)

        self._soon(drop)

    def readmit(self, keys: Collection[bytes]) -> None:
        """The nodes with these keys may connect, whatever was said of them before."""

        def readmit() -> None:
            back = self._revoked.keys() & {nkey("user", key) for key in keys} if self._revoked else set()
            for key in back:
                del self._revoked[key]
            if back:
                self._claims_changed.set()

        self._soon(readmit)

    def _revoke(self, key: str) -> None:
        if key not in self._revoked:
            self._revoked[key] = int(self._clock())
            self._claims_changed.set()

    def _soon(self, act: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and all connections with it
                self._loop.call_soon_threadsafe(act)

    # --- servers that were added ----------------------------------------------------------------

    def look(self) -> None:
        """Others may have been added, or nodes have come to their sites.  Any thread may say so."""
        self._soon(self._look.set)

    @property
    def _urls(self) -> tuple[str, ...]:
        """Of the cluster."""
        more = self._added.cluster if self._added else ()
        return tuple(dict.fromkeys((*self._url.split(","), *(server.url for server in more))))

    def _elsewhere(self, node: str, public_key: bytes) -> bus.Elsewhere:
        """Where a node dials, and as whom: the servers of its site, where it has some, and others while these are
        away."""
        here = [s for s in (self._added or NONE).servers if s.number in (self._added or NONE).at_site(public_key)]
        first, *more = dict.fromkeys((*(server.url for server in here), *self._urls))
        jwt = self._rights.node_jwt(node, public_key, here[0].site if here else "")
        return bus.Elsewhere(first, jwt, tuple(more), len(here))

    async def _learn(self) -> None:
        """Which were added; where the database does not say, it is asked once more.  Raises ViniError where it never
        did."""
        try:
            found = await asyncio.to_thread(self._read_added)
        except ViniError as e:
            if self._added is None:
                raise
            log.warning("the central's database can't be asked: %s", e)
            asyncio.get_running_loop().call_later(_AGAIN_S, self._look.set)
            return
        before, self._added = self._added, found
        if (before or NONE).servers != found.servers:
            self._changed(found)
            for visit in list(self._visits.values()):
                if visit.attendance:
                    await self._tell_where(visit)
        if before is not None and before != found:  # last: who is at a server that was removed has heard where to go
            self._claims_changed.set()

    async def _tell_where(self, visit: Visit) -> None:
        """A node keeps the addresses of servers, and dials another where the one that it is at is not among them."""
        assert visit.identity
        with suppress(ConnectionError):
            await visit.connection.send(frames.UNASKED, self._elsewhere(visit.node, visit.identity.public_key))

    async def _learning(self) -> None:
        while True:
            await self._look.wait()
            self._look.clear()
            await self._learn()

    async def _sighted(self) -> _Blind:
        """Returns when the database has been away for so long that nodes have more of another central, which says that
        it has it: whoever attends to them without it tells them nothing new."""
        seen = time.monotonic()
        while True:
            try:
                await self._desk.identities.ask("")
                seen = time.monotonic()
                self._spawn(self._say(subjects.SIGHT, self._epoch.encode()))
            except ViniError as e:
                now = time.monotonic()
                if now - seen > _BLIND_S and now - self._others_saw < 3 * _SIGHT_S:
                    return _Blind(e)
            await asyncio.sleep(_SIGHT_S)

    def _seen_by(self, central: bytes) -> None:
        if central != self._epoch.encode():
            self._others_saw = time.monotonic()

    # --- the engine -----------------------------------------------------------------------------

    async def serve(self) -> None:
        """Until cancelled.  An engine that is away, or goes away, is dialled again."""
        self._loop = asyncio.get_running_loop()
        waits = self._rhythm.first
        while True:
            started = time.monotonic()
            try:
                await self._connected()
            except _Blind as e:
                self._tell(str(e))
            except (OSError, TimeoutError, ViniError) as e:
                self._tell(f"The engine {self._url} can't be used: {_why(e)}")
            waits = self._rhythm.first if time.monotonic() - started > 10 else min(2 * waits, 4.0)
            await asyncio.sleep(waits)

    def _tell(self, what: str) -> None:
        if what != self._told:
            log.warning("%s", what)
        self._told = what

    async def _connected(self) -> None:
        """Raises when it is over."""
        self._epoch = subjects.epoch()
        patience = self._rhythm.patience
        if self.others():
            try:
                await self._desk.identities.ask("")  # of nobody: whether the database answers
            except ViniError as e:
                raise _Blind(e) from e
        await self._learn()
        try:
            self._system = await engine.dial(
                self._urls, self._trusted, *self._rights.administrator(), self._epoch, patience
            )
            await self._look_up_claims(self._system)
            await self._push_claims(self._system)
            # the same server, which knows the claims that go over the first: of others some may not, for a while
            self._line = await engine.dial(
                [self._system.url], self._trusted, *self._rights.central(), self._epoch, patience
            )
            await self._listen(self._line, self._system)
            log.info("connected to the engine %s", self._url)
            self._told = ""
            await self._until_over(self._line, self._system)
        finally:
            await self._hang_up()

    async def _listen(self, line: engine.Line, system: engine.Line) -> None:
        await system.hear("$SYS.ACCOUNT.*.DISCONNECT", self._left)
        await system.hear("$SYS.ACCOUNT.*.SERVER.CONNS", self._counted)
        await system.settle()
        await line.hear(subjects.to_central("*", "*", self._epoch), self._frame)
        await line.hear(subjects.WAKE, lambda _, body, __: self._woken(body))
        await line.hear(subjects.SIGHT, lambda _, body, __: self._seen_by(body))
        await line.hear(subjects.here("*"), self._here)
        await line.hear(subjects.greet("*"), self._here, subjects.CENTRALS)
        await line.settle()
        await line.say(subjects.CALL, b"")

    async def _until_over(self, line: engine.Line, system: engine.Line) -> None:
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(line.over()), asyncio.create_task(system.over()),
            asyncio.create_task(self._claims(system)), asyncio.create_task(self._sweep()),
            asyncio.create_task(self._learning()), asyncio.create_task(self._sighted()),
            asyncio.create_task(self._calling_sites()),
        ]  # fmt: skip
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                raise task.result() or ViniError("its connection is over.")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _hang_up(self) -> None:
        visits, lines = list(self._visits.values()), [x for x in (self._line, self._system) if x]
        self._line = self._system = None
        for visit in visits:
            visit.carrier.gone()
        await asyncio.gather(*(visit.over() for visit in visits), return_exceptions=True)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for line in lines:
            await line.close()

    async def _say(self, subject: str, body: bytes, unheard: str = "") -> None:
        if self._line is None:
            raise ConnectionError("the engine is away")
        await self._line.say(subject, body, unheard)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        async def quietly() -> None:
            with suppress(ConnectionError, TimeoutError):  # that the engine has gone is noticed elsewhere
                await work

        task = asyncio.create_task(quietly())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- claims ---------------------------------------------------------------------------------

    async def _look_up_claims(self, system: engine.Line) -> None:
        """Whom the server keeps out stays out: another central may know why."""
        account, patience = self._rights.account, self._rhythm.patience
        self._ended_accounts.clear()
        if account not in await self._list_accounts(system):
            return  # then it would not answer
        found = await system.ask(f"$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP", b"", patience)
        try:
            self._revoked = {**claimed(found.decode())["nats"].get("revocations", {}), **self._revoked}
        except (ValueError, KeyError) as e:
            raise ViniError(f"it says something of this testbed's rights that is none ({found[:300]!r}).") from e

    async def _list_accounts(self, system: engine.Line) -> set[str]:
        """All that the server knows.  Those of sites that have no servers any more are to be taken back, whoever ran
        when these were removed."""
        listed = await system.ask("$SYS.REQ.CLAIMS.LIST", b"", self._rhythm.patience)
        try:
            known = set(msgspec.json.decode(listed, type=_Listed).data)
        except msgspec.DecodeError as e:
            raise ViniError(f"it does not say whose rights it knows ({listed[:300]!r}).") from e
        self._site_accounts |= known - {self._rights.account, self._rights.system} - self._ended_accounts
        return known

    async def _push_claims(self, system: engine.Line) -> None:
        sites = (self._added or NONE).sites(frozenset(self._revoked))
        now = {self._rights.site_account(name) for name in sites}
        gone = self._site_accounts - now
        jwts = [self._rights.ended_jwt(account) for account in sorted(gone)]
        jwts += [self._rights.site_jwt(name, site, self._revoked) for name, site in sites.items()]
        for jwt in (*jwts, self._rights.account_jwt(self._revoked, sites)):
            await self._push(system, jwt)
        self._site_accounts = now
        self._ended_accounts = (self._ended_accounts | gone) - now

    async def _push(self, system: engine.Line, jwt: str) -> None:
        said = await system.ask("$SYS.REQ.CLAIMS.UPDATE", jwt.encode(), self._rhythm.patience)
        if b'"error"' in said:
            raise ViniError(
                f"it does not take this testbed's rights ({said.decode(errors='replace')[:300]}); was it started with "
                "the files that `vini central engine server ADDRESS` writes, and `vini central engine write` again?"
            )

    async def _claims(self, system: engine.Line) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LIST_S):
                    await self._claims_changed.wait()
            if not self._claims_changed.is_set():
                before = set(self._site_accounts)
                await self._list_accounts(system)
                if self._site_accounts == before:
                    continue
            self._claims_changed.clear()
            await self._push_claims(system)

    # --- what comes ------------------------------------------------------------------------------

    def _left(self, _: str, body: bytes, __: bool) -> None:
        """The server's word that a connection ended."""
        with suppress(msgspec.DecodeError):
            client = msgspec.json.decode(body, type=_Left).client
            visit = self._visits.get(client.user)
            if visit and visit.epoch == client.name:
                visit.carrier.gone()
            elif client.name_tag == CENTRAL:
                self._call()

    def _call(self) -> None:
        """Have all nodes say that they are there."""
        self._spawn(self._say(subjects.CALL, b""))

    def _counted(self, subject: str, body: bytes, _: bool) -> None:
        """A server's word how many connections an account has there.  Its own word of a leaf node that has come,
        `LEAFNODE.CONNECT`, is said only where there are gateways."""
        with suppress(msgspec.DecodeError):
            there = msgspec.json.decode(body, type=_Counts)
            of = (subject, there.server.id)
            if there.leafnodes > self._leaves.get(of, 0):
                self._site_came.set()
            self._leaves[of] = there.leafnodes

    async def _calling_sites(self) -> None:
        """A leaf node has come back.  What its nodes listen to is known in the cluster a moment later, and nobody says
        when: so they are called some times.  And it is told each time who may do what: what changed while it was away
        it would learn of the others minutes later, and let in meanwhile who was disabled.

        However often one comes and goes, all nodes are called some times in each `_SITE_AGAIN_S` at most."""
        while True:
            await self._site_came.wait()
            self._site_came.clear()
            for waits_s in _SITE_S:
                await asyncio.sleep(waits_s)
                self._claims_changed.set()
                await self._say(subjects.CALL, b"")
            await asyncio.sleep(_SITE_AGAIN_S)

    async def _sweep(self) -> None:
        """For what no server could tell us of."""
        while True:
            await asyncio.sleep(_SILENT / 5)
            for visit in list(self._visits.values()):
                if time.monotonic() - visit.heard > _SILENT:
                    visit.carrier.gone()

    def _woken(self, body: bytes) -> None:
        self._wake_ours(_NAMES.decode(body))

    def _frame(self, subject: str, body: bytes, unheard: bool) -> None:
        _, _, key, epoch, _ = subject.split(".")
        visit = self._visits.get(key)
        if visit is None or visit.epoch != epoch:
            return
        if unheard:
            visit.carrier.gone()
        elif body:
            visit.carrier.put(body)

    def _here(self, subject: str, body: bytes, unheard: bool) -> None:
        key = subject.rpartition(".")[2]
        try:
            here = _HERE.decode(body) if not unheard and len(body) <= frames.STRANGER else None
        except msgspec.DecodeError:
            here = None
        if here is None or not here.epoch.isalnum():
            return
        visit = self._visits.get(key)
        if visit and visit.epoch == here.epoch:
            visit.heard = time.monotonic()
            if here.greeting:
                visit.attend(here.greeting)
        elif key not in self._introducing:
            self._introducing[key] = here
            self._spawn(self._introduce(key))
        elif here.greeting or self._introducing[key].epoch != here.epoch:
            self._introducing[key] = here

    async def _introduce(self, key: str) -> None:
        """One look at a time, however often a node says who it is."""
        try:
            looked: bus.Here | None = None
            while looked is not self._introducing[key]:
                looked = self._introducing[key]
                await self._introduced(key, looked)
        finally:
            del self._introducing[key]

    async def _introduced(self, key: str, here: bus.Here) -> None:
        """The engine has seen that it has the key; whose that is, the desk knows."""
        try:
            check_version(here.wire)
            identity = await self._desk.identities.ask(here.node)
        except bus.Foreign as e:
            await self._refuse(key, here.epoch, e)
            return
        except ViniError as e:  # the database is away; the node says it again
            log.warning("the central's database can't be asked: %s", e)
            return
        why = unfit(here.node, identity, identity is not None and identity.public_key == public_key(key))
        if identity is None or why:
            await self._refuse(key, here.epoch, bus.refused(bus.Refusal("Denied", why)))
            self._revoke(key)
        elif self._introducing[key].epoch == here.epoch and self._line:
            visit = self._visits.get(key)
            if visit is None or visit.epoch != here.epoch:
                visit = await self._begin(key, here, visit)
            visit.identity = identity
            if here.greeting:
                visit.attend(here.greeting)
                if self._added != NONE:
                    await self._tell_where(visit)

    async def _begin(self, key: str, here: bus.Here, older: Visit | None) -> Visit:
        for before in {v.key: v for v in (older, self._of.get(here.node)) if v}.values():
            before.connection.end("A newer connection of this node took its place.", frames.DISPLACED)
        at, reply = subjects.to_node(key, here.epoch, self._epoch), subjects.to_central(key, here.epoch, self._epoch)
        carrier = NatsCarrier(lambda body: self._say(at, body, reply), lambda: self._revoke(key))
        visit = Visit(here.node, key, here.epoch, carrier, self._desk, self._rhythm, self._clock)
        self._visits[key] = self._of[here.node] = visit
        log.info("node %s is connected", here.node)
        visit.begin(self._ended)
        return visit

    def _ended(self, visit: Visit) -> None:
        self._heard[visit.node] = self._clock()
        if self._visits.get(visit.key) is visit:
            del self._visits[visit.key]
        if self._of.get(visit.node) is visit:
            del self._of[visit.node]
            log.info("node %s is not connected any more", visit.node)

    async def _refuse(self, key: str, epoch: str, error: ViniError) -> None:
        log.info("refused %s: %s", key, error)
        body = frames.encode(frames.UNASKED, bus.refusal(error))
        await self._say(subjects.to_node(key, epoch, self._epoch), body)


class _Client(msgspec.Struct):
    user: str = ""  # its key
    name: str = ""  # what it calls itself: its epoch
    name_tag: str = ""  # what its JWT calls it


class _Blind(Exception):
    def __init__(self, error: ViniError):
        super().__init__(f"This central's database is away, so it leaves the nodes to other centrals: {error}")


class _Listed(msgspec.Struct):
    data: list[str] = []


class _Server(msgspec.Struct):
    id: str


class _Counts(msgspec.Struct):
    server: _Server
    leafnodes: int = 0


class _Left(msgspec.Struct):
    client: _Client


def _why(error: Exception) -> str:
    """For who can mend it."""
    match error:
        case ssl.SSLCertVerificationError() if "expired" in error.verify_message:
            return (
                "its certificate has expired; `vini central engine write` makes another one, and says what to copy "
                "(if its files are new, look at the clock of both machines)."
            )
        case ssl.SSLCertVerificationError():
            return (
                f"its certificate is none of this central's authority, or not for this name ({error.verify_message}); "
                "run nats-server with the files that `vini central engine server ADDRESS` writes, and "
                "`vini central engine write` again."
            )
        case ssl.SSLError() | ConnectionResetError():
            return (
                "it hangs up before TLS begins, as nats-server does when it has as many connections as it takes; its "
                "log says so, then raise its `max_connections`."
            )
        case ConnectionRefusedError():
            return "nobody listens there; is nats-server running?"
        case TimeoutError():
            return "it does not answer; is that its address, and is no firewall in between?"
        case _:
            return str(error) or type(error).__name__
