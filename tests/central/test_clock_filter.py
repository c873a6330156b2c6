"""What is known of a node's clock from all that was measured lately."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vini.bus import Offset
from vini.central.clock import DRIFT, KEPT, ClockFilter

ways = st.tuples(st.floats(0, 0.5), st.floats(0, 0.5))  # there and back, s


@given(st.floats(-4000, 4000), st.lists(ways, min_size=1, max_size=30))
def test_the_truth_is_within_the_error_and_the_error_no_greater_than_the_newest_one(ahead, measured) -> None:
    clock = ClockFilter()
    for at, (there, back) in enumerate(measured):
        told = clock.add(Offset(ahead + (there - back) / 2, there + back), float(at))
        assert abs(told.ahead_s - ahead) <= told.rtt_s / 2 + 1e-9
        assert told.rtt_s <= there + back + 1e-12


def test_one_quick_answer_counts_until_it_is_old() -> None:
    clock = ClockFilter()
    clock.add(Offset(5.0, 0.001), 0.0)
    for i in range(1, KEPT):
        assert clock.add(Offset(5.04, 0.1), i * 10.0).ahead_s == 5.0
    assert clock.add(Offset(5.04, 0.1), KEPT * 10.0) == Offset(5.04, pytest.approx(0.1, abs=2 * DRIFT * 10 * KEPT))


def test_a_clock_that_was_set_is_believed_at_once() -> None:
    clock = ClockFilter()
    clock.add(Offset(5.0, 0.001), 0.0)
    assert clock.add(Offset(0.0, 0.2), 10.0) == Offset(0.0, 0.2)
