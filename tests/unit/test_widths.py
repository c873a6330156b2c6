"""How long packets to other nodes may be: found by asking, told when it was found twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vini.node.widths import Widths, widest

WAY = ("192.0.2.1", "192.0.2.2")
OTHER = ("192.0.2.1", "192.0.2.3")


@given(st.integers(288, 4500).map(lambda n: 2 * n), st.integers(576, 9000))
def test_the_most_that_passes_is_found(mtu: int, room: int) -> None:
    asked: list[int] = []
    found = widest(mtu, 576, lambda size: asked.append(size) or size <= room)
    assert found == (mtu if room >= mtu else room // 2 * 2)
    assert len(asked) <= 15 and all(576 <= size <= mtu for size in asked)


@pytest.mark.parametrize("mtu", [500, 576, 1500, 9000])
def test_where_nothing_passes_it_is_not_for_the_length(mtu: int) -> None:
    assert widest(mtu, 576, lambda _: False) == mtu


class Network:
    """What its paths carry, and what is ridden on."""

    def __init__(self) -> None:
        self.room, self.mtu, self.ridden = {WAY: 1500, OTHER: 1500}, 1500, {WAY, OTHER}
        self.widths = Widths(lambda: self.ridden, self.measure, lambda _: ("eth0", self.mtu))

    def measure(self, local: str, remote: str, mtu: int) -> int:
        return min(mtu, self.room[local, remote])

    async def told(self) -> tuple[str, ...]:
        await self.widths.look()
        return self.widths.told()


async def test_a_narrow_path_is_told_when_it_was_found_twice_and_until_it_is_none() -> None:
    net = Network()
    assert await net.told() == ()
    net.room[WAY] = 1400
    assert await net.told() == (), "what was found once may be packets that were lost"
    (sentence,) = await net.told()
    assert sentence.startswith("From 192.0.2.1 to 192.0.2.2 packets may have 1400 bytes on their way, not 1500")
    assert "`ip link set eth0 mtu 1400`" in sentence and len(sentence) < 254
    net.room[WAY] = 1398
    assert (await net.told())[0] == sentence
    assert "1398 bytes" in (await net.told())[0]
    net.mtu = 1398
    assert await net.told() == (), "who did as it says hears no more of it"


async def test_of_a_path_that_nothing_rides_on_any_more_nothing_is_told() -> None:
    net = Network()
    net.room = dict.fromkeys(net.room, 1300)
    await net.told()
    assert len(await net.told()) == 2
    net.ridden = {OTHER}
    assert len(await net.told()) == 1
    net.ridden = {WAY}
    assert await net.told() == ()


async def test_of_very_many_the_number_is_told() -> None:
    net = Network()
    net.ridden = {("192.0.2.1", f"198.51.100.{i}") for i in range(50)}
    net.room = dict.fromkeys(net.ridden, 1300)
    await net.told()
    told = await net.told()
    assert len(told) == 11 and told[-1].startswith("40 more ways")


def test_the_longest_sentence_is_kept_as_a_whole_by_centrals() -> None:
    ends = ["2001:db8:1111:2222:3333:4444:5555:6666", "2001:db8:1111:2222:3333:4444:5555:7777"]
    widths = Widths(lambda: [])
    for _ in range(2):
        widths._note((ends[0], ends[1]), "enp129s0f1np1", 9000, 1500)
    (sentence,) = widths.told()
    assert len(sentence) <= 254 and sentence.endswith("up anew.")
