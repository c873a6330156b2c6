"""How long packets to other nodes may be: found by asking, told when it was found twice."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vini.embed import embed
from vini.model import Node, SliceSpec, Way
from vini.node.widths import Widths, measured, widest
from vini.placement import crossing
from vini.rules.narrow import lengths
from vini.topology import parse

WAY = ("192.0.2.1", "192.0.2.2")
OTHER = ("192.0.2.1", "192.0.2.3")


@given(st.integers(288, 4500).map(lambda n: 2 * n), st.integers(576, 9000))
def test_the_most_that_passes_is_found(mtu: int, room: int) -> None:
    asked: list[int] = []

    async def passes(size: int) -> bool:
        asked.append(size)
        return size <= room

    found = asyncio.run(widest(mtu, 576, passes))
    assert found == (mtu if room >= mtu else room // 2 * 2)
    assert len(asked) <= 16 and all(576 <= size <= mtu for size in asked)


@pytest.mark.parametrize(("mtu", "found"), [(500, 500), (576, 576), (1500, None), (9000, None)])
def test_where_nothing_passes_nothing_is_known(mtu: int, found: int | None) -> None:
    """But of what every network carries."""

    async def passes(_: int) -> bool:
        return False

    assert asyncio.run(widest(mtu, 576, passes)) == found


async def test_of_an_address_that_is_not_there_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(_: str) -> socket.socket:
        raise OSError(99, "Cannot assign requested address")

    monkeypatch.setattr("vini.node.echo.opened", opened)
    assert await measured(*WAY, 1500) is None


async def test_packets_that_were_lost_make_no_path_narrow() -> None:
    lost = 3

    async def passes(_: int) -> bool:
        nonlocal lost
        lost -= 1
        return lost < 0 or lost == 1

    assert await widest(1500, 576, passes) == 1500


class Network:
    """What its paths carry, and what is ridden on."""

    def __init__(self, file: Path | None = None) -> None:
        self.room, self.mtu, self.ridden = {WAY: 1500, OTHER: 1500}, 1500, {WAY: 1500, OTHER: 1500}
        self.lucky = 0  # so many times a narrow path seems to carry 2 bytes less
        self.silent: set[Way] = set()  # these answer nothing
        self.failed: set[Way] = set()  # of these that is known
        self.asked: list[Way] = []
        self.file = file
        self.widths = self.anew()

    def anew(self) -> Widths:
        """As of an agent that was started again."""
        self.widths = Widths(self.file, None, self.measure, lambda _: ("eth0", self.mtu), lambda: self.failed)
        return self.widths

    async def measure(self, local: str, remote: str, mtu: int) -> int | None:
        self.asked.append((local, remote))
        if (local, remote) in self.silent:
            return None
        self.lucky -= 1
        return min(mtu, self.room[local, remote]) - (2 if self.lucky >= 0 else 0)

    async def told(self) -> tuple[str, ...]:
        await self.widths.look(self.ridden)
        return self.widths.told()


async def test_a_narrow_path_is_told_when_it_was_found_twice_and_until_it_is_none() -> None:
    net = Network()
    assert await net.told() == () and not net.widths.changed.is_set()
    net.lucky = 1
    assert await net.told() == () and net.widths.narrow == {}, "what was found once may be packets that were lost"
    net.room[WAY] = 1400
    (sentence,) = await net.told()
    assert sentence.startswith("From 192.0.2.1 to 192.0.2.2 packets may have 1400 bytes, not 1500 as links need")
    assert "`ip link set eth0 mtu 1400`" in sentence and len(sentence) < 254
    assert net.widths.narrow == {WAY: 1400} and net.widths.changed.is_set()
    net.room[WAY] = 1398
    assert "1398 bytes" in (await net.told())[0] and net.widths.narrow == {WAY: 1398}
    net.mtu = 1398
    assert await net.told() == (), "who did as it says hears no more of it"
    assert net.widths.narrow[WAY] == 1398, "and links fit until their slice was brought up anew"
    net.ridden[WAY] = 1398
    assert await net.told() == () and WAY not in net.widths.narrow


async def test_where_the_interface_itself_takes_less_links_fit_at_once() -> None:
    net = Network()
    await net.told()
    net.mtu, net.ridden = 1400, {WAY: 1500, OTHER: 1400}
    net.asked.clear()
    assert await net.told() == () and net.widths.narrow == {WAY: 1400}
    assert sorted(net.asked) == [WAY, OTHER], "nothing is lost, so there is nothing to ask twice"
    net.mtu = 1500
    assert await net.told() == () and net.widths.narrow == {}


async def test_a_path_that_answers_nothing_is_as_it_was(tmp_path: Path) -> None:
    """At the start of an agent, too: then the other node, or our own address, may not be there yet."""
    net = Network(tmp_path / "widths.json")
    net.room[WAY] = 1400
    (sentence,) = await net.told()
    net.silent = {WAY, OTHER}
    assert await net.told() == (sentence,) and net.widths.narrow == {WAY: 1400}
    assert net.anew().narrow == {WAY: 1400}
    assert await net.told() == () and net.widths.narrow == {WAY: 1400} == net.anew().narrow
    net.silent = set()
    assert await net.told() == (sentence,)


async def test_a_path_that_falls_silent_while_it_is_asked_is_as_it_was() -> None:
    answers: list[int | None] = [576, None, 576, 1498, 576, 576]

    async def measure(*_: object) -> int | None:
        return answers.pop(0)

    widths = Widths(None, None, measure, lambda _: ("eth0", 1500))
    for narrow in ({}, {}, {WAY: 576}):
        await widths.look({WAY: 1500})
        assert widths.narrow == narrow and bool(widths.told()) == bool(narrow)


async def test_an_agent_that_starts_takes_paths_to_be_as_they_were(tmp_path: Path) -> None:
    net = Network(tmp_path / "widths.json")
    net.room[WAY] = 1400
    await net.told()
    assert net.anew().narrow == {WAY: 1400}
    net.room[WAY] = 1500
    await net.told()
    assert net.widths.narrow == net.anew().narrow == {}
    (tmp_path / "widths.json").write_text("no JSON")
    assert net.anew().narrow == {}


async def test_a_new_path_is_asked_at_once_and_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vini.node.widths._LOOK_S", 0.0)
    net = Network()
    net.room = dict.fromkeys(net.room, 1300)
    net.ridden = {WAY: 1500}
    task = asyncio.create_task(net.widths.run(lambda: net.ridden))
    while net.widths.narrow != {WAY: 1300}:
        await asyncio.sleep(0)
    net.room[WAY] = 1500
    net.ridden = {WAY: 1500, OTHER: 1500}
    while OTHER not in net.widths.narrow:
        await asyncio.sleep(0)
    assert net.widths.narrow == {WAY: 1300, OTHER: 1300}, "the first is asked again after a minute"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_packets_that_became_longer_are_asked_for_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second slice's, on a path that is known."""
    monkeypatch.setattr("vini.node.widths._LOOK_S", 0.0)
    net = Network()
    net.room, net.ridden = {WAY: 1300}, {WAY: 1280}
    async with running(net):
        await until(lambda: bool(net.asked))
        net.ridden = {WAY: 1500}
        await until(lambda: net.widths.narrow == {WAY: 1300})


async def test_what_is_known_to_answer_nothing_is_asked_once_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vini.node.widths._LOOK_S", 0.0)
    net = Network()
    net.room = dict.fromkeys(net.room, 1300)
    net.failed = {WAY}
    async with running(net):
        await until(lambda: net.widths.narrow == {OTHER: 1300})
        for _ in range(100):
            await asyncio.sleep(0)
        assert WAY not in net.asked
        net.room, net.failed = dict.fromkeys(net.room, 1200), set()
        await until(lambda: net.widths.narrow == {OTHER: 1300, WAY: 1200})
        net.failed = {OTHER}
        await net.widths.look(net.ridden)
        assert net.widths.narrow == {OTHER: 1300, WAY: 1200}
        net.failed = set()
        await until(lambda: net.widths.narrow == {OTHER: 1200, WAY: 1200})


async def test_new_paths_wait_for_no_silent_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these takes seconds, and there are many."""
    monkeypatch.setattr("vini.node.widths._LOOK_S", 0.0)
    net = Network()
    net.ridden = {("192.0.2.1", f"198.51.100.{i}"): 1500 for i in range(50)}
    under_way, never = 0, asyncio.Event()

    async def measure(local: str, remote: str, _: int) -> int | None:
        nonlocal under_way
        if (local, remote) == WAY:
            return 1300
        under_way += 1
        await never.wait()
        return None

    monkeypatch.setattr(net, "measure", measure)
    net.anew()
    async with running(net):
        await until(lambda: under_way == 10)
        net.ridden = {**net.ridden, WAY: 1500}
        await until(lambda: net.widths.narrow == {WAY: 1300})
        assert under_way == 10


@asynccontextmanager
async def running(net: Network) -> AsyncIterator[None]:
    task = asyncio.create_task(net.widths.run(lambda: net.ridden))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(is_so: Callable[[], bool]) -> None:
    """A test that waits for ever is ended by the runner."""
    while not is_so():
        await asyncio.sleep(0)


async def test_of_a_path_that_nothing_rides_on_any_more_nothing_is_told() -> None:
    net = Network()
    net.room = dict.fromkeys(net.room, 1300)
    assert len(await net.told()) == 2
    net.ridden = {OTHER: 1500}
    assert len(await net.told()) == 1 and net.widths.narrow == {OTHER: 1300}
    net.ridden = {}
    assert await net.told() == () and net.widths.narrow == {}


async def test_of_very_many_the_number_is_told() -> None:
    net = Network()
    net.ridden = {("192.0.2.1", f"198.51.100.{i}"): 1500 for i in range(50)}
    net.room = dict.fromkeys(net.ridden, 1300)
    told = await net.told()
    assert len(told) == 11 and told[-1].startswith("40 more ways")


def test_the_longest_sentence_is_kept_as_a_whole_by_centrals() -> None:
    ends = ["2001:db8:1111:2222:3333:4444:5555:6666", "2001:db8:1111:2222:3333:4444:5555:7777"]
    widths = Widths()
    for _ in range(2):
        widths._note((ends[0], ends[1]), "enp129s0f1np1", 9000, 9000, 1500)
    (sentence,) = widths.told()
    assert len(sentence) <= 254 and sentence.endswith("up anew.")


async def test_a_path_is_asked_no_more_than_its_links_need() -> None:
    """The other node's interface takes less, and links are no longer than that."""
    net = Network()
    net.mtu, net.ridden, net.room = 9000, {WAY: 1500, OTHER: 1400}, {WAY: 1500, OTHER: 1400}
    assert await net.told() == ()
    net.room[OTHER] = 1300
    (sentence,) = await net.told()
    assert "1300 bytes, not 1400 as links need" in sentence


LENGTHS = {
    ("vxlan", "192.0.2.{}"): 1500, ("vxlan", "2001:db8::{}"): 1500, ("gretap", "2001:db8::{}"): 1500,
    ("wireguard", "192.0.2.{}"): 1500,
}  # fmt: skip


@pytest.mark.parametrize(("kind", "address"), LENGTHS)
def test_links_need_what_the_least_interface_carries(kind: str, address: str) -> None:
    capabilities = frozenset({"vxlan", "gretap", "wireguard"})
    nodes = [
        Node(
            f"n{i}.a.example",
            address=address.format(i),
            mtu=mtu,
            capabilities=capabilities,
            wireguard=f"{i}" * 43 + "=",
        )
        for i, mtu in ((1, 9000), (2, 1500))
    ]
    links = [{"ends": ["a", "b"]}, {"ends": ["c", "d"], "mtu": 1300}]
    placed = {name: nodes["bd".count(name)].name for name in "abcd"}
    slivers = {name: {"node": node} for name, node in placed.items()}
    topology = parse(json.dumps({"name": "s", "slivers": slivers, "links": links, "tunnel": kind}))
    vnis = {link: 1 + i for i, link in enumerate(crossing(topology, placed))}
    specs = embed(topology, nodes, placed=placed, vnis=vnis, port=20_001)
    way = (address.format(1), address.format(2))
    assert lengths(specs[nodes[0].name]) == {way: 1500}
    assert lengths(SliceSpec("s", nodes[0].name, 1)) == {}


def test_an_agent_that_ends_waits_for_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    ours.bind(("127.0.0.1", 0))
    ours.setblocking(False)
    theirs.connect(ours.getsockname())
    monkeypatch.setattr("vini.node.echo.opened", lambda _: ours)
    monkeypatch.setattr("vini.node.widths._DISCOVER", {4: (socket.SOL_SOCKET, socket.SO_PRIORITY)})
    monkeypatch.setattr("vini.node.widths._PATIENCE_S", 3600.0)

    async def ends() -> set[threading.Thread]:
        task = asyncio.create_task(measured(*WAY, 1500))
        await asyncio.sleep(0.01)
        theirs.send(b"\x45" + bytes(60))  # of somebody else
        await asyncio.sleep(0.01)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return {*threading.enumerate()}

    with theirs:
        before = {*threading.enumerate()}
        assert asyncio.run(ends()) <= before, "a thread that waits would be waited for"
