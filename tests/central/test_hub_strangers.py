"""What is no node, or none of this version, or one that has gone mad: refused with a sentence, and harms nobody."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

import msgspec
import pytest
from fake_agents import Central, central, eventually, node, spec
from msgspec.structs import replace
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from vini import bus
from vini.bus import frames
from vini.bus.streams import WINDOW
from vini.model import Unsupported
from vini.node import identity as identities
from vini.node.reached import trusting

GREETING = bus.Greeting("test", 1, "one", frozenset(), {})


def dial(c: Central, **how: object) -> connect:
    return connect(
        c.url.replace("https", "wss") + frames.PATH,
        ssl=trusting(c.authority.pem), proxy=None, compression=None, max_size=frames.LARGEST, **how,
    )  # fmt: skip


async def hear(socket: ClientConnection) -> tuple[int, dict]:
    number, message = msgspec.msgpack.decode(await asyncio.wait_for(socket.recv(), 10))
    return number, message


async def say(socket: ClientConnection, number: int, message: object) -> None:
    await socket.send(msgspec.msgpack.encode((number, message)))


async def introduce(socket: ClientConnection, me: identities.Identity, **other: object) -> None:
    """As far as the Welcome."""
    _, challenge = await hear(socket)
    await say(socket, 0, replace(bus.Proof(me.node, me.sign(challenge["nonce"]), GREETING), **other))
    assert (await hear(socket))[1]["message"] == "welcome"


async def closed(socket: ClientConnection) -> ConnectionClosed:
    """How it was closed, by the other side."""
    with pytest.raises(ConnectionClosed) as caught:
        while True:
            await asyncio.wait_for(socket.recv(), 10)
    return caught.value


@pytest.mark.parametrize("wire", [-1, 3, 999])
async def test_another_version_is_refused_by_a_sentence_that_says_who_is_older(tmp_path, wire):
    async with central(tmp_path) as c:
        me = c.admit("one")
        async with dial(c) as socket:
            _, challenge = await hear(socket)
            await say(socket, 0, bus.Proof("one", me.sign(challenge["nonce"]), GREETING, wire))
            _, refusal = await hear(socket)
            assert f"speaks version {wire}" in refusal["sentence"]
            assert refusal["sentence"].endswith("upgrade the node." if wire < 1 else "upgrade the central.")


@pytest.mark.parametrize("wire", [0, 1, 2])
async def test_one_version_older_or_newer_is_welcome_and_what_it_says_in_addition_is_passed_over(tmp_path, wire):
    async with central(tmp_path) as c:
        me = c.admit("one")
        async with dial(c) as socket:
            _, challenge = await hear(socket)
            proof = msgspec.to_builtins(bus.Proof("one", b"", GREETING, wire))
            proof["signature"] = me.sign(challenge["nonce"])
            proof["shoe_size"] = 42
            proof["greeting"]["mood"] = {"deep": ["things"]}
            await say(socket, 0, proof)
            assert (await hear(socket))[1]["message"] == "welcome"
            await say(socket, 0, {"message": "gossip", "about": "two"})
            await say(socket, 0, {"message": "report", "slivers": [], "slice": "s", "weather": "fine"})
            await eventually(lambda: c.desk.last("one", "s"))


async def test_a_question_that_the_node_does_not_know_is_answered_and_one_that_the_central_does_not_know_fails(
    tmp_path,
):
    async with central(tmp_path) as c:
        me = c.admit("one")
        async with dial(c) as socket:
            await introduce(socket, me)
            asking = asyncio.create_task(c.hub.ask("one", bus.AskStatus("s")))
            while (heard := await hear(socket))[1]["message"] != "askstatus":
                pass
            await say(socket, heard[0], {"message": "fromthefuture"})
            with pytest.raises(bus.Foreign, match="Upgrade the older"):
                await asking
            assert c.hub.connected() == {"one"}
        c.admit("two")


async def test_a_request_from_the_future_is_refused_by_the_agent_and_the_next_is_answered(tmp_path):
    async with central(tmp_path) as c, node(tmp_path / "n", c.admit("one")):
        await eventually(c.hub.connected)
        line = c.hub.connection("one")

        class Dance(bus.Message, frozen=True):
            """Of a later version."""

        with pytest.raises(Unsupported, match="Node one is of another version"):
            await line.ask(Dance())  # type: ignore[arg-type]
        assert isinstance(await c.hub.ask("one", bus.Hello()), bus.Greeting)


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"\xc1" * 100, os.urandom(1000), msgspec.msgpack.encode([1, 2, 3]), "text",
             msgspec.msgpack.encode((0, {"message": "proof"})), msgspec.msgpack.encode((0, bus.Report(()))),
             b"\x91" * 100_000, msgspec.msgpack.encode((0, None))],
    ids=["empty", "one byte", "reserved", "random", "triple", "text", "half a proof", "a report", "deep", "nothing"],
)  # fmt: skip
@pytest.mark.parametrize("welcomed", [False, True], ids=["a stranger", "a node"])
async def test_garbage_is_refused_and_the_others_do_not_notice(tmp_path, body, welcomed):
    async with central(tmp_path) as c, node(tmp_path / "n", c.admit("well")):
        await eventually(c.hub.connected)
        me = c.admit("one")
        async with dial(c) as socket:
            if welcomed:
                await introduce(socket, me)
            await socket.send(body)
            if not welcomed:
                error = await closed(socket)
                assert error.rcvd.code == frames.REFUSED
        assert (await c.hub.ask("well", bus.Hello())).node == "well"


@pytest.mark.parametrize("welcomed", [False, True], ids=["a stranger", "a node"])
async def test_a_huge_frame_is_not_taken(tmp_path, welcomed):
    async with central(tmp_path) as c:
        me = c.admit("one")
        async with dial(c) as socket:
            if welcomed:
                await introduce(socket, me)
                size = frames.LARGEST + 1
            else:
                await hear(socket)
                size = frames.STRANGER + 1
            with suppress(ConnectionClosed):
                await socket.send(b"x" * size)
            await closed(socket)
        await eventually(lambda: not c.hub.connected())


async def test_who_says_nothing_is_hung_up_on(tmp_path):
    async with central(tmp_path) as c:
        c.hub._rhythm = replace(c.hub._rhythm, patience=0.1)
        async with dial(c) as socket:
            assert (await closed(socket)).rcvd.code == 1008


async def test_a_proof_is_good_once(tmp_path):
    """Whoever listened to one can't use it: each challenge is another."""
    async with central(tmp_path) as c:
        me = c.admit("one")
        async with dial(c) as socket, dial(c) as other:
            _, first = await hear(socket)
            _, second = await hear(other)
            assert first["nonce"] != second["nonce"]
            await say(other, 0, bus.Proof("one", me.sign(first["nonce"]), GREETING))
            _, refusal = await hear(other)
            assert "not the key" in refusal["sentence"]


async def test_a_node_reports_for_itself_whatever_it_claims(tmp_path):
    """Reports bear no name; one in them is passed over, and the answer to another's request can't be given."""
    async with central(tmp_path) as c, node(tmp_path / "n", c.admit("two")):
        me = c.admit("one")
        async with dial(c) as socket:
            await introduce(socket, me, greeting=replace(GREETING, node="two"))
            await say(socket, 0, {"message": "report", "slivers": [], "slice": "s", "node": "two", "generation": 9})
            await eventually(lambda: c.desk.last("one", "s"))
            assert c.desk.last("two", "s") is None
            for number in range(1, 100):
                await say(socket, number, bus.Report((), slice="s", generation=99))
            await eventually(lambda: "two" in c.hub.connected())
            status = await c.hub.ask("two", bus.AskStatus("s"))
            assert isinstance(status, bus.Report)
            assert status.generation == 0


async def test_a_node_that_reports_without_end_is_slowed_down_not_stored(tmp_path):
    """While the database is away: the hub holds some reports, then stops reading."""
    async with central(tmp_path) as c:
        me = c.admit("one")
        async with dial(c) as socket:
            await introduce(socket, me)
            await eventually(lambda: c.desk.said("one", bus.Greeting))
            c.desk.broken = True
            for i in range(3000):
                await say(socket, 0, bus.Report((), slice=f"s{i}"))
            reports = c.hub._lines["one"].delivery._reports
            await eventually(lambda: len(reports._untold) >= 1000)
            assert len(reports._untold) <= 1001
            c.desk.broken = False
            await eventually(lambda: len(c.desk.said("one", bus.Report)) == 3000)


async def test_a_node_that_floods_an_answer_is_cut_off(tmp_path):
    async with central(tmp_path) as c:
        me = c.admit("one")
        async with dial(c) as socket:
            await introduce(socket, me)

            async def forever():
                yield bus.Resize(1, 1)
                await asyncio.Event().wait()

            said = c.hub.run("one", bus.Run("s.a", ("yes",)), forever())
            first = asyncio.create_task(anext(said))
            while (heard := await hear(socket))[1]["message"] != "run":
                pass
            for _ in range(3):
                await say(socket, heard[0], bus.Output(1, b"x" * WINDOW))
            await first
            error = await closed(socket)
            assert "credit" in error.rcvd.reason
            await said.aclose()


@pytest.mark.parametrize("step", ["challenge", "proof", "welcome", "accept"])
async def test_a_connection_that_is_cut_at_any_step_leaves_nothing(tmp_path, step):
    async with central(tmp_path) as c:
        me = c.admit("one")
        c.desk.put("one", spec("s", 1, "a"))
        socket = await dial(c)
        _, challenge = await hear(socket)
        if step != "challenge":
            await say(socket, 0, bus.Proof("one", me.sign(challenge["nonce"]), GREETING))
        if step in ("welcome", "accept"):
            await hear(socket)
        if step == "accept":
            while (await hear(socket))[1]["message"] != "accept":
                pass
        socket.transport.abort()
        await eventually(lambda: not c.hub.connected())
        async with node(tmp_path / "n", me):
            await eventually(lambda: c.desk.holds("one", "s", 1))


async def test_a_node_that_does_not_answer_is_given_up(tmp_path):
    async with central(tmp_path) as c:
        c.hub._rhythm = replace(c.hub._rhythm, patience=0.2)
        async with dial(c) as socket:
            await introduce(socket, c.admit("one"))
            error = await closed(socket)
            assert error.rcvd.reason == "This node does not answer."


async def test_a_node_that_does_not_read_is_cut_off_and_not_heard_meanwhile(tmp_path):
    async with central(tmp_path) as c, dial(c, ping_interval=None) as socket:
        await introduce(socket, c.admit("one"))
        line = c.hub.connection("one")
        socket.transport.pause_reading()
        large = bus.AskMaps("s.a", ("x" * (15 << 20),))
        asking = [asyncio.create_task(c.hub.ask("one", large)) for _ in range(3)]
        await eventually(line._sending.locked)
        c.hub.drop("one")
        await eventually(line._end.done)
        await say(socket, 0, bus.Report((), slice="late"))
        for task in asking:
            with pytest.raises(bus.NodeAway):
                await asyncio.wait_for(task, 30)
        await eventually(lambda: not c.hub.connected())
        assert c.desk.last("one", "late") is None
        socket.transport.resume_reading()
        assert (await closed(socket)).rcvd is None, "what was sent before is not waited for"
