"""The client without an agent: what it stores, and the command lines that it makes."""

from __future__ import annotations

import asyncio
import os
import subprocess

import pytest
from experiment_network import SQUARE

from vini import bus
from vini.client import Client
from vini.edit import set_cost, set_fault
from vini.model import NotFound, Stale, Unsupported
from vini.node import cgroup, probe
from vini.node.place import Place
from vini.topology import parse


class _Deaf(Client):
    """Its agent takes everything, after a while."""

    async def greeting(self) -> bus.Greeting:
        return bus.Greeting("", 1, "local", frozenset({"netem", "frr"}), {})

    async def _accept(self, *_):
        await asyncio.sleep(0)
        return bus.Report((), 1)


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.setattr("vini.client.local._need_root", lambda: None)
    return _Deaf(Place("t", tmp_path / "run", tmp_path / "state"))


def test_of_two_edits_at_once_none_is_lost(client):
    other = _Deaf(client.place)

    async def both():
        await client.put(SQUARE)
        await asyncio.gather(
            client.edit("square", lambda t: set_cost(t, "west", "north", 77), "cost"),
            other.edit("square", lambda t: set_fault(t, "south", "east", "silent"), "fail"),
        )

    asyncio.run(both())
    assert client.store.get("square").topology == set_fault(
        set_cost(SQUARE, "west", "north", 77), "south", "east", "silent"
    )
    assert [what for _, _, what, _ in client.store.events("square")] == ["fail", "cost", "put"]


class _Asked(_Deaf):
    """Notes what its agent, which knows of no containers, is asked."""

    def __init__(self, place: Place):
        super().__init__(place)
        self.asked: list[object] = []

    async def _ask(self, request, *_):
        self.asked.append(type(request))
        return bus.Lines(("step",))


BOX = parse("name: box\nslivers: {a: {runtime: container}}")


def test_an_agent_is_not_replaced_where_the_machine_can_do_more_and_still_too_little(client, monkeypatch):
    able = _Asked(client.place)
    monkeypatch.setattr(probe, "capabilities", lambda: frozenset({"tcpdump"}))
    with pytest.raises(Unsupported):
        asyncio.run(able.put(BOX))
    assert (able.asked, able.topologies()) == ([], {})


def test_to_foresee_replaces_no_agent(client, monkeypatch):
    able = _Asked(client.place)
    monkeypatch.setattr(probe, "capabilities", lambda: frozenset({"containers"}))
    assert asyncio.run(able.foresee(BOX)) == ("step",)
    assert able.asked == [bus.Foresee]


class _Overtaken(_Deaf):
    """Its agent knows the newest generation only; what it accepted before that was overtaken on the way."""

    accepted: list[int]

    async def _accept(self, spec, progress=None):
        return await Client._accept(self, spec, progress)

    async def _ask(self, request, *_):
        if request.spec.generation < self.store.generation(request.spec.slice):
            raise Stale(f"generation {request.spec.generation} came late")
        self.accepted = [*getattr(self, "accepted", []), request.spec.generation]
        return bus.Report((), request.spec.generation)


def test_a_change_that_a_newer_one_overtook_is_no_mistake_of_its_users(client):
    """Of commands at the same time the one that is stored first may reach the agent last; the newest is what counts."""
    one = _Overtaken(client.place)
    asyncio.run(one.put(SQUARE))
    first = one.store.get("square").spec
    asyncio.run(client.edit("square", lambda t: set_cost(t, "west", "north", 77), "cost"))
    assert asyncio.run(one._accept(first)) == bus.Report((), 2)
    assert one.accepted == [1, 2]


def test_a_generation_that_nobody_stored_a_newer_of_stays_refused(client):
    class Ahead(_Overtaken):
        async def _ask(self, *_):
            raise Stale("the agent is ahead of the store")

    with pytest.raises(Stale, match="ahead of the store"):
        asyncio.run(Ahead(client.place).put(SQUARE))


def test_an_edit_brings_no_slice_up(client):
    with pytest.raises(NotFound, match="no slice 'square'"):
        asyncio.run(client.edit("square", lambda t: t, "nothing"))
    assert client.store.slices() == []


def test_a_slice_of_another_version_can_be_taken_down(client):
    asyncio.run(client.put(SQUARE))
    client.store._db.execute("""UPDATE slices SET topology = '{"name": "square", "slivers": {"a": {"new": 1}}}'""")
    asyncio.run(client.down("square"))
    assert client.store.find("square").generation == 2
    assert client.store.unreadable() == []


def test_a_command_in_a_sliver_joins_its_cgroup_first(client, tmp_path, monkeypatch):
    monkeypatch.setattr(cgroup, "of", lambda _, ns, name: tmp_path / "group" / ns / name)
    monkeypatch.setattr("vini.client.local.enter", lambda _, __, argv: list(argv))
    assert client.enter("lab", "a", ["true"]) == ["true"]
    assert not (tmp_path / "group").exists()
    monkeypatch.setattr(Place, "netns", lambda *_: tmp_path)
    argv = client.enter("lab", "a", ["printf", "%s", "x  y"])
    assert subprocess.run(argv, capture_output=True, check=True, env=os.environ).stdout == b"x  y"
    assert (tmp_path / "group" / "lab.a" / "exec" / "cgroup.procs").read_text() == "0\n"
