"""Messages between a client and an agent, over a real socket: whole, typed, and never waited for in vain."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from strategies import spec_of, specs

from vini import bus
from vini.model import Conflict, DriverError, SliverStatus, Stale, Topology, Unsupported, ViniError

Converse = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def agent(path: Path, converse: Converse) -> AsyncIterator[bus.Line]:
    """Something that answers at a socket."""

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await converse(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_unix_server(served, path)
    try:
        yield bus.Line(path)
    finally:
        server.close()


def answering(*replies: bus.Message, heard: list[bus.Request] | None = None) -> Converse:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await bus.receive_request(reader)
        if heard is not None:
            heard.append(request)
        for reply in replies:
            await bus.send(writer, reply)

    return converse


async def test_a_request_arrives_as_it_was_and_so_does_its_answer(tmp_path):
    heard: list[bus.Request] = []
    report = bus.Report((SliverStatus("s.a", "failed", "ü"),), 3, 0.5)
    async with agent(tmp_path / "s", answering(report, heard=heard)) as it:
        assert await it.ask(bus.AskStatus("s")) == report
    assert heard == [bus.AskStatus("s")]


async def test_progress_comes_before_the_answer_in_order(tmp_path):
    steps = [bus.Progress(i, 3, f"step {i}") for i in range(3)]
    seen: list[bus.Progress] = []
    async with agent(tmp_path / "s", answering(*steps, bus.Lines(("done",)))) as it:
        assert await it.ask(bus.Stop(), seen.append) == bus.Lines(("done",))
    assert seen == steps


@pytest.mark.parametrize("error", [Stale, Conflict, Unsupported, DriverError, ViniError])
async def test_a_refusal_is_raised_as_the_error_that_it_was(tmp_path, error):
    async with agent(tmp_path / "s", answering(bus.Refusal(error.__name__, "A sentence."))) as it:
        with pytest.raises(error, match=r"^A sentence\.$") as caught:
            await it.ask(bus.AskStatus("s"))
    assert type(caught.value) is error


async def test_a_kind_of_error_that_we_do_not_know_is_still_a_sentence(tmp_path):
    async with agent(tmp_path / "s", answering(bus.Refusal("FromTheFuture", "A sentence."))) as it:
        with pytest.raises(ViniError, match="A sentence"):
            await it.ask(bus.AskStatus("s"))


async def test_nobody_there(tmp_path):
    with pytest.raises(bus.AgentGone):
        await bus.Line(tmp_path / "none").ask(bus.Hello())


async def test_a_socket_that_a_dead_agent_left(tmp_path):
    async with agent(tmp_path / "s", answering()):
        pass
    assert (tmp_path / "s").exists()
    with pytest.raises(bus.AgentGone):
        await bus.Line(tmp_path / "s").ask(bus.Hello())


@pytest.mark.parametrize("last", [b"", b"\0\0", struct.pack("!I", 100) + b"short"])
async def test_an_agent_that_dies_in_the_middle_of_an_answer(tmp_path, last):
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await bus.receive_request(reader)
        writer.write(last)
        await writer.drain()

    async with agent(tmp_path / "s", converse) as it:
        with pytest.raises(bus.AgentGone, match="in the middle"):
            await it.ask(bus.Hello())


async def test_an_answer_of_another_version_is_a_sentence_not_a_traceback(tmp_path):
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await bus.receive_request(reader)
        body = msgspec.msgpack.encode({"message": "fromthefuture"})
        writer.write(struct.pack("!I", len(body)) + body)
        await writer.drain()

    async with agent(tmp_path / "s", converse) as it:
        with pytest.raises(ViniError):
            await it.ask(bus.Hello())


async def test_several_requests_on_one_line_and_then_silence():
    reader = asyncio.StreamReader()
    for request in (bus.Hello(), bus.AskFibs("s")):
        body = msgspec.msgpack.encode(request)
        reader.feed_data(struct.pack("!I", len(body)) + body)
    reader.feed_eof()
    assert [await bus.receive_request(reader) for _ in range(3)] == [bus.Hello(), bus.AskFibs("s"), None]


async def test_a_spec_of_a_thousand_slivers_passes_in_one_message(tmp_path):
    from vini.model import End, Link, Sliver

    names = [f"r{i}" for i in range(1000)]
    links = tuple(Link((End(a), End(b))) for a, b in zip(names, names[1:], strict=False))
    spec = spec_of(Topology("big", {n: Sliver(n) for n in names}, links))
    heard: list[bus.Request] = []
    async with agent(tmp_path / "s", answering(bus.Report(()), heard=heard)) as it:
        await it.ask(bus.Accept(spec))
    assert heard == [bus.Accept(spec)]


def test_every_message_goes_somewhere() -> None:
    """But for what a node says to the engine before it has a central, and what a central tells itself of a clock."""

    def below(kind: type[bus.Message]) -> set[type[bus.Message]]:
        return {kind}.union(*(below(one) for one in kind.__subclasses__()))

    messages = {kind for kind in below(bus.Message) - {bus.Message} if kind.__module__.startswith("vini.")}
    assert messages - {*get_args(bus.ToNode), *get_args(bus.ToCentral)} == {bus.Here, bus.Offset}
    assert all(getattr(bus, kind.__name__) is kind for kind in messages), "each is a name of `vini.bus`"


@given(specs())
def test_any_spec_survives_the_bus(spec):
    request = bus.Accept(spec)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=bus.Request) == request
