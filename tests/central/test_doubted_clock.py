"""A central whose clock jumps ahead ends no slice and forgets nothing until the clock can be right again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from testbed_api import Api, email, populated

from vini import bus
from vini.boot import boot
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
    """A central that was started now, on a machine that was; no daemon has told its kernel anything."""

    def __init__(self, api: Api, directory: Path, synchronised: bool = False, since_boot: float = 5000.0):
        self.api, self.since_boot = api, since_boot
        clock = lambda: api.now[0]  # noqa: E731
        told = lambda: "" if synchronised else "no `timedatectl` has set one up"  # noqa: E731
        clocks = Clocks(clock, directory / "clock.json", lambda: self.since_boot, told)
        self.central = Central(api.database, Authority(directory), clock, clocks=clocks)
        self.central.hub.attended = lambda: frozenset(self.there)  # type: ignore[method-assign]
        self.there: set[str] = set()

    def go(self, seconds: float) -> None:
        self.api.now[0] += seconds
        self.since_boot += seconds

    def greet(self) -> None:
        self.there = {*NODES}
        self.central._desk.reported([(n, bus.Greeting("1", 1, n, frozenset(), {})) for n in NODES])

    def measured(self, ahead: float) -> None:
        self.greet()
        self.central._desk.reported([(n, bus.Offset(ahead, 0.01)) for n in NODES])

    def kept(self) -> tuple[int, int]:
        """How many slices and events there are."""
        with self.api.database.reading() as tx:
            return len(slices.all(tx)), len(events.since(tx, 0).events)


@pytest.fixture
def world(api: Api, tmp_path: Path) -> World:
    """Its nodes were connected, to the central that ran before."""
    with api.database.transaction() as tx:
        events.add(tx, at=api.now[0], who="ada", what="log in", kind="person", target="ada")
        nodes.measured(tx, dict.fromkeys(NODES, (0.0, 0.01)), api.now[0])
    return World(api, tmp_path)


def test_a_clock_that_jumps_ends_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.measured(0.0)
    assert world.central._end_expired() == []
    before = world.kept()
    world.api.now[0] += FIVE_YEARS
    assert world.central._end_expired() == [] and world.kept() == before, "before any clock was compared"
    world.go(60.0)
    world.measured(-FIVE_YEARS)
    assert world.central._end_expired() == [] and world.kept() == before
    (said,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert said.startswith("No slice is ended, and no event forgotten: nodes' clocks are behind")
    world.central._doubt_said -= 3601.0
    for _ in range(3):
        assert world.central._end_expired() == []
    assert sum(r.levelno == logging.WARNING for r in caplog.records) == 2, "once an hour"
    world.measured(0.0)  # they say the same: so much time has gone by
    assert world.central._end_expired() == ["princeton_iias"]
    assert world.kept()[0] == 0


def by_a_boot(world: World, directory: Path) -> World:
    """Its clock of hardware is wrong."""
    world.api.now[0] += LATER
    (directory / "clock.json").unlink(missing_ok=True)  # as if it were of another boot
    return World(world.api, directory)


def by_a_hand(world: World, directory: Path) -> World:
    """Before it starts."""
    world.measured(0.0)
    assert world.central._end_expired() == []
    world.api.now[0] += LATER
    return World(world.api, directory, synchronised=True, since_boot=world.since_boot)


def while_it_runs(world: World, _: Path) -> World:
    world.measured(0.0)
    assert world.central._end_expired() == []
    world.there.clear()
    world.api.now[0] += LATER
    return world


@pytest.mark.parametrize("jumped", [by_a_boot, by_a_hand, while_it_runs])
def test_nor_does_one_that_is_ahead_by_days(
    world: World, tmp_path: Path, jumped: Callable[[World, Path], World], caplog: pytest.LogCaptureFixture
) -> None:
    with world.api.database.transaction() as tx:
        slices.change(tx, "princeton_iias", {"expires": world.api.now[0] + 3 * 86400.0})
        tokens.issue_api(tx, email("user"), ("read",), 1.0, world.api.now[0] - 31 * 86400.0, name="old")
    world = jumped(world, tmp_path)
    for _ in range(3):
        assert world.central._end_expired() == [], "no node is there"
        world.go(400.0)
    (said,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert said.startswith("No slice is ended, and no event forgotten: ") and "timedatectl" in said
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
    assert caplog.records[-1].getMessage().startswith("The clock can be right again")


@pytest.mark.parametrize("by", ["nodes", "a daemon"])
def test_slices_end_on_time_though_no_node_is_there(world: World, tmp_path: Path, by: str) -> None:
    """Also by a central that was started since, and after years."""
    if by == "nodes":
        world.measured(0.0)
        world.central._end_expired()
    world.go(4 * 365 * 86400.0)
    with world.api.database.transaction() as tx:
        slices.change(tx, "princeton_iias", {"expires": world.api.now[0] + 30})
    later = World(world.api, tmp_path, by == "a daemon", world.since_boot)
    assert later.central._end_expired() == []
    later.go(60.0 if by == "nodes" else 601.0)  # nodes may come first, and tell
    assert later.central._end_expired() == ["princeton_iias"]


def test_what_is_not_over_is_not_said_to_be_kept(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        world.go(601.0)
        assert world.central._end_expired() == []
    assert not [r for r in caplog.records if r.levelno == logging.WARNING]


@pytest.mark.parametrize("of_n1", [boot(), "another"])
def test_by_a_node_on_this_machine_alone_no_slice_is_ended(world: World, of_n1: str) -> None:
    """Its clock was set with the central's; and one that says so little as a virtual machine does is one of two."""

    def measured(n2: float) -> list[str]:
        world.greet()
        said = [(NODES[0], bus.Offset(0.0, 0.01, of_n1)), (NODES[1], bus.Offset(n2, 0.01, "another"))]
        world.central._desk.reported(said)
        return world.central._end_expired()

    with world.api.database.transaction() as tx:
        slices.change(tx, "princeton_iias", {"expires": world.api.now[0] + 86400.0})
    assert measured(0.0) == []
    world.api.now[0] += LATER
    assert world.central._end_expired() == []
    world.go(60.0)
    assert measured(-LATER) == []
    world.go(60.0)
    assert measured(0.0) == ["princeton_iias"]


def test_a_testbed_of_one_machine_ends_slices_on_time(world: World) -> None:
    """No daemon runs, and its only node has the central's clock."""
    with world.api.database.transaction() as tx:
        nodes.delete(tx, NODES[1])
        slices.change(tx, "princeton_iias", {"expires": world.api.now[0] + 30.0})
    world.there = {NODES[0]}
    world.central._desk.reported([(NODES[0], bus.Offset(0.0, 0.01, boot()))])
    assert world.central._end_expired() == []
    world.go(60.0)
    assert world.central._end_expired() == ["princeton_iias"]
