"""Whoever asks for something of a slice hears of it when its nodes have taken that, whatever is asked for after it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection

import msgspec
import pytest
from msgspec.structs import replace
from test_admission import ADMIN
from test_desired import N1, N2, PAIR, Nodes
from testbed_api import Api, populated

from vini import bus
from vini.central.desk import StoredDesk
from vini.central.testbed import Testbed as Wishes
from vini.model import Impairment, SliverStatus, Topology
from vini.rules.nouns import NodeSaid
from vini.store import nodes, slices
from vini.store.database import Database

CAN = frozenset({"root", "cgroup2", "vxlan", "netem", "frr"})
A, LONG_S = PAIR.name, 60.0
CHANGED, AGAIN = (  # each for both nodes
    replace(PAIR, links=(replace(PAIR.links[0], impairment=Impairment(delay_ms=ms)),)) for ms in (1, 2)
)


class Slow(Nodes):
    """They take nothing until they are told to; it is counted how often whoever waits has looked."""

    looks = 0

    def connected(self) -> frozenset[str]:
        self.looks += 1
        return super().connected()

    def wake(self, names: Collection[str]) -> None: ...

    async def looked(self, waiting: asyncio.Task[bus.Report]) -> None:
        """Whoever waits has looked again, or waits no more."""
        before, deadline = self.looks, time.monotonic() + LONG_S
        while self.looks < before + 3 and not waiting.done() and time.monotonic() < deadline:
            await asyncio.sleep(0.01)


@pytest.fixture
def api(database: Database) -> Api:
    made = populated(database)
    with database.transaction() as tx:
        for i, name in enumerate((N1, N2)):
            nodes.heard(tx, name, made.now[0], NodeSaid(CAN, f"192.0.2.{i + 1}"), float(i))
    return made


def say(api: Api, node: str, generation: int, accepted: int = 0) -> None:
    """What the agent of a node does: it reports of that generation, and of what it has on disk."""
    rows = (SliverStatus(f"{A}.{'a' if node == N1 else 'b'}", "ready"),)
    report = bus.Report(rows, slice=A, generation=generation, accepted=accepted or generation)
    with api.database.transaction() as tx:
        slices.acknowledge(tx, A, node, generation, msgspec.json.encode(report), 1.0)


Then = Callable[[Slow, asyncio.Task[bus.Report]], Awaitable[None]]


def first_of_two(api: Api, then: Then, second: Topology = AGAIN, at: float = 0.0) -> bus.Report:
    """What whoever asks for CHANGED is told, who is overtaken by the second at once; `then`: what happens after that.

    The nodes have generation 1 of it; his is 2, and the other one 3.
    """

    async def both() -> bus.Report:
        fleet = Slow()
        wishes = Wishes(api.database, fleet, lambda: api.now[0])  # type: ignore[arg-type]
        await wishes.put(ADMIN, PAIR, "put")
        say(api, N1, 1)
        say(api, N2, 1)
        first = asyncio.create_task(wishes.put(ADMIN, CHANGED, "put", wait_s=LONG_S))
        await fleet.looked(first)
        await wishes.put(ADMIN, second, "put", at=at)
        await fleet.looked(first)
        assert not first.done()
        await then(fleet, first)
        return await asyncio.wait_for(first, LONG_S)

    report = asyncio.run(both())
    assert report.generation == 2 and report.seconds < LONG_S
    return report


def test_who_is_overtaken_waits_until_the_nodes_have_the_newer_one(api: Api) -> None:
    async def then(fleet: Slow, first: asyncio.Task[bus.Report]) -> None:
        say(api, N1, 3)
        await fleet.looked(first)
        assert not first.done()
        say(api, N2, 3)

    assert {row.state for row in first_of_two(api, then).slivers} == {"ready"}


def test_who_is_overtaken_waits_no_longer_than_for_his_own(api: Api) -> None:
    async def then(fleet: Slow, first: asyncio.Task[bus.Report]) -> None:
        say(api, N1, 2)
        await fleet.looked(first)
        assert not first.done()
        say(api, N2, 2)

    assert {row.why.rpartition(" has ")[2] for row in first_of_two(api, then).slivers} == {"not taken it yet"}


def test_who_is_overtaken_by_the_slices_end_waits_for_that(api: Api) -> None:
    async def then(_: Slow, __: asyncio.Task[bus.Report]) -> None:
        say(api, N1, 3)
        say(api, N2, 3)

    assert first_of_two(api, then, second=Topology(A)).slivers == ()


def test_who_is_overtaken_by_what_is_for_later_does_not_wait_for_that_time(api: Api) -> None:
    """The nodes never get his: what they have on disk is newer, and waits."""

    async def then(fleet: Slow, first: asyncio.Task[bus.Report]) -> None:
        say(api, N1, 1, accepted=3)
        await fleet.looked(first)
        assert not first.done()
        say(api, N2, 1, accepted=3)

    first_of_two(api, then, at=api.now[0] + 1e6)


def test_a_newer_one_that_is_on_disk_and_not_for_later_is_waited_for(api: Api) -> None:
    async def then(fleet: Slow, first: asyncio.Task[bus.Report]) -> None:
        for node in (N1, N2):
            say(api, node, 1, accepted=3)
        await fleet.looked(first)
        assert not first.done()
        for node in (N1, N2):
            say(api, node, 3)

    assert {row.state for row in first_of_two(api, then).slivers} == {"ready"}


FULL = "The ledger can't be written: No space left on device; nothing was changed."


@pytest.mark.parametrize("held", [0, 1], ids=["new there", "older there"])
def test_why_a_node_does_not_take_it_is_told_by_whoever_looks(api: Api, held: int) -> None:
    """Also of a slice of which it has nothing yet: then what it says is of no generation."""

    class Refusing(Slow):
        has = held

        async def ask(self, node: str, request: bus.Request, progress: object = None) -> bus.Reply:
            if node == N1 and isinstance(request, bus.AskStatus):
                return bus.Report((), slice=A, generation=self.has, accepted=self.has)
            return await super().ask(node, request, progress)

    async def tried() -> tuple[str, dict[str, str], str, dict[str, str]]:
        fleet, desk = Refusing(), StoredDesk(api.database)
        wishes = Wishes(api.database, fleet, lambda: api.now[0])  # type: ignore[arg-type]
        for wanted in (PAIR, CHANGED)[: held + 1]:
            await wishes.put(ADMIN, wanted, "put")
            say(api, N2, held + 1)
            if held and wanted is PAIR:
                say(api, N1, 1)
        before = (await wishes.looks.status(ADMIN, A)).away
        await asyncio.to_thread(
            desk.reported, [(N1, bus.Report((), slice=A, generation=held, accepted=held, refused=FULL))]
        )
        told = {row.sliver: row.why for row in wishes._uptake.last_heard(A)}[f"{A}.a"]
        seen = (await wishes.looks.status(ADMIN, A)).away
        say(api, N1, held + 1)
        fleet.has = held + 1
        return before[N1], seen, told, (await wishes.looks.status(ADMIN, A)).away

    before, seen, told, after = asyncio.run(tried())
    assert before == f"node {N1} has not taken the newest change yet"
    assert seen == {N1: f"node {N1} refuses: {FULL}"} and told == seen[N1]
    assert after == {}
