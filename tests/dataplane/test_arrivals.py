"""When packets that a worker reads late are taken to have come: as evenly as before, and never after they were read."""

from __future__ import annotations

import ctypes
import random
import shutil
from collections.abc import Sequence

import pytest
from simulated import FOREVER, MS, library

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
US = 1000
READS = 32  # of a visit: traffic.c


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return library(tmp_path_factory.mktemp("model"))


class Reader:
    """Reads a TAP whose packets come at those times, when it is told to."""

    def __init__(self, lib: ctypes.CDLL, came: Sequence[int]):
        self._lib, self._state = lib, ctypes.create_string_buffer(64)
        self._came, self._read, self._looked = list(came), 0, 0
        self.told: list[int] = []
        self.slept = 0

    def look(self, now: int) -> None:
        """Everything that is there by then, in visits of at most 32, 3 us a packet."""
        looked, self._looked, left = self._looked, now, READS
        while self._read < len(self._came) and self._came[self._read] <= now:
            self.told.append(self._lib.arrivals_next(self._state, looked, self.slept, now))
            self._read, now, left = self._read + 1, now + 3 * US, left - 1
            if not left:
                looked, self._looked, left = self._looked, now, READS
        if left:
            self._lib.arrivals_end(self._state, now)

    def look_each(self, step: int, begin: int, end: int) -> None:
        for now in range(begin, end, step):
            self.look(now)

    def errors(self, begin: int, end: int) -> list[int]:
        """Of what came in that time."""
        return [told - came for told, came in zip(self.told, self._came, strict=False) if begin <= came < end]


def steady(interval: int, until: int, spread: int = 0, seed: int = 1) -> list[int]:
    chance = random.Random(seed)
    return sorted(at + chance.randint(-spread, spread) for at in range(MS, until, interval))


def test_who_is_attentive_tells_the_time_of_reading(lib: ctypes.CDLL) -> None:
    reader = Reader(lib, steady(15 * US, 50 * MS))
    reader.look_each(20 * US, MS, 51 * MS)
    assert max(reader.errors(0, 50 * MS)) <= 30 * US
    assert min(reader.errors(0, 50 * MS)) >= 0


@pytest.mark.parametrize("away_ms", [1, 5, 13])
def test_a_flow_goes_on_evenly_while_nobody_reads(lib: ctypes.CDLL, away_ms: int) -> None:
    begin, end = 100 * MS, (100 + away_ms) * MS
    reader = Reader(lib, steady(15 * US, 200 * MS, spread=6 * US))
    reader.look_each(20 * US, MS, begin)
    reader.look_each(20 * US, end, 201 * MS)
    off = [abs(e) for e in reader.errors(begin, end)]
    assert len(off) > 60 * away_ms
    assert max(off) <= 50 * US + 0.04 * (end - begin)  # else all of them were late, the first by the whole absence
    assert max(abs(e) for e in reader.errors(end + 5 * MS, 200 * MS)) <= 200 * US


def test_what_comes_after_a_pause_of_its_flow_came_when_it_was_read(lib: ctypes.CDLL) -> None:
    """It may have come at any time of the absence: too late is wrong by less than too early may be."""
    reader = Reader(lib, [*steady(15 * US, 50 * MS), *range(209 * MS, 210 * MS, 15 * US)])
    reader.look_each(20 * US, MS, 200 * MS)
    reader.look(210 * MS)
    assert min(reader.errors(209 * MS, 210 * MS)) >= 0


def test_the_first_packets_of_all_came_when_they_were_read(lib: ctypes.CDLL) -> None:
    reader = Reader(lib, steady(15 * US, 20 * MS))
    reader.look(20 * MS)
    assert min(reader.errors(0, 20 * MS)) >= 0


@pytest.mark.parametrize("seed", range(5))
def test_who_sleeps_until_a_packet_wakes_him_tells_its_time_however_uneven_the_flow_is(
    lib: ctypes.CDLL, seed: int
) -> None:
    chance = random.Random(seed)
    state, before, now, wakes = ctypes.create_string_buffer(64), MS, MS, 10 * US
    for _ in range(3000):
        came = now + round(chance.expovariate(1 / MS))
        begin, now = now, came + chance.randrange(1 * US, wakes)
        looked = lib.arrivals_looked(before, begin, FOREVER, now)
        before = now
        assert lib.arrivals_next(state, looked, begin, now) == now
        now += 5 * US
        lib.arrivals_end(state, now)


@pytest.mark.parametrize("waiting", [31, 32, 33, 64])
def test_who_read_as_much_as_there_was_is_not_behind_after_having_slept(lib: ctypes.CDLL, waiting: int) -> None:
    flow = steady(1 * MS, 600 * MS)
    begin = 600 * MS
    reader = Reader(lib, [*flow, *range(begin, begin + waiting * MS, MS), 10_000 * MS])
    for at in flow:
        reader.look(at + 5 * US)
    reader.look(begin + waiting * MS)
    reader.slept = begin + (waiting + 1) * MS
    reader.look(10_000 * MS)
    assert reader.errors(10_000 * MS, 10_001 * MS) == [0]


def test_after_a_long_absence_packets_are_taken_to_have_come_when_they_are_read(lib: ctypes.CDLL) -> None:
    """Too late is what a machine that stands still does; too early by as much would be a lie."""
    reader = Reader(lib, steady(1 * MS, 700 * MS))
    reader.look_each(MS // 2, MS, 600 * MS)
    reader.look(700 * MS)
    assert min(reader.errors(601 * MS, 700 * MS)) >= 0


def test_who_sleeps_longer_than_his_timer_was_away_since_then(lib: ctypes.CDLL) -> None:
    assert lib.arrivals_looked(1 * MS, 2 * MS, 3 * MS, 13 * MS) == 3 * MS
    assert lib.arrivals_looked(1 * MS, 2 * MS, 1 * MS, 13 * MS) == 2 * MS  # it was due already
    assert lib.arrivals_looked(1 * MS, 2 * MS, 20 * MS, 13 * MS) == 13 * MS  # a packet woke him


def test_what_can_be_read_at_once_came_since_the_wait_before(lib: ctypes.CDLL) -> None:
    """The time between was spent otherwise, or stolen."""
    assert lib.arrivals_looked(1 * MS, 12 * MS, 20 * MS, 12 * MS + 2 * US) == 1 * MS


@pytest.mark.parametrize("seed", range(20))
def test_told_times_never_go_back_and_are_never_in_the_future(lib: ctypes.CDLL, seed: int) -> None:
    chance = random.Random(seed)
    came = sorted(chance.randrange(MS, 300 * MS) for _ in range(chance.randrange(1, 5000)))
    reader = Reader(lib, came)
    now = MS
    while now < 310 * MS:
        before = len(reader.told)
        reader.look(now)
        assert all(told <= now + 3 * US * (len(reader.told) - before) for told in reader.told[before:])
        now += chance.choice([20 * US, 100 * US, 400 * US, 5 * MS])
    assert reader.told == sorted(reader.told)
    assert len(reader.told) == len(came)
