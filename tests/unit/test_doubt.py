"""By a clock that can't be right nothing is ended and nothing forgotten."""

from __future__ import annotations

import pytest

from vini.rules.doubt import Heard, doubt

NOW, HOUR, DAY = 1.8e9, 3600.0, 86400.0


@pytest.mark.parametrize(
    "nodes",
    [
        [],
        [Heard(NOW - 10, 0.0)],
        [Heard(NOW - 10, -HOUR + 1), Heard(NOW - 60, 5 * DAY)],
        [Heard(NOW - 10, -9 * HOUR), Heard(NOW - 60, 0.0), Heard(NOW - 60, 1.0)],  # one alone is wrong itself
        [Heard(NOW - 2 * DAY, 0.0)],  # all are away, or this was
        [Heard(NOW + 3000 * DAY, -3000 * DAY), Heard(NOW - 10, 0.0)],  # heard of while this clock was wrong
        [Heard(NOW + 3000 * DAY, -3000 * DAY)],
    ],
)
def test_a_clock_that_nothing_speaks_against_is_believed(nodes: list[Heard]) -> None:
    assert doubt(nodes, NOW) == ""


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([Heard(NOW - 10, -2 * HOUR)], "by 2 hours"),
        ([Heard(NOW - 10, -1800 * DAY), Heard(NOW - 10, -1800 * DAY), Heard(NOW - 10, 0.0)], "by 43200 hours"),
        ([Heard(NOW - 8 * DAY, 0.0), Heard(NOW - 900 * DAY, 0.0)], "no node was heard of since 20"),
    ],
)
def test_one_that_jumped_ahead_is_not(nodes: list[Heard], why: str) -> None:
    assert why in doubt(nodes, NOW)
