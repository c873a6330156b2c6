"""Daemons that hang when they are asked or told something: each delays its own sliver, and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager

import msgspec
import pytest
from own_place import OwnPlace, eventually
from strategies import spec_of

from vini import bus
from vini.model import Process, Ready, SliceSpec, Sliver, Topology
from vini.node import cgroup

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2")]
LONG_S = 600.0
RUNS = ("sh", "-c", "echo cannot find my socket; exec sleep 1000")
HANGS = ("sh", "-c", "sleep 1000 & sleep 1000")


def daemon(ns: str, **more: object) -> Process:
    return Process(ns, "daemon", RUNS, **more)  # type: ignore[arg-type]


def spec(slice_: str, generation: int, process: Process) -> SliceSpec:
    """A slice of one sliver, "a", in which that process runs."""
    bare = spec_of(Topology(slice_, {"a": Sliver("a")}), generation)
    return msgspec.structs.replace(bare, objects=bare.objects | {process})


def the_bus(own: OwnPlace) -> bus.Line:
    return bus.Line(own.place.run / "agent.socket")


async def accept(own: OwnPlace, wanted: SliceSpec) -> bus.Report:
    reply = await the_bus(own).ask(bus.Accept(wanted))
    assert isinstance(reply, bus.Report)
    return reply


async def row(own: OwnPlace, slice_: str) -> tuple[str, str]:
    reply = await the_bus(own).ask(bus.AskStatus(slice_))
    assert isinstance(reply, bus.Report)
    (only,) = reply.slivers
    return only.state, only.why


def pids(own: OwnPlace, ns: str) -> list[int]:
    return cgroup.pids(cgroup.of(own.place, ns, "daemon"))


def asking(own: OwnPlace, ns: str) -> list[int]:
    """Commands that ask or tell a daemon of this sliver."""
    return cgroup.pids(cgroup.of(own.place, ns))


async def heals(own: OwnPlace) -> None:
    """The neighbour's daemon is killed, and comes back."""
    before = pids(own, "fine.a")
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(eventually, lambda: set(pids(own, "fine.a")) - set(before), 60)
    assert await row(own, "fine") == ("ready", "")


@asynccontextmanager
async def neighbours(own: OwnPlace):
    """An agent with one slice that is well; in the end all is down and nothing is left."""
    await own.client().greeting()
    await accept(own, spec("fine", 1, daemon("fine.a", ready=Ready(("echo", "yes"), "yes"))))
    yield
    for slice_ in ("fine", "hangs"):
        assert (await accept(own, SliceSpec(slice_, "local", 1000))).slivers == ()
    assert [x for x in own.leftovers() if not x.startswith("agent")] == []


def test_while_a_probe_hangs_the_neighbour_is_healed_and_the_sliver_can_end(own):
    async def scene() -> None:
        async with neighbours(own):
            hanging = asyncio.create_task(
                accept(own, spec("hangs", 1, daemon("hangs.a", ready=Ready(HANGS, within_s=LONG_S))))
            )
            await asyncio.to_thread(eventually, lambda: asking(own, "hangs.a"))
            await heals(own)
            assert not hanging.done() and asking(own, "hangs.a")
            await accept(own, SliceSpec("hangs", "local", 2))
            await hanging  # what it waited for fell with the sliver
            assert not asking(own, "hangs.a")

    asyncio.run(scene())


def test_the_status_says_which_probe_had_no_answer_and_what_its_daemon_said(own):
    async def scene() -> None:
        async with neighbours(own):
            hangs = daemon("hangs.a", ready=Ready(HANGS, within_s=0.5))
            (told,) = (await accept(own, spec("hangs", 1, hangs))).slivers
            assert (told.state, told.why) == (
                "configuring",
                "daemon runs, but its readiness probe `sh -c 'sleep 1000 & sleep 1000'` had no answer within 0.5 s; "
                "the last lines of its log: cannot find my socket",
            )
            assert await row(own, "hangs") == (told.state, told.why), "asked again, but nobody waits for it"
            await asyncio.to_thread(eventually, lambda: not asking(own, "hangs.a"))
            await accept(own, spec("hangs", 2, daemon("hangs.a", ready=Ready(("echo", "yes"), "yes"))))
            assert await row(own, "hangs") == ("ready", "")

    asyncio.run(scene())


def test_while_a_reload_hangs_the_neighbour_is_healed(own):
    async def scene() -> None:
        async with neighbours(own):
            hangs = daemon("hangs.a", config="1", reload=HANGS, reload_within_s=LONG_S)
            await accept(own, spec("hangs", 1, hangs))
            before = pids(own, "hangs.a")
            changed = daemon("hangs.a", config="2", reload=HANGS, reload_within_s=LONG_S)
            hanging = asyncio.create_task(accept(own, spec("hangs", 2, changed)))
            await asyncio.to_thread(eventually, lambda: asking(own, "hangs.a"))
            await heals(own)
            assert not hanging.done() and asking(own, "hangs.a")
            assert (await row_now(own, "hangs"))[0] == "configuring"
            better = daemon("hangs.a", config="3", reload=("true",))
            await accept(own, spec("hangs", 3, better))
            await hanging
            assert await row(own, "hangs") == ("ready", "")
            assert pids(own, "hangs.a") == before, "it was told, not started again"

    asyncio.run(scene())


async def row_now(own: OwnPlace, slice_: str) -> tuple[str, str]:
    """By the drivers, without waiting for anybody: a reload that hangs isn't taken for done."""
    want = own.spec(slice_).objects
    return ("ready", "") if own.observe(slice_) == want else ("configuring", "")


def test_a_reload_that_takes_long_is_waited_for_and_one_that_takes_too_long_is_told(own):
    async def scene() -> None:
        async with neighbours(own):
            slow = ("sleep", "3")  # longer than a pass waits for it
            await accept(own, spec("hangs", 1, daemon("hangs.a", config="1", reload=slow)))
            (told,) = (await accept(own, spec("hangs", 2, daemon("hangs.a", config="2", reload=slow)))).slivers
            assert (told.state, told.why) == ("ready", "")
            late = daemon("hangs.a", config="3", reload=HANGS, reload_within_s=2.5)
            (told,) = (await accept(own, spec("hangs", 3, late))).slivers
            assert told.state == "failed"
            assert told.why == (
                "daemon did not take its new configuration within 2.5 s; "
                "the last lines of its log: cannot find my socket"
            )

    asyncio.run(scene())
