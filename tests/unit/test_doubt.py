"""By a clock that can't be right nothing is ended and nothing forgotten."""

from __future__ import annotations

import pytest

from vini.central.clocks import Clocks
from vini.rules.doubt import Heard, doubt

NOW, HOUR, DAY = 1.8e9, 3600.0, 86400.0


def judged(*nodes: tuple[float, float | None], site: int = 0) -> str:
    """Of each when it was heard of, and by how much its clock is ahead, if that was measured; each at its own site."""
    heard = [Heard(f"n{i}", site or i + 1, at) for i, (at, _) in enumerate(nodes)]
    return doubt(heard, {f"n{i}": ahead for i, (_, ahead) in enumerate(nodes) if ahead is not None}, NOW)


@pytest.mark.parametrize(
    "nodes",
    [
        [],
        [(NOW - 10, 0.0)],
        [(NOW - 10, -HOUR + 1), (NOW - 60, 5 * DAY)],
        [(NOW - 10, -9 * HOUR), (NOW - 60, 0.0), (NOW - 60, 1.0)],  # one alone is wrong itself
        [(NOW - 2 * DAY, None)],  # all are away, and were waited for
        [(NOW + 3000 * DAY, 0.0), (NOW - 10, 0.0)],  # heard of while this clock was wrong
        [(NOW + 3000 * DAY, None)],
    ],
)
def test_a_clock_that_nothing_speaks_against_is_believed(nodes: list[tuple[float, float | None]]) -> None:
    assert judged(*nodes) == ""


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([(NOW - 10, -2 * HOUR)], "by 2 hours"),
        ([(NOW - 2 * DAY, -2 * HOUR)], "by 2 hours"),  # heard of by the clock of before, measured by this one
        ([(NOW - 10, -1800 * DAY), (NOW - 10, -1800 * DAY), (NOW - 10, 0.0)], "by 43200 hours"),
        ([(NOW - 8 * DAY, None), (NOW - 900 * DAY, None)], "no node was heard of since 20"),
    ],
)
def test_one_that_jumped_ahead_is_not(nodes: list[tuple[float, float | None]], why: str) -> None:
    assert why in judged(*nodes)


def test_a_site_with_many_nodes_has_one_voice() -> None:
    wrong, right = [(NOW, -9 * HOUR)] * 5, [(NOW, 0.0)]
    ahead = dict.fromkeys("abcde", -9 * HOUR) | {"f": 0.0, "g": 0.0}
    heard = [Heard(n, 1, NOW) for n in "abcde"] + [Heard("f", 2, NOW), Heard("g", 3, NOW)]
    assert doubt(heard, ahead, NOW) == ""
    assert "9 hours" in judged(*wrong, *right, *right), "were they all of sites of their own"


class World:
    """A process's two clocks."""

    def __init__(self) -> None:
        self.wall, self.monotonic = NOW, 100.0
        self.clocks = Clocks(lambda: self.wall, lambda: self.monotonic)

    def go(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


def test_one_waits_until_most_were_measured_since_the_start() -> None:
    world = World()
    assert world.clocks.waits([]) and world.clocks.waits("abc")
    world.clocks.note({"a": 0.0})
    assert world.clocks.waits("abc")
    world.clocks.note({"b": -DAY, "c": float("nan")})
    assert not world.clocks.waits("abc") and world.clocks.known() == {"a": 0.0, "b": -DAY}


@pytest.mark.parametrize("jump", [6.9 * DAY, -DAY, 61.0])
def test_one_waits_again_when_the_clock_was_set(jump: float) -> None:
    world = World()
    world.clocks.note({"a": 0.0})
    world.go(30.0)
    world.wall += 59.0  # crystals, and small corrections
    assert not world.clocks.waits("a")
    world.wall += jump
    assert world.clocks.waits("a") and world.clocks.known() == {}
    world.go(10.0)
    world.clocks.note({"a": 0.0})
    assert world.clocks.waits("a"), "that was on its way when the clock was set"
    world.go(60.0)
    world.clocks.note({"a": -jump})
    assert not world.clocks.waits("a") and world.clocks.known() == {"a": -jump}


def test_where_no_node_comes_one_waits_for_ten_minutes() -> None:
    world = World()
    world.go(599.0)
    assert world.clocks.waits("a")
    world.go(2.0)
    assert not world.clocks.waits("a")


def test_what_was_measured_long_ago_counts_no_more() -> None:
    world = World()
    world.clocks.note({"a": 0.0})
    world.go(301.0)
    assert world.clocks.known() == {} and world.clocks.waits("a")
