"""What one client, person or slice may have of a node's SSH server, and what is carried to it by way of the central."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from vini import bus
from vini.bus.streams import WINDOW
from vini.model import CapacityError, ViniError
from vini.node.rate import Rate
from vini.node.ssh import authorized
from vini.node.ssh.fairness import Census, Strangers, source
from vini.node.ssh.through import Carrier, source_of


def test_who_has_few_that_wait_is_never_kept_out_by_who_has_many() -> None:
    waiting: Strangers[str] = Strangers(most=5)
    assert [waiting.come(f"mine{n}", "flood") for n in range(5)] == [None] * 5
    assert waiting.come("his", "guest") == "mine4"
    assert waiting.come("mine5", "flood") == "mine5"  # what the flood adds is what goes
    assert waiting.come("his too", "guest") == "mine3"
    waiting.gone("mine0")
    assert waiting.come("hers", "another") is None
    assert len(waiting) == 5


def test_a_source_begins_so_many_at_once_and_then_so_many_a_second() -> None:
    rate = Rate(burst=3, per_second=2)
    assert [rate.takes("a", 10.0) for _ in range(4)] == [True, True, True, False]
    assert rate.takes("b", 10.0)
    assert [rate.takes("a", 10.5) for _ in range(2)] == [True, False]
    assert [rate.takes("a", 1000.0) for _ in range(4)] == [True, True, True, False]


def test_those_who_are_in_are_counted_by_slice_by_person_and_together() -> None:
    census = Census(per_slice=3, per_person=2, in_all=4)
    census.come("s", "ada")
    census.come("t", "ada")
    assert "You have 2 SSH connections" in census.why_not("u", "ada")
    census.come("s", "bob")
    census.come("s", "eve")
    assert "Slice s has 3" in census.why_not("s", "zoe")
    assert "This node has 4" in census.why_not("t", "zoe")
    census.gone("s", "eve")
    assert census.why_not("s", "zoe") == ""


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_a_host_that_has_many_addresses_is_one_source(one: str, other: str, same: bool) -> None:
    assert (source(one) == source(other)) is same


def test_slices_that_come_through_the_central_are_sources_of_their_own() -> None:
    assert source_of("home_a") != source_of("home_b")
    assert source_of("home_a").startswith("127.")
    assert source_of("home_a") != "127.0.0.1"


class Asker:
    """Of a stream, the other side."""

    def __init__(self) -> None:
        self.to_node: asyncio.Queue[bus.Message | None] = asyncio.Queue()
        self.said: asyncio.Queue[bus.Message] = asyncio.Queue()

    async def send(self, message: bus.Message) -> None:
        await self.said.put(message)

    async def receive(self) -> bus.Message | None:
        return await self.to_node.get()

    def close(self) -> None: ...


@asynccontextmanager
async def server(does):
    made = await asyncio.start_server(does, "127.0.0.1", 0)
    try:
        yield made.sockets[0].getsockname()[1]
    finally:
        made.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(str(writer.get_extra_info("peername")[0]).encode())
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def test_what_is_carried_comes_back_whole_from_the_slices_own_address_and_ends_with_the_server() -> None:
    asker = Asker()
    sent = bytes(range(256)) * 4000
    async with server(echo) as port, asyncio.timeout(30):
        carrying = asyncio.create_task(Carrier().carry("home_a", port, asker))
        for at in range(0, len(sent), 1000):
            asker.to_node.put_nowait(bus.Input(sent[at : at + 1000]))
        asker.to_node.put_nowait(bus.Input())
        back, credit = b"", 0
        while not isinstance(said := await asker.said.get(), bus.Exited):
            if isinstance(said, bus.Output):
                back += said.data
                asker.to_node.put_nowait(bus.Credit(len(said.data) + 64))
            else:
                assert isinstance(said, bus.Credit)
                credit += said.amount
        await carrying
    assert back == source_of("home_a").encode() + sent
    assert credit == len(sent) + 64 * -(-len(sent) // 1000)


async def test_a_server_that_says_much_waits_for_who_does_not_listen() -> None:
    done = asyncio.Event()

    async def floods(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with pytest.raises(ConnectionError):
            while True:
                writer.write(bytes(1 << 16))
                await writer.drain()
        done.set()

    asker = Asker()
    async with server(floods) as port, asyncio.timeout(30):
        carrying = asyncio.create_task(Carrier().carry("s", port, asker))
        said = 0
        while said < WINDOW - (1 << 16):
            message = await asker.said.get()
            assert isinstance(message, bus.Output)
            said += len(message.data) + 64
        for _ in range(100):
            await asyncio.sleep(0)
        said += sum(len(m.data) + 64 for m in asker.said._queue if isinstance(m, bus.Output))
        assert said <= WINDOW
        asker.to_node.put_nowait(None)  # he goes
        await carrying
        await done.wait()


async def test_no_slice_has_more_under_way_than_may_be_in() -> None:
    carrier = Carrier()
    carrier._under_way["s"] = 240
    with pytest.raises(CapacityError, match="240 connections"):
        await carrier.carry("s", 1, Asker())
    with pytest.raises(ViniError, match="does not answer"):
        await carrier.carry("t", 1, Asker())
    assert "t" not in carrier._under_way


def test_a_guest_comes_into_the_slivers_that_he_was_let_into_until_his_time_is_over(tmp_path: Path) -> None:
    now = 10.0
    book = authorized.Book(tmp_path, lambda: now)
    let = (bus.GuestKey("k", "bob", ("a",), 20.0), bus.GuestKey("all", "eve"))
    authorized.write(tmp_path, "central", {"s": bus.Admission((bus.AuthorizedKey("m", "ada"),), guests=let)})
    assert [(key, s) for key in ("m", "k", "all", "none") for s in ("a", "b", "") if book.opens("s", s, key)] == [
        ("m", "a"), ("m", "b"), ("m", ""), ("k", "a"), ("all", "a"), ("all", "b"), ("all", ""),
    ]  # fmt: skip
    assert [book.person("s", key) for key in ("m", "k", "none")] == ["ada", "bob", "none"]
    assert not book.opens("t", "a", "all")
    now = 20.0
    assert not book.opens("s", "a", "k")
