"""A node's connection to the engine of its testbed: any central asks it over that, and one of them attends to it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from vini import bus
from vini.bus import engine, frames, subjects
from vini.bus.nkeys import Key, claimed
from vini.model import Denied, Value, ViniError
from vini.node import identity as identities
from vini.node.answers import Answers
from vini.node.identity import Identity
from vini.node.reached import closed, trusting
from vini.node.reports import Reports
from vini.node.rhythm import Rhythm
from vini.node.talk import Talk

_NOBODY = "nobody"  # where it is said that no central heard a greeting


class Unknown(Exception):
    """The engine does not let this node in; the central knows why."""


class Engined:
    """One connection, from its beginning to its end."""

    def __init__(
        self, identity: Identity, at: bus.Elsewhere, answers: Answers, reports: Reports,
        attended: Callable[[bool], None], moved: Callable[[bus.Elsewhere], None], rhythm: Rhythm,
        deaf: dict[str, float],
    ):  # fmt: skip
        """`deaf`: servers where we heard no central, and when that was; kept from one connection to the next."""
        self._identity, self._at, self._answers, self._reports = identity, at, answers, reports
        self._attended, self._rhythm = attended, rhythm  # told when a central attends to us, and when none does
        self._deaf = deaf
        self._moved = moved  # told where the engine's servers are, when these are others
        self._key, self._epoch = Key("user", identity.key), subjects.epoch()
        self._talks: dict[str, Talk] = {}  # central -> what it asks
        self._home = ""  # the central that attends to us
        self._alone_since = time.monotonic()
        self._pushing: asyncio.Task[None] | None = None
        self._alone = asyncio.Event()
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Of the server that we are at."""
        return self._line.url

    async def run(self) -> None:
        """Raises ViniError when it is over, Unknown, or OSError and TimeoutError where the engine is away."""
        try:
            self._line = await self._dial(self._at.urls, self._epoch)
        except Denied as e:
            raise Unknown(str(e)) from e
        self._over: asyncio.Future[ViniError] = asyncio.get_running_loop().create_future()
        beating = asyncio.create_task(self._beat())
        breaking = asyncio.create_task(self._line.over())
        returning = asyncio.create_task(self._return())
        try:
            waiting: set[asyncio.Future[Any]] = {beating, breaking, self._over}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not self._over.done() and breaking.done():
                self._over.set_result(breaking.result())
            error = self._over.result() if self._over.done() else beating.exception()
        finally:
            await self._clear(beating, breaking, returning)
        raise error if isinstance(error, ViniError) else ViniError(f"its engine broke: {error}")

    async def _clear(self, *tasks: asyncio.Task[Any]) -> None:
        self._leave_home()
        for task in tasks:
            task.cancel()
        talks = list(self._talks.values())
        self._talks = {}
        await asyncio.gather(*tasks, *(talk.close() for talk in talks), *self._ending, return_exceptions=True)
        await self._line.close()

    # --- at which server ------------------------------------------------------------------------

    async def _dial(self, urls: Sequence[str], epoch: str) -> engine.Line:
        at, trusted = self._at, trusting(self._identity.ca)
        first = self._near() or self._not_deaf(urls)
        return await engine.dial(urls, trusted, self._key, at.jwt, epoch, self._rhythm.patience, first)

    def _near(self) -> list[str]:
        """Servers of our site that may be of use."""
        return self._not_deaf(self._at.urls[: self._at.near])

    def _not_deaf(self, urls: Sequence[str]) -> list[str]:
        since = time.monotonic() - self._rhythm.deaf
        return [url for url in urls if self._deaf.get(url, since) <= since]

    async def _return(self) -> None:
        """To a server of our site, when one can be reached again and nothing is under way."""
        while True:
            await asyncio.sleep(self._rhythm.nearer)
            near = self._near()
            if not near or self._line.url in near or any(talk.busy() for talk in self._talks.values()):
                continue
            with suppress(OSError, TimeoutError, ViniError):
                await (await self._dial(near, subjects.epoch())).close()
                self._end(ViniError(f"its engine's server at its site can be reached ({', '.join(near)})"))

    # --- that we are there ----------------------------------------------------------------------

    async def _beat(self) -> None:
        """Tell the centrals so, and find out which of them have gone: the engine says who is not heard.

        At once when a central calls for it, as each does that begins, or hears that another one ended.
        """
        me, epoch = self._key.name, self._epoch
        await self._line.hear(subjects.to_node(me, epoch, "*"), self._hear)
        await self._line.hear(subjects.CALL, lambda *_: self._alone.set())
        await self._line.settle()
        self._alone_since = time.monotonic()
        while True:
            self._alone.clear()
            if not self._home:
                if time.monotonic() - self._alone_since > self._rhythm.alone:
                    self._deaf[self._line.url] = time.monotonic()
                    raise ViniError(f"its engine {self._line.url} answers, but no central does there")
                await self._say(subjects.greet(me), self._here(greet=True), _NOBODY)
            await self._say(subjects.here(me), self._here(greet=False))
            for central in list(self._talks):
                await self._say(subjects.to_central(me, epoch, central), b"", central)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._rhythm.beat if self._home else self._rhythm.look):
                    await self._alone.wait()

    def _here(self, greet: bool) -> bytes:
        greeting = self._answers.greeting("central") if greet else None
        return msgspec.msgpack.encode(bus.Here(self._identity.node, self._epoch, greeting))

    async def _say(self, subject: str, body: bytes, unheard: str = "") -> None:
        reply = subjects.to_node(self._key.name, self._epoch, unheard) if unheard else ""
        await self._line.say(subject, body, reply)

    # --- what centrals say ----------------------------------------------------------------------

    def _hear(self, subject: str, body: bytes, unheard: bool) -> None:
        central = subject.rpartition(".")[2]
        if unheard:
            self._gone(central)
            return
        try:
            number, raw = frames.decode(body)
            word = frames.understood(raw, bus.ToNode) if number == frames.UNASKED else None
            match word:
                case bus.Welcome():
                    self._settle(central)
                case bus.Elsewhere() as at:
                    self._follow(at)
                case bus.Refusal() as refusal:
                    self._end(bus.refused(refusal))
                case bus.Over(code, why) if central == self._home or code == frames.REFUSED:
                    self._end(closed(code, why))
                case bus.Over():
                    self._gone(central)
                case _:
                    self._talk(central).take(body)
        except bus.Foreign as e:
            self._end(e)

    def _follow(self, at: bus.Elsewhere) -> None:
        """The engine has these servers now."""
        another = _account(at.jwt) != _account(self._at.jwt)
        if another or (at.urls, at.near) != (self._at.urls, self._at.near):
            self._at = at
            self._moved(at)
        if another or self._line.url not in at.urls:
            self._end(ViniError(f"its engine has moved from {self._line.url} to {at.url}"))

    def _talk(self, central: str) -> Talk:
        async def say(body: bytes) -> None:
            await self._say(subjects.to_central(self._key.name, self._epoch, central), body, central)

        if central not in self._talks:
            self._talks[central] = Talk(say, self._answers, self._reports.has_told)
        return self._talks[central]

    def _end(self, error: ViniError) -> None:
        if not self._over.done():
            self._over.set_result(error)

    # --- the one that attends to us ---------------------------------------------------------------

    def _settle(self, central: str) -> None:
        talk = self._talk(central)
        if self._home and self._home != central:  # another one was faster
            body = frames.encode(frames.UNASKED, bus.Over(1000, "Another central attends to this node."))
            self._spawn(self._say(subjects.to_central(self._key.name, self._epoch, central), body))
        elif not self._home:
            self._home = central
            self._reports.begin()
            self._pushing = asyncio.create_task(self._reports.push(talk))
            self._attended(True)

    def _gone(self, central: str) -> None:
        if central == self._home:
            self._leave_home()
            self._alone.set()
        if not self._home:
            self._attended(False)
        if talk := self._talks.pop(central, None):
            self._spawn(talk.close())

    def _leave_home(self) -> None:
        if self._home:
            self._alone_since = time.monotonic()
        self._home = ""
        if self._pushing:
            self._pushing.cancel()
            self._pushing = None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._end(ViniError(f"its engine broke: {error}"))


def _account(jwt: str) -> str:
    """In which it makes us a node.  Raises Foreign where it is no JWT."""
    try:
        return str(claimed(jwt)["nats"]["issuer_account"])
    except (ValueError, KeyError, TypeError) as e:
        raise bus.Foreign("The central said something as whom we are on its engine that is none.") from e


# --- where it is, on disk: so that a node finds it with its central away ------------------------------


class _Known(Value, frozen=True):
    key: str  # whose it is
    url: str
    jwt: str
    more: tuple[str, ...] = ()
    near: int = 0


def _path(state: Path) -> Path:
    return identities.directory(state) / "engine.json"


def read(state: Path, identity: Identity) -> bus.Elsewhere | None:
    """None where it isn't known; then the central is asked."""
    try:
        known = msgspec.json.decode(_path(state).read_bytes(), type=_Known)
    except (OSError, msgspec.DecodeError):
        return None
    ours = known.key == Key("user", identity.key).name
    return bus.Elsewhere(known.url, known.jwt, known.more, known.near) if ours else None


def forget(state: Path) -> None:
    """So the central is asked."""
    _path(state).unlink(missing_ok=True)


def write(state: Path, identity: Identity, engine: bus.Elsewhere) -> None:
    """One that can't be written is asked for again."""
    new = _path(state).with_suffix(".new")
    with suppress(OSError), os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as f:
        known = _Known(Key("user", identity.key).name, engine.url, engine.jwt, engine.more, engine.near)
        f.write(msgspec.json.encode(known))
    with suppress(OSError):
        new.rename(_path(state))
