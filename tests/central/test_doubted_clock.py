"""A central whose clock jumps ahead ends no slice and forgets nothing until the clock can be right again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from testbed_api import Api, email, populated

from vini import bus
from vini.central.ca import Authority
from vini.central.clocks import Clocks
from vini.central.run import Central
from vini.store import events, nodes, slices, tokens
from vini.store.database import Database

NODES = ("n1.princeton.example", "n2.princeton.example")
FIVE_YEARS = 5 * 365 * 86400.0
LATER = 6.5 * 86400.0


@pytest.fixture
def api(database: Database) -> Api:
    return populated(database)


class World:
    """A central that was started now, with a monotonic clock of its own."""

    def __init__(self, api: Api, directory: Path):
        self.api, self.monotonic = api, 5000.0
        self.central = Central(api.database, Authority(directory), lambda: api.now[0])
        self.central._clocks = Clocks(lambda: api.now[0], lambda: self.monotonic)
        self.central._desk._clocks = self.central._clocks
        self.central.hub.connected = lambda: frozenset(self.there)  # type: ignore[method-assign]
        self.there: set[str] = set()

    def go(self, seconds: float) -> None:
        self.api.now[0] += seconds
        self.monotonic += seconds

    def greet(self) -> None:
        self.there = {*NODES}
        self.central._desk.reported([(n, bus.Greeting("1", 1, n, frozenset(), {})) for n in NODES])

    def measured(self, ahead: float) -> None:
        self.greet()
        self.central._desk.reported([(n, bus.Offset(ahead, 0.01)) for n in NODES])

    def kept(self) -> tuple[int, int]:
        """How many slices and events there are."""
        with self.api.database.reading() as tx:
            return len(slices.all(tx)), len(events.since(tx, 0))


@pytest.fixture
def world(api: Api, tmp_path: Path) -> World:
    """Its nodes were connected, to the central that ran before."""
    with api.database.transaction() as tx:
        events.add(tx, at=api.now[0], who="ada", what="log in", kind="person", target="ada")
        nodes.measured(tx, dict.fromkeys(NODES, (0.0, 0.01)), api.now[0])
    return World(api, tmp_path)


def test_a_clock_that_jumps_ends_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.measured(0.0)
    before = world.kept()
    world.api.now[0] += FIVE_YEARS
    assert world.central._end_expired() == [] and world.kept() == before, "before any clock was compared"
    world.go(60.0)
    world.measured(-FIVE_YEARS)
    assert world.central._end_expired() == [] and world.kept() == before
    (said,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert said.startswith("No slice is ended, and no event forgotten: no node was heard of since ")
    world.central._doubt_said -= 3601.0
    for _ in range(3):
        assert world.central._end_expired() == []
    assert sum(r.levelno == logging.WARNING for r in caplog.records) == 2, "once an hour"
    world.measured(0.0)  # they say the same: so much time has gone by
    assert world.central._end_expired() == ["princeton_iias"]
    assert world.kept()[0] == 0


def by_a_start(world: World, directory: Path) -> World:
    world.api.now[0] += LATER
    return World(world.api, directory)


def while_it_runs(world: World, _: Path) -> World:
    world.measured(0.0)
    assert world.central._end_expired() == []
    world.api.now[0] += LATER
    return world


@pytest.mark.parametrize("jumped", [by_a_start, while_it_runs])
def test_nor_does_one_that_is_ahead_by_days(
    world: World, tmp_path: Path, jumped: Callable[[World, Path], World]
) -> None:
    with world.api.database.transaction() as tx:
        slices.change(tx, "princeton_iias", {"expires": world.api.now[0] + 3 * 86400.0})
        tokens.issue_api(tx, email("user"), ("read",), 1.0, world.api.now[0] - 31 * 86400.0, name="old")
    world = jumped(world, tmp_path)
    assert world.central._end_expired() == [], "no node is there yet"
    with world.api.database.reading() as tx:
        assert "old" not in [token.name for token in tokens.some(tx, email("user"))], "these are forgotten all the same"
    world.greet()
    assert world.central._end_expired() == [], "it is connected, and not measured"
    world.go(60.0)
    world.measured(-LATER)
    assert world.central._end_expired() == []
    world.go(60.0)
    world.measured(0.0)
    assert world.central._end_expired() == ["princeton_iias"]


def test_where_no_node_comes_slices_end_after_ten_minutes(world: World) -> None:
    world.go(86400.0 * 6)
    world.central._clocks._since = world.monotonic  # it has just started
    with world.api.database.transaction() as tx:
        slices.change(tx, "princeton_iias", {"expires": world.api.now[0] - 1})
    assert world.central._end_expired() == []
    world.go(601.0)
    assert world.central._end_expired() == ["princeton_iias"]
