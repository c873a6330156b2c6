"""How often links failed with their path, as a node tells it."""

from __future__ import annotations

from test_mirror import TO_N2, TO_N3, made, star

from vini.model import SliverStatus
from vini.node.falls import Falls

ROWS = [SliverStatus("s.h", "ready"), SliverStatus("s.r3", "ready")]


def told(falls: Falls) -> list[dict[str, int]]:
    return [row.falls for row in falls.told(ROWS)]


def test_each_failure_of_a_path_counts_for_each_link_on_it() -> None:
    specs = [made(*star())["n1"]]
    falls = Falls({TO_N2})
    falls.look(specs, frozenset({TO_N2}))
    assert told(falls) == [{}, {}], "that had failed before it began"
    falls.look(specs, frozenset())
    before = falls.told(ROWS)
    for failed in ({TO_N2}, {TO_N2}, {TO_N2, TO_N3}, {TO_N3}, {TO_N2, TO_N3}):
        falls.look(specs, frozenset(failed))
    assert told(falls) == [{"h--r1": 2, "h--r2": 1}, {}]
    assert before == ROWS, "what was told stays as it was"


def test_of_a_slice_that_ended_nothing_is_known() -> None:
    specs = [made(*star())["n1"]]
    falls = Falls(())
    falls.look(specs, frozenset({TO_N2}))
    falls.look([], frozenset())
    falls.look(specs, frozenset())
    assert told(falls) == [{}, {}]


def test_a_link_that_heals_never_failed() -> None:
    falls = Falls(())
    falls.look([made(*star(substrate="heal"))["n1"]], frozenset({TO_N2}))
    assert told(falls) == [{}, {}]
