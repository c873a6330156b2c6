"""A node that has joined: what is asked on it and what its central asks stay apart; and it knows what time it is."""

from __future__ import annotations

import asyncio
import time

import pytest
from fake_agents import ETH0, QUICK_UPLINK, central, eventually, node, spec
from msgspec.structs import replace

from vini import bus
from vini.model import Conflict, Stale
from vini.node import identity as identities
from vini.node.shares import settings
from vini.node.shares.settings import UplinkSettings


def nothing(*_: object) -> None:
    pass


class Clock:
    """Stands, until it is set."""

    def __init__(self) -> None:
        self.now = 1.8e9

    def __call__(self) -> float:
        return self.now


async def test_who_has_joined_nothing_dials_nobody(tmp_path):
    async with node(tmp_path, None) as n:
        greeting = n.answers.greeting("here")
        assert (greeting.node, greeting.uplink) == ("local", "")
        await n.agent.accept(spec("s", 1, "a"), nothing)
        assert n.slivers() == {"s.a"}


async def test_joining_leaving_and_joining_anew_need_no_restart(tmp_path):
    async with central(tmp_path / "c") as c, node(tmp_path / "n", None) as n:
        await n.agent.accept(spec("mine", 1, "a"), nothing)
        identities.write(n.state, c.admit("one"))
        await eventually(c.hub.connected)
        assert n.answers.greeting("here").node == "one"
        c.desk.put("one", spec("s", 1, "a"))
        c.hub.wake(["one"])
        await eventually(lambda: n.slivers() == {"mine.a", "s.a"})
        assert identities.forget(n.state)
        await eventually(lambda: not c.hub.connected())
        await eventually(lambda: n.slivers() == {"mine.a"})
        assert n.answers.greeting("here").node == "local"
        identities.write(n.state, c.admit("two"))
        await eventually(lambda: c.hub.connected() == {"two"})
        await eventually(lambda: c.desk.said("two", bus.Greeting))  # written down after it is connected
        assert c.desk.said("two", bus.Greeting)[-1].generations == {}


async def test_its_central_hears_at_once_what_its_uplink_carries_for_slivers(tmp_path):
    def said() -> float:
        return settings.read(tmp_path / "n").rate_mbit

    async with central(tmp_path / "c") as c, node(tmp_path / "n", c.admit("one"), uplink_mbit=said):
        await eventually(lambda: [g.rate_mbit for g in c.desk.said("one", bus.Greeting)] == [0.0])
        settings.write(tmp_path / "n", UplinkSettings(100.0))
        await eventually(lambda: c.desk.said("one", bus.Greeting)[-1].rate_mbit == 100.0)
        await eventually(c.hub.connected)


async def test_its_central_hears_when_the_interfaces_of_its_machine_are_others(tmp_path):
    now = [(ETH0,)]
    rhythm = replace(QUICK_UPLINK, interfaces=0.05)
    looks = []
    how = {"interfaces": lambda: looks.append(1) or now[0], "rhythm": rhythm}
    async with central(tmp_path / "c") as c, node(tmp_path / "n", c.admit("one"), **how) as n:
        await eventually(lambda: [g.interfaces for g in c.desk.said("one", bus.Greeting)] == [(ETH0,)])
        await eventually(lambda: len(looks) > 5)
        assert len(c.desk.said("one", bus.Greeting)) == 1, "who has nothing new to tell does not tell it"
        now[0] = (ETH0, replace(ETH0, name="eth1", addresses=()))
        await eventually(lambda: [len(g.interfaces) for g in c.desk.said("one", bus.Greeting)] == [1, 2])
        await eventually(c.hub.connected)
        assert n.answers.greeting("here").interfaces == (), "whoever is on the machine sees them himself"


async def test_another_central_ends_what_the_one_before_asked_for(tmp_path):
    async with central(tmp_path / "c") as c, central(tmp_path / "d") as d, node(tmp_path / "n", c.admit("one")) as n:
        c.desk.put("one", spec("s", 7, "a"))
        d.desk.put("one", spec("s", 1, "b"))
        await eventually(lambda: c.desk.holds("one", "s", 7))
        identities.write(n.state, d.admit("one"))
        await eventually(lambda: d.desk.holds("one", "s", 1))
        await eventually(lambda: n.slivers() == {"s.b"})


async def test_an_identity_that_can_not_be_read_ends_nothing(tmp_path):
    async with central(tmp_path / "c") as c, node(tmp_path / "n", c.admit("one")) as n:
        c.desk.put("one", spec("s", 1, "a"))
        await eventually(lambda: c.desk.holds("one", "s", 1))
        path = identities.directory(n.state) / "identity.json"
        good = path.read_bytes()
        await n.stop()
        path.write_bytes(b"{")
        n.start()
        await eventually(lambda: "`vini node join` makes a new one" in n.answers.uplink)
        assert n.agent.wanted.generations("central") == {"s": 1}
        path.write_bytes(good)
        await eventually(c.hub.connected)
        assert n.slivers() == {"s.a"}


async def test_generations_of_here_and_of_the_central_are_two_things(tmp_path):
    async with central(tmp_path / "c") as c, node(tmp_path / "n", c.admit("one")) as n:
        await eventually(c.hub.connected)
        for generation in range(1, 300):  # so many that the first ones are forgotten
            await n.agent.accept(spec(f"old{generation}", 1000 + generation), nothing)
        assert n.answers.greeting("here").forgotten > 1000
        assert n.answers.greeting("central").forgotten == 0
        c.desk.put("one", spec("s", 1, "a"))
        c.hub.wake(["one"])
        await eventually(lambda: c.desk.holds("one", "s", 1))


async def test_neither_takes_nor_ends_a_slice_of_the_other(tmp_path):
    async with central(tmp_path / "c") as c, node(tmp_path / "n", c.admit("one")) as n:
        c.desk.put("one", spec("theirs", 1, "a"))
        await eventually(lambda: c.desk.holds("one", "theirs", 1))
        await n.agent.accept(spec("mine", 1, "a"), nothing)
        with pytest.raises(Conflict, match="is the central's that it has joined; choose another name"):
            await n.agent.accept(spec("theirs", 9, "b"), nothing)
        with pytest.raises(Conflict, match="`vini down mine` on that machine ends theirs"):
            await c.hub.ask("one", bus.Accept(spec("mine", 9, "b")))
        await n.agent.accept(spec("theirs", 10), nothing)
        await c.hub.ask("one", bus.Accept(spec("mine", 10)))
        assert n.slivers() == {"theirs.a", "mine.a"}
        assert n.answers.greeting("here").generations == {"mine": 1}
        assert n.answers.greeting("central").generations == {"theirs": 1}


async def test_the_central_is_told_nothing_of_slices_that_are_not_its_own(tmp_path):
    async with central(tmp_path / "c") as c, node(tmp_path / "n", c.admit("one")) as n:
        await n.agent.accept(spec("mine", 1, "a"), nothing)
        await eventually(c.hub.connected)
        assert (await c.hub.ask("one", bus.AskStatus("mine"))).slivers == ()
        assert (await c.hub.ask("one", bus.AskFibs("mine"))).tables == {}
        assert all("mine" not in str(m) for _, m in c.desk.heard)
        with pytest.raises(Exception, match="Only root on the machine itself"):
            await c.hub.ask("one", bus.Stop())


async def test_a_slice_ends_on_time_with_the_central_away_and_the_next_greeting_says_so(tmp_path):
    clock = Clock()
    async with central(tmp_path / "c") as c, node(tmp_path / "n", c.admit("one"), clock=clock) as n:
        c.desk.put("one", spec("s", 3, "a", expires=clock.now + 3600))
        c.desk.put("one", spec("t", 1, "a"))
        await eventually(lambda: c.desk.holds("one", "s", 3) and c.desk.holds("one", "t", 1))
        await c.stop()
        clock.now += 3599
        await n.agent.status("s", "central")
        assert n.slivers() == {"s.a", "t.a"}
        clock.now += 1
        await eventually(lambda: n.slivers() == {"t.a"})
        await c.start()
        greeting = await eventually(lambda: next((g for g in c.desk.said("one", bus.Greeting) if g.expired), None))
        assert (greeting.generations, greeting.ended, greeting.expired) == ({"t": 1}, {"s": 3}, {"s": 3})
        c.desk.put("one", spec("s", 4, "a", expires=clock.now + 3600))
        c.hub.wake(["one"])
        await eventually(lambda: c.desk.holds("one", "s", 4))
        assert n.slivers() == {"s.a", "t.a"}


async def test_a_node_from_a_week_old_disk_image_resurrects_nothing(tmp_path):
    """What has expired does not come up at all; what was ended meanwhile ends when the central is heard."""
    clock = Clock()
    async with central(tmp_path / "c") as c, node(tmp_path / "n", c.admit("one"), clock=clock) as n:
        c.desk.put("one", spec("expired", 1, "a", expires=clock.now + 86400))
        c.desk.put("one", spec("ended", 1, "a"))
        await eventually(lambda: c.desk.holds("one", "expired", 1) and c.desk.holds("one", "ended", 1))
        await n.stop()
        n.driver.have.clear()
        c.desk.put("one", spec("ended", 2))
        clock.now += 7 * 86400
        ensured: set[str] = set()
        ensure = n.driver.ensure

        def watched(objects):
            ensured.update(ns for o in objects for ns in o.slivers)
            return ensure(objects)

        n.driver.ensure = watched
        n.start()
        await eventually(lambda: c.desk.holds("one", "ended", 2))
        await eventually(lambda: n.slivers() == set())
        assert "expired.a" not in ensured


async def test_a_spec_for_later_is_held_back_until_its_time_also_over_a_restart(tmp_path):
    clock = Clock()
    async with central(tmp_path / "c") as c, node(tmp_path / "n", c.admit("one"), clock=clock) as n:
        c.desk.put("one", spec("s", 1, "a"), spec("s", 2, "a", "b", not_before=clock.now + 60))
        await eventually(lambda: n.agent.wanted.generations("central") == {"s": 2})
        await eventually(lambda: (r := c.desk.last("one", "s")) and (r.generation, r.accepted) == (1, 2))
        assert n.slivers() == {"s.a"}
        await c.stop()
        await n.stop()
        n.start()
        clock.now += 59
        assert (await n.agent.status("s", "central")).generation == 1
        clock.now += 1
        await eventually(lambda: n.slivers() == {"s.a", "s.b"})
        with pytest.raises(Stale):
            await n.agent.accept(spec("s", 1, "a"), nothing, "central")


async def test_two_nodes_act_at_the_same_instant(tmp_path):
    async with central(tmp_path / "c") as c:
        moments: dict[str, float] = {}

        def watch(n, name):
            ensure = n.driver.ensure

            def watched(objects):
                if any("s.late" in o.slivers for o in objects):
                    moments.setdefault(name, time.time())
                return ensure(objects)

            n.driver.ensure = watched

        async with node(tmp_path / "a", c.admit("a")) as a, node(tmp_path / "b", c.admit("b")) as b:
            watch(a, "a")
            watch(b, "b")
            at = time.time() + 1.0
            for name in "ab":
                c.desk.put(name, spec("s", 1, "x"), spec("s", 2, "x", "late", not_before=at))
            c.hub.wake(["a", "b"])
            await eventually(lambda: len(moments) == 2)
            assert all(m >= at for m in moments.values())
            print("late by ms:", {n: round(1000 * (m - at), 1) for n, m in moments.items()})


async def test_the_central_away_costs_nothing_and_is_told_where_people_look(tmp_path):
    async with central(tmp_path / "c") as c:
        me = c.admit("one")
    async with node(tmp_path / "n", me) as n:
        await eventually(lambda: "nobody listens there" in n.answers.greeting("here").uplink)
        await n.agent.accept(spec("s", 1, "a"), nothing)
        assert n.slivers() == {"s.a"}
        assert "nobody listens there" in (identities.directory(n.state) / "status.json").read_text()


async def test_a_central_of_another_authority_is_not_believed(tmp_path):
    async with central(tmp_path / "c") as c, central(tmp_path / "d") as d:
        me = replace(d.admit("one"), central=c.url)
        async with node(tmp_path / "n", me) as n:
            await eventually(lambda: "it is not the central that this machine joined" in n.answers.uplink)


async def test_bad_credentials_are_said_once_and_tried_slowly(tmp_path, caplog):
    caplog.set_level("INFO", "vini.agent")
    async with central(tmp_path / "c") as c:
        me = c.admit("one")
        del c.desk.nodes["one"]
        async with node(tmp_path / "n", me) as n:
            await eventually(lambda: "knows no node 'one'" in n.answers.uplink)
            asked = c.desk.asked
            await eventually(lambda: c.desk.asked >= asked + 2)
            said = [r for r in caplog.records if "knows no node" in r.message and r.name == "vini.agent"]
            assert len(said) == 1
            assert n.agent is not None
    await asyncio.sleep(0)
