"""What a central does for one node that is connected: it brings it what is newer, hears it, and looks after it."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import random
import time
from collections.abc import Callable

from msgspec.structs import replace

from vini import bus
from vini.bus import frames
from vini.central.clock import ClockFilter
from vini.central.conf_files import Configuring
from vini.central.connection import Connection, Misbehaves
from vini.central.delivery import Ailing, Delivery, Desks, Identity, Rhythm, asked, calm
from vini.central.doubles import QUIET_S
from vini.central.logins import LoginsHeard
from vini.model import ViniError
from vini.rules import mesh
from vini.usage import DAY_S

log = logging.getLogger("vini.hub")
CUT = "This node may not connect any more."
_DRIFT_S = 0.001  # a clock that moved by more, beyond what the way there makes uncertain, is told of
_SETTLED_S = 5.0  # after a node came, until it measures the ways to others: when many come, all are there then
_PAGES = 1000  # of answers to one question what slivers used; a round that has more goes on in the next
_SOON = 0.1  # of the time between two questions what slivers used, before the first
_BURST, _SOON_S = 4, 0.05  # so many measurements of a clock follow each other at once when a node comes


class Attendance:
    """Over one connection, until that is over."""

    def __init__(
        self, connection: Connection, greeting: bus.Greeting, identity: Identity, desk: Desks, rhythm: Rhythm,
        clock: Callable[[], float],
    ):  # fmt: skip
        self.connection, self._greeting, self._identity = connection, greeting, identity
        self._desk, self._rhythm, self._clock = desk, rhythm, clock
        self.delivery = Delivery(connection, greeting, desk, rhythm)
        self._configuring = Configuring(connection, greeting, desk, rhythm)
        self.delivery.other_files = self._configuring.look
        self._logins = LoginsHeard(connection, desk, rhythm)
        self.pid = greeting.pid
        self.host = ""  # the address that it comes from
        self.doubt = ""  # what the central finds wrong with it, for as long as it goes on

    async def run(self, reading: asyncio.Task[None]) -> None:
        """Until it is over; `reading` gives out what the node says, and ends when it has hung up."""
        await self.connection.send(frames.UNASKED, bus.Welcome())
        await self.delivery.tell(replace(self._greeting, failing=self._failing(self._greeting.failing)))
        await self._until_over(reading)

    def _failing(self, said: tuple[str, ...]) -> tuple[str, ...]:
        """What its agent says, and what we say of it."""
        return (self.doubt, *said) if self.doubt else said

    async def _until_over(self, reading: asyncio.Task[None]) -> None:
        connection, delivery = self.connection, self.delivery
        ending = asyncio.create_task(connection.ended(self._rhythm.patience))
        tasks = [
            reading, ending, asyncio.create_task(delivery.deliver()), asyncio.create_task(delivery.telling()),
            asyncio.create_task(delivery.authorize()), asyncio.create_task(self._beat()),
            asyncio.create_task(self._guard()), asyncio.create_task(self._survey()),
            asyncio.create_task(delivery.reviewing()), asyncio.create_task(self._account()),
            asyncio.create_task(self._configuring.run()), asyncio.create_task(self._logins.run()),
        ]  # fmt: skip
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for error in (task.exception() for task in done):
                if error and not isinstance(error, (bus.NodeAway, ConnectionError)):
                    expected = isinstance(error, Misbehaves)
                    log.warning("node %s: %s", connection.node, error, exc_info=None if expected else error)
                    connection.end(str(error), frames.MISBEHAVED if expected else 1011)
            if not reading.done() or reading.exception():  # it has not hung up
                connection.end("The central ends this connection.")
                await ending
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _guard(self) -> None:
        """Returns when the node may not connect any more: what another central decided is noticed by looking."""
        within = 0.0
        while True:
            now = await asked(self._desk.identities, self.connection.node, self._rhythm, within)
            if now is None or not now.allowed or now.public_key != self._identity.public_key:
                self.connection.end((now.why if now else "") or CUT, frames.REFUSED)
                return
            within = calm(self._rhythm)
            await asyncio.sleep(self._rhythm.beat - within)

    async def _beat(self) -> None:
        """Measure the node's clock, and hear how its agent is; one that does not answer has gone."""
        told, told_at, began = bus.Offset(0.0, math.inf), -math.inf, time.monotonic()
        ailed = self._failing(self._greeting.failing)
        clock = ClockFilter()
        for measured in itertools.count(1):
            try:
                async with asyncio.timeout(self._rhythm.patience):
                    offset, said = await self._offset()
            except TimeoutError:
                self.connection.end("This node does not answer.", 1001)
                return
            self._configuring.changed(said.conf_files)
            self._logins.changed(said.logins)
            now = time.monotonic()
            if now - began > QUIET_S:
                self.doubt = ""
            if self._failing(said.failing) != ailed:
                ailed = self._failing(said.failing)
                await self.delivery.tell(Ailing(ailed))
            offset = replace(clock.add(offset, now), boot=said.boot)
            if now - told_at >= self._rhythm.review or _is_news(told, offset):
                told, told_at = offset, now
                await self.delivery.tell(offset)
                self.delivery.review()
            await asyncio.sleep(_SOON_S if measured < _BURST else self._rhythm.beat)

    async def _survey(self) -> None:
        """Have the node measure how far others are, a few of them at a time."""
        await asyncio.sleep(min(_SETTLED_S, self._rhythm.mesh) * random.uniform(0.5, 1.0))
        while True:
            question = await asked(self._desk.far, self.connection.node, self._rhythm, calm(self._rhythm))
            if question is not None:
                await self._measured(question)
            rounds = mesh.pause(len(question.peers) if question else 0)
            await asyncio.sleep(rounds * self._rhythm.mesh * random.uniform(0.9, 1.0))

    async def _measured(self, question: bus.AskRtts) -> None:
        """What does not come is asked again in the next round."""
        try:
            async with asyncio.timeout(self._rhythm.patience):
                reply = await self.connection.ask(question)
        except (TimeoutError, ViniError) as e:  # an older node does not know the question
            log.info("node %s does not tell how far others are: %s", self.connection.node, e or "it takes too long")
            return
        if isinstance(reply, bus.Rtts):  # of others than those nobody asked it
            await self.delivery.tell(bus.Rtts({peer: reply.ms.get(peer) for peer in question.peers}))

    async def _account(self) -> None:
        """Have the node tell what slivers used, from the last day of which it told: that one was not over then.

        What is written down is asked again, since it replaces what was: so what was lost on the way is lost to nobody.
        """
        await asyncio.sleep(_SOON * self._rhythm.usage * random.uniform(0.5, 1.0))
        day = await asked(self._desk.told_until, self.connection.node, self._rhythm, calm(self._rhythm))
        while True:
            try:
                day = await self._accounted(day)
            except (TimeoutError, ViniError) as e:  # an older node does not know the question
                log.info("node %s does not tell what slivers used: %s", self.connection.node, e or "it takes too long")
            await asyncio.sleep(self._rhythm.usage * random.uniform(0.9, 1.0))

    async def _accounted(self, day: int) -> int:
        """All from that day on is written down; the day to go on from: the last of it, but yesterday at the latest.
        A node whose clock was ahead over midnight, and is put right, goes on with a day before that one."""
        question = bus.AskUsage(day)
        for _ in range(_PAGES):
            async with asyncio.timeout(self._rhythm.patience):
                reply = await self.connection.ask(question)
            if not isinstance(reply, bus.Usage):
                raise Misbehaves(f"Asked what slivers used, the node answered with a {type(reply).__name__}.")
            if reply.rows:
                await asked(self._desk.reported, (self.connection.node, reply), self._rhythm, calm(self._rhythm))
                last = reply.rows[-1]
                if (last.day, last.slice) <= (question.day, question.after):
                    raise Misbehaves("Asked what slivers used, the node answers the same again and again.")
                question = bus.AskUsage(last.day, last.slice)
            if not (reply.more and reply.rows):
                break
        return min(question.day, int(self._clock()) // DAY_S - 1)

    async def _offset(self) -> tuple[bus.Offset, bus.Clock]:
        """By four moments, as NTP does it (RFC 5905, 8); and what it said with that of its agent."""
        asked_at, started = self._clock(), time.monotonic()
        reply = await self.connection.ask(bus.AskClock())
        took = time.monotonic() - started
        if not isinstance(reply, bus.Clock):
            raise Misbehaves(f"Asked for its clock, the node answered with a {type(reply).__name__}.")
        ahead = (reply.received + reply.answered) / 2 - (asked_at + took / 2)
        return bus.Offset(ahead, max(0.0, took - (reply.answered - reply.received))), reply


def _is_news(told: bus.Offset, now: bus.Offset) -> bool:
    """Whether the clock went elsewhere, or is known much better."""
    return abs(now.ahead_s - told.ahead_s) > now.rtt_s + _DRIFT_S or told.rtt_s > 2 * now.rtt_s + _DRIFT_S


def away(node: str, heard: float | None, now: float, why: str = "") -> bus.NodeAway:
    """The error for who asks for a node that is not connected; `heard`: when it was."""
    last = f"last heard {now - heard:.0f} s ago" if heard else "not heard since this central started"
    return bus.NodeAway(f"Node {node} is not connected ({last}).{f' {why}' if why else ''}")
