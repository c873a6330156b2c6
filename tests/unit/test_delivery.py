"""What a node is sent, where looks at the database and what the node does come one in the middle of the other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest

from vini import bus
from vini.central.batch import Batch
from vini.central.connection import Connection
from vini.central.delivery import (
    Admitted,
    Delivery,
    Desks,
    Identity,
    Lack,
    Mark,
    Newer,
    Rhythm,
    Telling,
    Who,
    Word,
    asked,
)
from vini.model import DriverError, Netns, SliceSpec, Unsupported
from vini.store.database import DatabaseError

QUICK = Rhythm(beat=0.2, first=0.01, longest=0.05)


def spec(slice_: str, generation: int) -> SliceSpec:
    return SliceSpec(slice_, "n1", generation, frozenset({Netns(f"{slice_}.x")}))


class Desk:
    """What was written, in its order; `may` lets looks at it be answered."""

    def __init__(self) -> None:
        self.written: list[SliceSpec] = []
        self.looks: list[int | None] = []
        self.heard: list[tuple[str, Word]] = []
        self.may = threading.Event()
        self.may.set()

    def identities(self, nodes: Sequence[str]) -> Sequence[Identity | None]:
        raise AssertionError(f"nobody asks here who {nodes} are")

    def newer(self, lacks: Sequence[Lack]) -> Sequence[Newer]:
        found = [self._newer(lack) for lack in lacks]  # as it was when the look began
        assert self.may.wait(30)
        return found

    def _newer(self, lack: Lack) -> Newer:
        since = lack.since.seq if lack.since else 0
        self.looks.append(lack.since.seq if lack.since else None)
        fresh = {s.slice: s for s in self.written[since:]}
        known = lack.greeting.generations
        lacked = [s for s in fresh.values() if s.generation > known.get(s.slice, 0) or not s.objects]
        return Newer(tuple(lacked), Mark(len(self.written), 0))

    def authorized(self, whos: Sequence[Who]) -> Sequence[Admitted]:
        return [Admitted({"s": bus.Admission((bus.AuthorizedKey("k", "ada"),))}, None, Mark(0, 0)) for _ in whos]

    def conf_files(self, nodes: Sequence[str]) -> Sequence[tuple[bus.NodeFile, ...]]:
        return [() for _ in nodes]

    def far(self, nodes: Sequence[str]) -> Sequence[bus.AskRtts | None]:
        return [None for _ in nodes]

    def told_until(self, nodes: Sequence[str]) -> Sequence[int]:
        return [0 for _ in nodes]

    def logins_until(self, nodes: Sequence[str]) -> Sequence[int]:
        return [0 for _ in nodes]

    def reported(self, words: Sequence[tuple[str, Word]]) -> Sequence[None]:
        self.heard += words
        return [None for _ in words]


class Node:
    """Takes what it is sent when it may; `refuses`, and for who may log in `shuts`: what it says instead, once each."""

    def __init__(self) -> None:
        self.node = "n1"
        self.begun: list[tuple[str, int]] = []
        self.told = 0
        self.held: dict[str, int] = {}
        self.refuses: list[Exception] = []
        self.shuts: list[Exception] = []
        self.may = asyncio.Event()
        self.may.set()

    async def ask(self, request: bus.Request) -> bus.Reply:
        if isinstance(request, bus.Authorize):
            self.told += 1
            if self.shuts:
                raise self.shuts.pop()
            return bus.Ssh(0, "")
        assert isinstance(request, bus.Accept)
        self.begun.append((request.spec.slice, request.spec.generation))
        await self.may.wait()
        if self.refuses:
            raise self.refuses.pop()
        self.held[request.spec.slice] = request.spec.generation
        return bus.Report((), slice=request.spec.slice, generation=request.spec.generation)


@asynccontextmanager
async def delivering(desk: Desk, node: Node) -> AsyncIterator[Delivery]:
    greeting = bus.Greeting("", 1, "n1", frozenset(), {})
    it = Delivery(cast(Connection, node), greeting, Desks(desk), QUICK)
    tasks = [asyncio.create_task(work) for work in (it.deliver(), it.telling(), it.authorize())]
    try:
        yield it
    finally:
        desk.may.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not check():
            await asyncio.sleep(0.001)


async def test_what_waited_for_an_earlier_one_is_sent_although_others_are_looked_for_meanwhile() -> None:
    desk, node = Desk(), Node()
    desk.written.append(spec("s", 1))
    node.may.clear()
    async with delivering(desk, node) as delivery:
        await until(lambda: node.begun == [("s", 1)])
        desk.written.append(spec("s", 2))
        delivery.wake()
        await until(lambda: desk.looks == [None, 1])
        desk.written.append(spec("t", 1))
        await asyncio.sleep(0.02)  # the look before is over
        desk.may.clear()
        delivery.wake()
        await until(lambda: desk.looks == [None, 1, 2])
        node.may.set()
        await until(lambda: node.held == {"s": 1})
        await asyncio.sleep(0.02)  # it was seen that the next of `s` may go
        desk.may.set()
        await until(lambda: node.held == {"s": 2, "t": 1})


async def test_what_a_node_refused_is_tried_again_although_others_are_looked_for_meanwhile() -> None:
    desk, node = Desk(), Node()
    desk.written.append(spec("s", 1))
    node.refuses.append(DriverError("the disk is full"))
    node.may.clear()
    async with delivering(desk, node) as delivery:
        await until(lambda: node.begun == [("s", 1)])
        desk.may.clear()
        desk.written.append(spec("t", 1))
        delivery.wake()
        await until(lambda: desk.looks == [None, 1])
        node.may.set()
        await asyncio.sleep(0.05)  # its rest is over
        desk.may.set()
        await until(lambda: node.held == {"s": 1, "t": 1})


async def test_an_end_that_the_node_has_told_us_of_is_not_sent_again_until_that_is_written_down() -> None:
    """As long as it is not, each look at all there is finds it."""
    desk, node = Desk(), Node()
    ends = [SliceSpec(name, "n1", 1, frozenset()) for name in ("s", "t")]
    desk.written += ends
    async with delivering(desk, node) as delivery:
        await until(lambda: len(node.held) == 2)
        desk.written.append(spec("u", 1))
        node.refuses.append(DriverError("the disk is full"))
        delivery.wake()
        await until(lambda: node.held.get("u") == 1)
        await asyncio.sleep(0.1)
    assert None in desk.looks[1:], "it was looked at all there is"
    assert sorted(node.begun) == [("s", 1), ("t", 1), ("u", 1), ("u", 1)]


async def test_what_a_node_saw_before_it_took_a_change_does_not_hide_that_it_took_it() -> None:
    """An end is told of once: no later look of the node's would tell of it again."""
    desk = Desk()
    telling = Telling("n1", Desks(desk), QUICK)
    for report in (bus.Report((), slice="s", generation=6), bus.Report((), slice="s", generation=5)):
        await telling.tell("s", report)
    running = asyncio.create_task(telling.run())
    await until(lambda: desk.heard)
    running.cancel()
    assert [word.generation for _, word in desk.heard if isinstance(word, bus.Report)] == [6]


@pytest.mark.parametrize(("said", "times"), [(DriverError("the disk is full"), 2), (Unsupported("no SSH server"), 1)])
async def test_who_may_log_in_is_told_again_where_the_node_could_not_write_it_down(said: Exception, times: int) -> None:
    """Whoever lost his key would be let in until something else changes."""
    desk, node = Desk(), Node()
    node.shuts.append(said)
    async with delivering(desk, node) as delivery:
        await until(lambda: node.told == times)
        desk.written.append(spec("s", 1))  # something else that is done after that
        delivery.wake()
        await until(lambda: node.held == {"s": 1})
        await asyncio.sleep(0.1)
        assert node.told == times


async def test_a_mistake_of_ours_is_not_taken_for_a_database_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """Either is tried again, for nodes stay connected; but only the mistake has a traceback, and says whose it is."""
    fails = [DatabaseError("The database refused: it is full."), KeyError("x"), KeyError("x")]

    def answer(questions: Sequence[int]) -> Sequence[int]:
        if fails:
            raise fails.pop(0)
        return questions

    assert await asked(Batch(answer), 7, QUICK) == 7
    said = [(r.levelname, r.getMessage().partition(":")[0], r.exc_info is not None) for r in caplog.records]
    mistake = "a mistake in VINI keeps the central from looking up, or writing down, what concerns a node"
    assert said == [("WARNING", "the central's database can't be asked", False), *[("ERROR", mistake, True)] * 2]
