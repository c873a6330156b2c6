"""However many slices come and go, what is kept of them stops growing."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from vini import bus
from vini.model import Command, SliceSpec, Sliver, Stale, Topology
from vini.node import ledger
from vini.store import KEPT

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2")]
CYCLES = 200


def test_two_hundred_slices_that_came_and_went_leave_what_is_allowed(own):
    """Names so long that sockets need a short path of their own, and a process in each."""
    service = (Command("exec sleep 1000", service=True),)
    names = [f"a-slice-with-a-name-of-nearly-forty-{i}" for i in range(CYCLES)]
    specs: list[SliceSpec] = []

    async def come_and_go() -> None:
        client = own.client()
        for name in names:
            sliver = "and-so-has-its-only-sliver-since-it-counts"[:40]
            await client.put(Topology(name, {sliver: Sliver(sliver, commands=service)}))
            specs.append(client.store.get(name).spec)
            assert (await client.down(name)).slivers == ()

    async def come_late() -> None:
        for late in (specs[0], specs[CYCLES // 2], specs[-1]):
            with pytest.raises(Stale):
                await bus.Line(own.place.run / "agent.socket").ask(bus.Accept(late))
        client = own.client()
        await client.put(Topology(names[0], {"a": Sliver("a")}))
        assert client.store.get(names[0]).generation > specs[-1].generation
        await client.down(names[0])

    asyncio.run(come_and_go())
    asyncio.run(come_late())
    assert [x for x in own.leftovers() if not x.startswith("agent")] == []
    assert [p.name for p in (own.place.state / "ledger").iterdir()] == [".ended"]
    assert len(ledger.Ledger(own.place.state / "ledger").ended.generations) == ledger.KEPT
    assert sorted(p.name for p in own.place.run.iterdir() if p.name.startswith("@")) == []
    assert list((own.place.run / "slivers").iterdir()) == []
    assert not (own.place.run / "mounts").exists()
    with sqlite3.connect(own.place.state / "vini.db") as database:
        assert database.execute("SELECT count(*) FROM slices").fetchone()[0] == KEPT
    asyncio.run(own.client().greeting())  # the next command finds its way through what is left
