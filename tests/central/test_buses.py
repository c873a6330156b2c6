"""Each bus over real TLS on loopback, with agents that are real but for their machine: what a central may rely on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fake_agents import KEY, QUICK, QUICK_UPLINK, FakeDesk, eventually, no_engine, node, spec
from fake_agents import central as central_with
from msgspec.structs import replace

from vini import bus
from vini.boot import boot
from vini.central.delivery import Ailing
from vini.central.hub import Hub, Identity
from vini.model import Conflict, NotFound
from vini.node import identity as identities


@pytest.fixture(params=["hub", "nats"])
def central(request: pytest.FixtureRequest) -> Callable[..., AbstractAsyncContextManager[Any]]:
    """Makes a central with one of the buses."""
    if request.param == "nats" and (why := no_engine()):
        pytest.skip(why)
    return partial(central_with, engine=request.param)


async def test_a_node_that_connects_gets_what_it_lacks_and_says_how_it_is(central, tmp_path):
    async with central(tmp_path) as c:
        me = c.admit("one")
        c.desk.put("one", spec("s", 3, "a", "b"))
        async with node(tmp_path / "n", me) as n:
            await eventually(lambda: c.desk.holds("one", "s", 3))
            assert n.slivers() == {"s.a", "s.b"}
            greeting = c.desk.said("one", bus.Greeting)[0]
            assert (greeting.node, greeting.capabilities, greeting.wireguard) == ("one", {"netem"}, KEY)
            assert n.answers.greeting("here").wireguard == ""
            assert c.hub.connected() == {"one"}


async def test_wake_brings_what_is_new_and_an_empty_spec_ends_the_slice(central, tmp_path):
    async with central(tmp_path) as c, node(tmp_path / "n", c.admit("one")) as n:
        await eventually(c.hub.connected)
        for generation, slivers in enumerate((["a"], ["a", "b"], []), 1):
            c.desk.put("one", spec("s", generation, *slivers))
            c.hub.wake(["one", "nobody"])
            await eventually(lambda g=generation: c.desk.holds("one", "s", g))
            assert n.slivers() == {f"s.{x}" for x in slivers}
        assert n.answers.greeting("central").ended == {"s": 3}


async def test_a_node_is_asked_and_its_refusals_are_raised(central, tmp_path):
    async with central(tmp_path) as c, node(tmp_path / "n", c.admit("one")):
        await eventually(c.hub.connected)
        steps: list[bus.Progress] = []
        report = await c.hub.ask("one", bus.Accept(spec("s", 1, "a", "b")), steps.append)
        assert isinstance(report, bus.Report)
        assert (report.slice, report.generation, len(report.slivers)) == ("s", 1, 2)
        assert await c.hub.ask("one", bus.AskFibs("s")) == bus.Fibs({"a": (), "b": ()})
        with pytest.raises(Conflict):
            await c.hub.ask("one", bus.Accept(spec("s", 1, "c")))
        with pytest.raises(NotFound, match="holds nothing of slice 'other'"):
            await c.hub.ask("one", bus.AskMaps("other.a"))
        for closed in (bus.AskMaps("s._wireguard"), bus.WriteRow("s._wireguard", "m", b"k", None)):
            with pytest.raises(NotFound, match="no sliver '_wireguard'"):
                await c.hub.ask("one", closed)


async def test_a_large_message_arrives(central, tmp_path):
    """However long a busy machine takes to mask and to copy it: nobody answers a ping meanwhile."""
    patient, uplink = replace(QUICK, patience=120.0), replace(QUICK_UPLINK, patience=120.0)
    async with central(tmp_path, rhythm=patient) as c, node(tmp_path / "n", c.admit("one"), rhythm=uplink):
        await eventually(c.hub.connected)
        with pytest.raises(NotFound, match="holds nothing of slice 'other'"):
            await c.hub.ask("one", bus.AskMaps("other.a", ("x" * (15 << 20),)))
        with pytest.raises(bus.Foreign, match="more than the 16 MiB that fit in a message"):
            await c.hub.ask("one", bus.AskMaps("other.a", ("x" * (16 << 20),)))
        assert isinstance(await c.hub.ask("one", bus.Hello()), bus.Greeting)


async def test_a_node_that_is_not_there(central, tmp_path):
    async with central(tmp_path) as c:
        with pytest.raises(
            bus.NodeAway, match=r"^Node one is not connected \(not heard since this central started\)\.$"
        ):
            await c.hub.ask("one", bus.Hello())
        async with node(tmp_path / "n", c.admit("one")):
            await eventually(c.hub.connected)
        await eventually(lambda: not c.hub.connected())
        with pytest.raises(bus.NodeAway, match=r"last heard 0 s ago"):
            await c.hub.ask("one", bus.Hello())


async def test_many_requests_are_under_way_at_once_and_a_slow_one_delays_no_other(central, tmp_path):
    async with central(tmp_path) as c, node(tmp_path / "n", c.admit("one")) as n:
        await eventually(c.hub.connected)
        gate = asyncio.Event()
        original = n.answers.to

        async def slow(request, asker, progress):
            if request == bus.AskStatus("slow"):
                await gate.wait()
            return await original(request, asker, progress)

        n.answers.to = slow
        waiting = asyncio.create_task(c.hub.ask("one", bus.AskStatus("slow")))
        replies = await asyncio.gather(*(c.hub.ask("one", bus.AskStatus(f"s{i}")) for i in range(100)))
        assert [r.slice for r in replies] == [f"s{i}" for i in range(100)]
        assert not waiting.done()
        gate.set()
        assert (await waiting).slice == "slow"


async def test_who_stops_waiting_has_it_cancelled_on_the_node(central, tmp_path):
    async with central(tmp_path) as c, node(tmp_path / "n", c.admit("one")) as n:
        await eventually(c.hub.connected)
        begun, cancelled = asyncio.Event(), asyncio.Event()

        async def for_ever(*_):
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        n.answers.to = for_ever
        asking = asyncio.create_task(c.hub.ask("one", bus.AskStatus("s")))
        await begun.wait()
        asking.cancel()
        await asyncio.wait_for(cancelled.wait(), 30)


async def test_what_a_node_refuses_is_told_and_tried_again_until_it_takes_it(central, tmp_path):
    async with central(tmp_path) as c, node(tmp_path / "n", c.admit("one")) as n:
        await eventually(c.hub.connected)
        await n.agent.accept(spec("s", 1, "mine"), lambda *_: None, "here")
        c.desk.put("one", spec("s", 1, "a"))
        c.desk.put("one", spec("t", 1, "a"))
        c.hub.wake(["one"])
        refused = await eventually(lambda: (r := c.desk.last("one", "s")) and r.refused)
        assert "`vini down s` on that machine ends theirs" in refused
        await eventually(lambda: c.desk.holds("one", "t", 1))
        await n.agent.accept(spec("s", 2), lambda *_: None, "here")
        await eventually(lambda: c.desk.holds("one", "s", 1))
        assert n.slivers() == {"s.a", "t.a"}


async def test_a_later_spec_waits_for_the_earlier_of_its_slice(central, tmp_path):
    """Never two of one slice under way, however often it is woken; the last wins."""
    async with central(tmp_path) as c, node(tmp_path / "n", c.admit("one")) as n:
        await eventually(c.hub.connected)
        under_way, most = 0, 0
        original = n.agent.accept

        async def counted(s, *rest):
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            try:
                await asyncio.sleep(0)
                return await original(s, *rest)
            finally:
                under_way -= 1

        n.agent.accept = counted
        for generation in range(1, 30):
            c.desk.put("one", spec("s", generation, "a", f"b{generation}"))
            c.hub.wake(["one"])
            await asyncio.sleep(0)
        await eventually(lambda: c.desk.holds("one", "s", 29))
        assert most == 1
        assert n.slivers() == {"s.a", "s.b29"}


async def test_several_specs_of_one_slice_come_in_the_order_of_their_generations(central, tmp_path):
    now = [time.time()]
    async with central(tmp_path) as c:
        c.desk.put("one", spec("s", 2, "a", "b", not_before=now[0] + 1000), spec("s", 1, "a"))
        async with node(tmp_path / "n", c.admit("one"), clock=lambda: now[0]) as n:
            await eventually(lambda: c.desk.holds("one", "s", 1) and "s" in n.ledgers.central.later)
            assert n.slivers() == {"s.a"}
            now[0] += 1000
            await eventually(lambda: c.desk.holds("one", "s", 2))
            assert n.slivers() == {"s.a", "s.b"}


async def test_a_change_of_status_is_told_without_being_asked(central, tmp_path):
    async with central(tmp_path) as c, node(tmp_path / "n", c.admit("one")) as n:
        c.desk.put("one", spec("s", 1, "a"))
        await eventually(lambda: c.desk.holds("one", "s", 1))
        n.driver.ensure, kept = (
            (lambda objects: {o.key: "The kernel is in a bad mood." for o in objects}),
            n.driver.ensure,
        )
        n.driver.have.clear()
        await eventually(lambda: (r := c.desk.last("one", "s")) and r.slivers[0].why == "The kernel is in a bad mood.")
        n.driver.ensure = kept
        await eventually(lambda: c.desk.holds("one", "s", 1))


async def test_what_has_not_changed_is_not_told_again(central, tmp_path):
    async with central(tmp_path) as c, node(tmp_path / "n", c.admit("one")) as n:
        c.desk.put("one", spec("s", 1, "a"))
        await eventually(lambda: c.desk.holds("one", "s", 1))
        passes = 0
        hear = n.agent.listener

        def counting(reports):
            nonlocal passes
            passes += 1
            hear(reports)

        n.agent.listener = counting
        await eventually(lambda: passes >= 2)
        assert len([r for r in c.desk.said("one", bus.Report) if r.slice == "s"]) == 1


async def test_the_newer_connection_of_a_node_displaces_the_older(central, tmp_path):
    async with central(tmp_path) as c:
        me = c.admit("one")
        async with node(tmp_path / "a", me) as a:
            await eventually(c.hub.connected)
            async with node(tmp_path / "b", me):
                await eventually(lambda: "copy of its identity" in a.answers.uplink)
                assert c.hub.connected() == {"one"}


async def test_a_node_that_is_dropped_is_cut_off_at_once_and_does_not_come_back(central, tmp_path):
    at_once = replace(QUICK, beat=300.0)  # else the next look would cut it off, too
    async with central(tmp_path, rhythm=at_once) as c, node(tmp_path / "n", c.admit("one")) as n:
        await eventually(c.hub.connected)
        started = time.monotonic()
        c.desk.nodes["one"] = replace(c.desk.nodes["one"], allowed=False, why="Node one is disabled by root.")
        c.hub.drop("one")
        await eventually(lambda: not c.hub.connected())
        assert time.monotonic() - started < 60
        await eventually(lambda: "Node one is disabled by root." in n.answers.uplink)
        c.desk.nodes["one"] = replace(c.desk.nodes["one"], allowed=True)
        await eventually(c.hub.connected)


async def test_a_transfer_ends_with_the_identity_of_its_node(central, tmp_path):
    """Megabytes are under way to the central and to the node at that moment."""
    async with central(tmp_path / "c") as c, node(tmp_path / "n", c.admit("one")):
        c.desk.put("one", spec("s", 1, "a"))
        await eventually(lambda: c.desk.holds("one", "s", 1))
        got = 0

        async def zeros() -> AsyncIterator[bus.Typed]:
            while True:
                yield bus.Input(bytes(1 << 15))

        async def transfer() -> None:
            nonlocal got
            async for message in c.hub.run("one", bus.Run("s.a", ("sh", "-c", "echo $$; exec cat")), zeros()):
                if got == 0:
                    pids.append(int(message.data.split(b"\n")[0]))
                got += len(message.data)

        pids: list[int] = []
        under_way = asyncio.create_task(transfer())
        await eventually(lambda: got > 1 << 22)
        c.desk.nodes["one"] = replace(c.desk.nodes["one"], allowed=False)
        c.hub.drop("one")
        with pytest.raises(bus.NodeAway):
            await under_way
        await eventually(lambda: not c.hub.connected())
        await eventually(lambda: not Path(f"/proc/{pids[0]}").exists())


async def test_a_node_that_another_central_disabled_is_noticed(central, tmp_path):
    async with central(tmp_path) as c, node(tmp_path / "n", c.admit("one")):
        await eventually(c.hub.connected)
        del c.desk.nodes["one"]
        await eventually(lambda: not c.hub.connected())


async def test_a_stolen_identity_is_good_for_its_own_name_only(central, tmp_path):
    async with central(tmp_path) as c:
        thief, victim = c.admit("thief"), c.admit("victim")
        c.desk.put("victim", spec("secret", 1, "a"))
        async with node(tmp_path / "n", replace(thief, node="victim")) as n:
            await eventually(lambda: "not the key with which node 'victim' joined" in n.answers.uplink)
            assert (c.hub.connected(), n.slivers()) == (frozenset(), set())
        async with node(tmp_path / "v", victim):
            await eventually(c.hub.connected)


@pytest.mark.parametrize("name", ["nobody", "", "x" * 1000, "a\0b", "../ca", "ö"])
async def test_an_unknown_node_is_told_how_to_join(central, tmp_path, name):
    async with central(tmp_path) as c:
        me = replace(c.admit("one"), node=name)
        async with node(tmp_path / "n", me) as n:
            await eventually(
                lambda: "The central knows no node" in n.answers.uplink and "vini node token" in n.answers.uplink
            )


async def test_a_reinstalled_node_does_not_keep_the_old_identity(central, tmp_path):
    async with central(tmp_path) as c:
        old = c.admit("one")
        async with node(tmp_path / "old", old) as before:
            await eventually(c.hub.connected)
            new = c.admit("one")
            async with node(tmp_path / "new", new):
                await eventually(lambda: "not the key" in before.answers.uplink)
                await eventually(c.hub.connected)


async def test_a_central_that_restarts_finds_its_nodes_again(central, tmp_path):
    async with central(tmp_path) as c, node(tmp_path / "n", c.admit("one")) as n:
        c.desk.put("one", spec("s", 1, "a"))
        await eventually(lambda: c.desk.holds("one", "s", 1))
        await c.stop()
        await eventually(lambda: "not connected" in n.answers.uplink)
        assert n.slivers() == {"s.a"}
        c.desk.put("one", spec("s", 2, "a", "b"))
        await c.start()
        await eventually(lambda: c.desk.holds("one", "s", 2))
        assert n.slivers() == {"s.a", "s.b"}


async def test_an_agent_that_restarts_has_its_ledger(central, tmp_path):
    async with central(tmp_path) as c, node(tmp_path / "n", c.admit("one")) as n:
        c.desk.put("one", spec("s", 5, "a"))
        await eventually(lambda: c.desk.holds("one", "s", 5))
        await n.stop()
        await eventually(lambda: not c.hub.connected())
        n.start()
        await eventually(lambda: len(c.desk.said("one", bus.Greeting)) > 1)
        assert c.desk.said("one", bus.Greeting)[-1].generations == {"s": 5}


async def test_a_database_that_is_away_cuts_nobody_off_and_nothing_is_lost(central, tmp_path):
    async with central(tmp_path) as c, node(tmp_path / "n", c.admit("one")) as n:
        await eventually(lambda: c.desk.said("one", bus.Offset))
        c.desk.broken = True
        c.desk.put("one", spec("s", 1, "a"))
        c.hub.wake(["one"])
        asked = c.desk.asked
        await eventually(lambda: c.desk.asked > asked + 5)
        assert c.hub.connected() == {"one"}
        assert isinstance(await c.hub.ask("one", bus.Hello()), bus.Greeting)
        assert n.slivers() == set()
        c.desk.broken = False
        await eventually(lambda: c.desk.holds("one", "s", 1))


async def test_a_node_that_dials_while_the_database_is_away_tries_again(central, tmp_path):
    desk = FakeDesk()
    async with central(tmp_path, desk=desk) as c:
        me = c.admit("one")
        desk.broken = True
        async with node(tmp_path / "n", me) as n:
            await eventually(lambda: "can't look up its nodes" in n.answers.uplink)
            desk.broken = False
            await eventually(c.hub.connected)


@pytest.mark.parametrize("ahead", [0.0, 3600.0, -42.0])
async def test_how_far_a_nodes_clock_is_off(central, tmp_path, ahead):
    async with central(tmp_path) as c, node(tmp_path / "n", c.admit("one"), clock=lambda: time.time() + ahead):
        offset = (await eventually(lambda: c.desk.said("one", bus.Offset)))[0]
        assert offset.boot == boot()
        assert offset.ahead_s == pytest.approx(ahead, abs=0.5 * offset.rtt_s + 0.01)


async def test_what_fails_in_a_nodes_agent_is_heard_when_it_comes_when_that_changes_and_not_again(central, tmp_path):
    async with central(tmp_path) as c, node(tmp_path / "n", c.admit("one")) as n:
        await eventually(lambda: len(c.desk.said("one", bus.Offset)) > 1)
        assert c.desk.said("one", bus.Greeting)[-1].failing == () and c.desk.said("one", Ailing) == []
        n.answers.ailing = lambda: ("The broker fails (OSError: no room).",)
        await eventually(lambda: c.desk.said("one", Ailing) == [Ailing(("The broker fails (OSError: no room).",))])
        heard = len(c.desk.said("one", bus.Offset))
        await eventually(lambda: len(c.desk.said("one", bus.Offset)) > heard + 2)
        n.answers.ailing = tuple
        await eventually(lambda: c.desk.said("one", Ailing)[1:] == [Ailing(())])


async def test_a_wrong_clock_neither_disconnects_nor_flaps(central, tmp_path):
    """Off by an hour: what expires in an hour and a half stays, what has expired by the node's clock goes once."""
    now = time.time()
    async with central(tmp_path) as c:
        c.desk.put("one", spec("stays", 1, "a", expires=now + 5400))
        c.desk.put("one", spec("goes", 1, "a", expires=now + 1800))
        async with node(tmp_path / "n", c.admit("one"), clock=lambda: time.time() + 3600) as n:
            await eventually(lambda: c.desk.holds("one", "stays", 1))
            await eventually(lambda: n.answers.greeting("central").expired == {"goes": 1})
            await eventually(lambda: len(c.desk.said("one", bus.Offset)) > 5)
            assert len(c.desk.said("one", bus.Greeting)) == 1, "one connection all the while"
            assert n.slivers() == {"stays.a"}


async def test_two_hundred_agents_on_one_hub(tmp_path):
    async with central_with(tmp_path) as c:
        names = [f"n{i}" for i in range(200)]
        identities_ = [c.admit(n) for n in names]
        nodes = [node(tmp_path / me.node, me, loop=False) for me in identities_]
        running = [await n.__aenter__() for n in nodes]
        try:
            await eventually(lambda: len(c.hub.connected()) == 200)
            for name in names:
                c.desk.put(name, spec("s", 1, "a"))
            started = time.monotonic()
            c.hub.wake(names)
            await eventually(lambda: all(n.slivers() for n in running))
            print(f"200 nodes have it after {time.monotonic() - started:.2f} s")
            replies = await asyncio.gather(*(c.hub.ask(n, bus.Hello()) for n in names))
            assert [r.node for r in replies] == names
        finally:
            await asyncio.gather(*(n.__aexit__(None, None, None) for n in nodes))


def test_without_a_loop_there_is_nobody_to_wake():
    hub = Hub(FakeDesk())
    hub.wake(["one"])
    hub.drop("one")
    assert hub.connected() == frozenset()


def test_the_key_of_an_identity_is_for_root_only(tmp_path: Path):
    me = identities.Identity("one", "site", "https://c", b"k" * 32, "pem")
    identities.write(tmp_path, me)
    path = identities.directory(tmp_path) / "identity.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert identities.read(tmp_path) == me
    assert identities.forget(tmp_path)
    assert identities.read(tmp_path) is None
    assert not identities.forget(tmp_path)
    assert Identity(b"").allowed
