"""A node's connection to its central: dialled by the node, again and again, for as long as it is a member.

The agent needs none of it: with the central away for ever it works on from its ledger.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from vini import bus
from vini.bus import frames
from vini.model import Denied, ViniError
from vini.node import engined
from vini.node import identity as identities
from vini.node.agent import Agent
from vini.node.answers import Answers
from vini.node.identity import Identity
from vini.node.pulse import Pulse
from vini.node.reached import closed, trusting, unreachable
from vini.node.reports import Reports
from vini.node.rhythm import Rhythm
from vini.node.shares import settings
from vini.node.ssh import authorized
from vini.node.talk import Talk

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

log = logging.getLogger("vini.agent")


class _Rejoined(Exception):
    """The identity on disk is another one now."""


class Uplink:
    """Keeps a machine that has joined connected, and tells its central how slices are when that changes."""

    def __init__(self, agent: Agent, answers: Answers, state: Path, rhythm: Rhythm | None = None):
        self._agent, self._answers, self._state, self._rhythm = agent, answers, state, rhythm or Rhythm()
        self._reports = Reports(self._rhythm.push)
        self._via_hub = False  # the engine failed us: the central is asked whether it is elsewhere now
        self._told = ""
        self._deaf: dict[str, float] = {}  # servers of the engine where no central was heard -> when that was
        self._owner: str | None = None  # whose the slices of the central's ledger are

    async def run(self) -> None:
        """Dial, talk, wait; until cancelled."""
        waits = self._rhythm.first
        while True:
            identity = self._identity()
            if isinstance(identity, Identity):
                started = time.monotonic()
                denied = await self._once(identity)
                lasted = time.monotonic() - started
                waits = self._rhythm.first if lasted > self._rhythm.lasting else waits
                await self._pause(identity, (self._rhythm.longest if denied else waits) * random.uniform(0.5, 1.0))
                waits = min(self._rhythm.longest, 2 * waits)
            else:
                if identity is None:
                    await self._belong("")
                    await asyncio.to_thread(authorized.forget, self._state, "central")
                    self._answers.node, self._answers.uplink = "local", ""
                await self._pause(identity, self._rhythm.look)

    async def _belong(self, owner: str) -> None:
        if owner != self._owner:
            await self._agent.belong(owner)
            self._owner = owner

    def _identity(self) -> Identity | str | None:
        """Who we are; None where we have joined no central, a sentence where that can't be told."""
        try:
            return identities.read(self._state)
        except ViniError as e:
            self._say(str(e))
            return str(e)

    async def _pause(self, identity: Identity | str | None, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, self._rhythm.look))
            if left > self._rhythm.look and self._identity() != identity:
                return

    async def _once(self, identity: Identity) -> bool:
        """One connection from its beginning to its end; whether trying again soon is of no use."""
        self._answers.node = identity.node
        await self._belong(identity.owner)
        try:
            await self._connected(identity)
        except Denied as e:
            self._say(f"{e}  It is tried again every {self._rhythm.longest:g} s.")
            return True
        except _Rejoined:
            self._say(f"not connected to {identity.central}: the machine introduces itself anew")
        except ViniError as e:
            self._say(f"not connected to {identity.central}: {e}")
        finally:
            self._agent.listener = None
        return False

    def _say(self, what: str) -> None:
        """In the log, once; and where people look: in the greeting, and in a file for those without an agent."""
        if what == self._told:
            return
        log.info("uplink: %s", what)
        self._told = self._answers.uplink = what
        with suppress(OSError):
            path = identities.directory(self._state) / "status.json"
            new = path.with_suffix(".new")  # whoever reads it meanwhile sees all of the old one
            new.write_bytes(msgspec.json.encode({"uplink": what, "since": time.time()}))
            new.rename(path)

    async def _connected(self, identity: Identity) -> None:
        """Raises a ViniError that says why not, or why not any more."""
        engine = None if self._via_hub else engined.read(self._state, identity)
        self._via_hub = engine is not None  # unless it welcomes us
        if engine:
            try:
                await self._over_engine(engine, identity)
            except engined.Unknown as e:
                log.info("uplink: %s  The central is asked why.", e)
        self._via_hub = False
        engine = await self._over_hub(identity)
        engined.write(self._state, identity, engine)
        try:
            await self._over_engine(engine, identity)
        except engined.Unknown as e:
            raise ViniError(
                f"its engine {engine.url} does not let it in yet ({e}); if that lasts, look whether the engine's "
                "servers have the files that `vini central engine write` names."
            ) from e

    async def _over_engine(self, engine: bus.Elsewhere, identity: Identity) -> None:
        """Raises a ViniError when it is over; `Unknown` where the engine does not let us in."""

        def attended(by_a_central: bool) -> None:
            if by_a_central:
                self._via_hub = False
                self._say(f"connected to {identity.central} as {identity.node}, over {over.url}")
                self._agent.listener = self._reports.hear
            else:
                self._say(f"not connected to {identity.central}: its engine {over.url} answers, but no central does; "
                          "is one running (`vini central run`)?")  # fmt: skip

        def moved(to: bus.Elsewhere) -> None:
            engined.write(self._state, identity, to)

        over = engined.Engined(
            identity, engine, self._answers, self._reports, attended, moved, self._rhythm, self._deaf
        )
        try:
            await self._until_over(over.run(), identity)
        except (OSError, TimeoutError) as e:
            raise ViniError(f"its engine {engine.url} can't be reached: {unreachable(e)}") from e

    async def _over_hub(self, identity: Identity) -> bus.Elsewhere:
        """Where the central's engine is.  Raises a ViniError when a connection to the central itself is over."""
        try:
            from websockets.asyncio.client import connect
            from websockets.exceptions import WebSocketException
        except ImportError as e:
            raise ViniError("this machine lacks a library for it; `pip install 'vini[node]'`.") from e
        url = identity.central.replace("https://", "wss://", 1) + frames.PATH
        try:
            async with connect(
                url, ssl=trusting(identity.ca), max_size=frames.LARGEST, compression=None, proxy=None,
                open_timeout=self._rhythm.patience, ping_interval=None, close_timeout=1.0,
            ) as socket:  # fmt: skip
                if elsewhere := await self._introduce(socket, identity):
                    return elsewhere
                pulse = Pulse(socket, self._rhythm.patience)
                await self._until_over(self._talk(socket, identity, pulse), identity, pulse.watch())
                raise AssertionError("a talk ends with an error")
        except (OSError, EOFError, WebSocketException, TimeoutError) as e:
            raise ViniError(unreachable(e)) from e

    async def _introduce(self, socket: ClientConnection, identity: Identity) -> bus.Elsewhere | None:
        """Where the central has an engine, that."""
        async with asyncio.timeout(self._rhythm.patience):
            challenge = await self._first(socket)
            if not isinstance(challenge, bus.Challenge):
                raise ViniError("it answers, but not as a VINI central does.")
            if not frames.speaks(challenge.wire):
                older = "central" if challenge.wire < bus.WIRE else "node"
                raise ViniError(
                    f"it speaks version {challenge.wire} of the messages, this node version {bus.WIRE}; "
                    f"upgrade the {older}."
                )
            greeting = self._answers.greeting("central")
            proof = bus.Proof(identity.node, identity.sign(challenge.nonce), greeting)
            await socket.send(frames.encode(frames.UNASKED, proof))
            match await self._first(socket):
                case bus.Welcome():
                    return None
                case bus.Elsewhere() as elsewhere:
                    return elsewhere
                case bus.Refusal() as refusal:
                    raise bus.refused(refusal)
                case _:
                    raise ViniError("it answers, but not as a VINI central does.")

    async def _first(self, socket: ClientConnection) -> bus.ToNode:
        body = await socket.recv()
        if isinstance(body, str):
            raise ViniError("it answers, but not as a VINI central does.")
        first: bus.ToNode = frames.understood(frames.decode(body)[1], bus.ToNode)
        return first

    async def _talk(self, socket: ClientConnection, identity: Identity, pulse: Pulse) -> None:
        """Raises a ViniError when it is over."""
        from websockets.exceptions import ConnectionClosed

        async def say(body: bytes) -> None:
            try:
                await socket.send(body)
            except ConnectionClosed as e:
                raise ConnectionError("The central has gone.") from e

        self._say(f"connected to {identity.central} as {identity.node}")
        self._reports.begin()
        self._agent.listener = self._reports.hear
        talk = Talk(say, self._answers, self._reports.has_told)
        pushing = asyncio.create_task(self._reports.push(talk))
        try:
            async for body in socket:
                pulse.heard()
                if isinstance(body, str):
                    raise bus.Foreign("The central sent text where VINI's frames are binary.")
                talk.take(body)
        except ConnectionClosed:
            pass  # why is said below
        finally:
            pushing.cancel()
            await asyncio.gather(pushing, return_exceptions=True)
            await talk.close()
        raise closed(socket.close_code, socket.close_reason)

    async def _until_over(
        self, talk: Coroutine[Any, Any, None], identity: Identity, *watching: Coroutine[Any, Any, None]
    ) -> None:
        """The error of the talk or of what watches it, or that the machine joins anew meanwhile."""
        tasks = [asyncio.create_task(work) for work in (talk, self._watch(identity), *watching)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def _watch(self, identity: Identity) -> None:
        """Raises when the machine joins anew, or leaves; or when another rate of its uplink is to be told, or that its
        network interfaces are others."""
        rate, seen = settings.read(self._state).rate_mbit, None
        looked = time.monotonic()
        while True:
            versions = identities.version(self._state), settings.version(self._state)
            if versions != seen:  # to read both each second would be a third of what an idle agent does
                seen, now = versions, self._identity()
                if (now != identity and not isinstance(now, str)) or settings.read(self._state).rate_mbit != rate:
                    raise _Rejoined
            if time.monotonic() - looked >= self._rhythm.interfaces:
                looked, told = time.monotonic(), self._answers.told_interfaces
                if told is not None and await asyncio.to_thread(self._answers.interfaces) != told:
                    raise _Rejoined
            await asyncio.sleep(self._rhythm.look)
