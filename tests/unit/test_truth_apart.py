"""Two clocks on one link: whatever they show, what is told of the link is the same, or that it can't be told."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from test_truth import QUIET, seen

from vini import bus
from vini.client.measuring import _lapses
from vini.model import BurstLoss, Impairment
from vini.truth import Direction, Noise, Seen, Verdict, judge
from vini.truth.apart import aligned, both, by_their_sum
from vini.truth.counting import Lapses
from vini.truth.seen import Frame

NOTHING = Impairment()


def by_a_clock(one: Seen, ahead_ms: float) -> tuple[Frame, ...]:
    """As the receiver's clock shows it."""
    shift = round(ahead_ms * 1e6)
    return tuple(f if f.arrived_ns is None else f._replace(arrived_ns=f.arrived_ns + shift) for f in one.frames)


def verdicts(asked: Impairment, does: Impairment, back: Impairment, ahead_ms: float) -> dict[str, Verdict]:
    there, here = seen(does, asked), seen(back, back)
    found = aligned((asked, by_a_clock(there, ahead_ms)), (back, by_a_clock(here, -ahead_ms)))
    told = judge(asked, replace(there, frames=found.frames), QUIET)
    return {v.wish: v for v in by_their_sum(told, found.clock)}


@pytest.mark.parametrize("ahead_ms", [0.0, -3.7, 250.0, 3_600_000.0])
@pytest.mark.parametrize(
    "wish",
    [
        Impairment(delay_ms=20, rate_mbit=20, queue_packets=50),
        Impairment(delay_ms=20, jitter_ms=2),
        Impairment(delay_ms=5, loss=0.1),
        Impairment(delay_ms=5, burst_loss=BurstLoss(0.05, 0.3)),
    ],
)
def test_a_true_link_is_true_by_any_two_clocks(wish: Impairment, ahead_ms: float) -> None:
    told = verdicts(wish, wish, NOTHING, ahead_ms)
    assert {v.outcome for v in told.values()} == {"true"}, told
    assert "delay" in told


def test_a_delay_that_is_off_is_told_by_half() -> None:
    asked = Impairment(delay_ms=20)
    told = verdicts(asked, replace(asked, delay_ms=26), NOTHING, 1234.5)
    assert told["delay"].outcome == "off"
    assert told["delay"].value == pytest.approx(3, abs=0.1)


def test_rate_and_loss_need_no_clock() -> None:
    asked = Impairment(delay_ms=20, rate_mbit=20, loss=0.01)
    told = verdicts(asked, replace(asked, rate_mbit=15, loss=0.2), NOTHING, -77.0)
    assert told["rate"].outcome == told["loss"].outcome == "off"


def test_where_nothing_comes_back_no_delay_is_told_and_all_else_is() -> None:
    asked = Impairment(delay_ms=20, rate_mbit=20, queue_packets=50)
    told = verdicts(asked, asked, Impairment(loss=1), 5.0)
    assert {v.outcome for w, v in told.items() if w.startswith(("delay", "queue"))} == {"can't tell"}
    assert "round trip" in told["delay"].why
    assert told["rate"].outcome == told["loss"].outcome == told["order"].outcome == "true"


def test_jitter_of_the_way_back_makes_the_way_there_unsure() -> None:
    wild = Impairment(delay_ms=300, jitter_ms=50)
    there, here = seen(NOTHING, NOTHING), seen(wild, wild, 200)
    found = aligned((NOTHING, there.frames), (wild, here.frames))
    assert found.clock == "round trip" and 3 < found.unsure_ms < 15
    assert aligned((NOTHING, there.frames), (NOTHING, there.frames)).unsure_ms == 0


def test_both_machines_noise_counts() -> None:
    one, other = Noise(0.1, 1.0, 2, -4.0, False), Noise(0.2, 0.5, 0, 3.0, True)
    assert both(one, other) == Noise(pytest.approx(0.3), 1.5, 2, -4.0, True)


def test_what_the_element_sent_late_is_told_over_a_central_too() -> None:
    d = Direction("a", "eth0", "b", "eth0", Impairment())
    load = bus.SliverLoad(0.0, {}, 0.0, 0, departed={"eth0": (10, 2)})
    assert _lapses({"a": load}, d) == Lapses(10, 2, 0)
    assert _lapses({"a": replace(load, departed={})}, d) == _lapses({}, d) == Lapses()
