"""Verdicts on links, from samples of which we know what is wrong: each wish is met once, and missed once."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from vini.dataplane.probe import Arrival, Flight, Stream
from vini.model import BurstLoss, Impairment
from vini.topology import parse
from vini.truth import Frame, Judgement, Noise, Numbered, Seen, Verdict, directions, judge, to_measure, worst
from vini.truth.chance import distance, most_distance, quantile, share_interval
from vini.truth.counting import Lapses
from vini.truth.meaning import delay_cdf, delay_quantile_ms, frame_s, listed, mean_burst, mean_loss, spacing_ms
from vini.truth.plan import Sending, drain_s, duration_s, light, thorough
from vini.truth.seen import frames, overtaken, passages

MS = 1_000_000
BEGAN_NS = 1_790_000_000 * 1000 * MS  # as large as today's times are
QUIET = Noise(median_ms=0.03, p99_ms=0.1)


# --- a link that does what it is told ---------------------------------------------------------------


class Link:
    """An Impairment carried out on a list of packets, the slow and plain way."""

    def __init__(self, does: Impairment, seed: int = 1):
        self.does, self.random = does, random.Random(seed)
        self.free_ns = self.last_ns = 0.0
        self.waiting: list[float] = []
        self.bad = False

    def carry(self, sent_ns: int, size: int, phase: str, late_ms: float = 0.0) -> Frame:
        i = self.does
        since_ns = sent_ns - BEGAN_NS
        if self._loses() or not self._has_place(since_ns, size):
            return Frame(sent_ns, size, phase, None, 0)
        turn_ns = max(self.free_ns, since_ns)
        self.waiting.append(turn_ns)
        self.free_ns = turn_ns + frame_s(i, size) * 1e9
        at_ns = self.free_ns + self._delay_ms() * MS
        if self.random.random() < i.reorder:
            at_ns = self.free_ns
        elif i.keeps_order:
            at_ns = max(at_ns, self.last_ns)
            self.last_ns = at_ns
        copies = 2 if self.random.random() < i.duplicate else 1
        self.free_ns += (copies - 1) * frame_s(i, size) * 1e9
        arrived_ns = BEGAN_NS + round(at_ns + late_ms * MS)
        return Frame(sent_ns, size, phase, arrived_ns, copies, self.random.random() < i.corrupt)

    def _loses(self) -> bool:
        lost = self.random.random() < self.does.loss
        if b := self.does.burst_loss:
            lost |= self.random.random() < (b.bad if self.bad else b.good)
            if self.random.random() < (b.leave if self.bad else b.enter):
                self.bad = not self.bad
        return lost

    def _has_place(self, since_ns: int, size: int) -> bool:
        i, self.waiting = self.does, [t for t in self.waiting if t > since_ns]
        if not i.rate_mbit or self.free_ns <= since_ns:
            return True
        if i.queue_packets and len(self.waiting) >= i.queue_packets:
            return False
        if i.queue_bytes and (len(self.waiting) + 1) * size > i.queue_bytes:
            return False
        return not i.queue_ms or self.free_ns - since_ns <= i.queue_ms * MS

    def _delay_ms(self) -> float:
        i = self.does
        if i.jitter_table_ms:
            at = self.random.random() * (len(i.jitter_table_ms) - 1)
            low, high = i.jitter_table_ms[int(at)], i.jitter_table_ms[int(at) + 1]
            return i.delay_ms + low + (at - int(at)) * (high - low)
        unit = {
            "normal": lambda: self.random.gauss(0, 1),
            "uniform": lambda: self.random.uniform(-1, 1),
            "pareto": lambda: (self.random.paretovariate(3) - 1.5) * 2 / 3**0.5,
        }[i.distribution]()
        return max(0.0, i.delay_ms + unit * i.jitter_ms)


def seen(
    does: Impairment,
    asked: Impairment,
    count: int = 2000,
    late_ms: Callable[[int], float] = lambda _: 0.02,
    seed: int = 1,
) -> Seen:
    """What a measurement finds of a link that does this, where that was asked."""
    link = Link(does, seed)
    gap_ns = round(max(2.0, spacing_ms(asked), 1000 * frame_s(asked, 100) / 0.1) * MS)
    out = [link.carry(BEGAN_NS + n * gap_ns, 100, "idle", late_ms(n)) for n in range(count)]
    if asked.rate_mbit:
        start, every = BEGAN_NS + count * gap_ns, 1e9 * frame_s(asked, 1514)
        out += [link.carry(round(start + n * every / 0.8), 1514, "load", late_ms(n)) for n in range(count // 2)]
        start = round(start + count / 2 * every / 0.8 + 10 * every)
        frame_ms = 1000 * frame_s(asked, 1514)
        room = 1.2 * (asked.queue_packets or asked.queue_bytes / 1514 or asked.queue_ms / frame_ms)
        out += [link.carry(round(start + max(0.0, n - room) * every / 1.1), 1514, "full") for n in range(count)]
    return Seen(tuple(out))


def verdicts(asked: Impairment, does: Impairment | None = None, noise: Noise = QUIET, **how) -> dict[str, Verdict]:
    found = judge(asked, seen(does or asked, asked, **how), noise)
    return {v.wish: v for v in found}


WISHES = [
    Impairment(),
    Impairment(delay_ms=30),
    Impairment(delay_ms=30, jitter_ms=3),
    Impairment(delay_ms=30, jitter_ms=3, distribution="uniform"),
    Impairment(delay_ms=30, jitter_ms=3, distribution="pareto"),
    Impairment(delay_ms=5, jitter_table_ms=(0, 0.2, 0.2, 5)),
    Impairment(delay_ms=2, jitter_ms=3),  # cut at 0
    Impairment(delay_ms=10, loss=0.05),
    Impairment(burst_loss=BurstLoss(0.05, 0.3)),
    Impairment(burst_loss=BurstLoss(0.1, 0.4, bad=0.8, good=0.01), loss=0.02),
    Impairment(rate_mbit=10, delay_ms=5, queue_packets=50),
    Impairment(rate_mbit=10, delay_ms=5, queue_packets=0, queue_bytes=64_000),
    Impairment(rate_mbit=10, delay_ms=5, queue_packets=0, queue_ms=50),
    Impairment(rate_mbit=10, queue_packets=20, loss=0.02),
    Impairment(duplicate=0.05, corrupt=0.03),
    Impairment(duplicate=0.05, rate_mbit=10),
    Impairment(delay_ms=20, reorder=0.05),
    Impairment(delay_ms=20, jitter_ms=10, keeps_order=False),
    Impairment(rate_mbit=10, delay_ms=20, jitter_ms=1),
    Impairment(rate_mbit=10, delay_ms=20, jitter_ms=2, distribution="uniform", loss=0.05),
    Impairment(rate_mbit=10, delay_ms=20, jitter_ms=2, distribution="pareto", keeps_order=False),
    Impairment(rate_mbit=20, delay_ms=20, jitter_ms=1),
    Impairment(rate_mbit=10, delay_ms=5, jitter_table_ms=(0, 0.2, 0.2, 5)),
    Impairment(rate_mbit=10, delay_ms=1, jitter_ms=2),  # cut at 0
]


@pytest.mark.parametrize("wish", WISHES, ids=str)
def test_a_link_that_does_what_was_asked_is_true(wish: Impairment) -> None:
    assert {v.outcome for v in verdicts(wish).values()} == {"true"}, verdicts(wish)


@pytest.mark.parametrize(
    ("asked", "does", "wish"),
    [
        ({"delay_ms": 30}, {"delay_ms": 30.5}, "delay"),
        ({"delay_ms": 30}, {"delay_ms": 29.5}, "delay"),
        ({}, {"delay_ms": 1}, "delay"),
        ({"delay_ms": 30, "jitter_ms": 3}, {"jitter_ms": 5}, "delay"),
        ({"delay_ms": 30, "jitter_ms": 3}, {"jitter_ms": 0}, "delay"),
        ({"delay_ms": 30, "jitter_ms": 3}, {"distribution": "uniform"}, "delay"),
        ({"delay_ms": 30, "jitter_ms": 3, "distribution": "pareto"}, {"distribution": "normal"}, "delay"),
        ({"delay_ms": 5, "jitter_table_ms": (0.0, 0.2, 5.0)}, {"jitter_table_ms": (0.0, 2.0, 5.0)}, "delay"),
        ({"rate_mbit": 10, "delay_ms": 30, "jitter_ms": 3}, {"jitter_ms": 5}, "delay under load"),
        ({"rate_mbit": 10, "delay_ms": 30, "jitter_ms": 3}, {"jitter_ms": 0}, "delay under load"),
        ({"rate_mbit": 10, "delay_ms": 30, "jitter_ms": 3}, {"delay_ms": 33}, "delay under load"),
        (
            {"rate_mbit": 10, "delay_ms": 30, "jitter_ms": 3, "keeps_order": False},
            {"distribution": "uniform"},
            "delay under load",
        ),
        ({}, {"loss": 0.002}, "loss"),
        ({"loss": 0.05}, {"loss": 0.1}, "loss"),
        ({"loss": 0.05}, {"loss": 0.01}, "loss"),
        ({"burst_loss": BurstLoss(0.05, 0.3)}, {"burst_loss": BurstLoss(0.15, 0.3)}, "loss"),
        ({"burst_loss": BurstLoss(0.05, 0.3)}, {"burst_loss": None, "loss": 1 / 7}, "length of bursts"),
        ({"rate_mbit": 10}, {"rate_mbit": 9.7}, "rate"),
        ({"rate_mbit": 10}, {"rate_mbit": 10.3}, "rate"),
        ({"rate_mbit": 10}, {"rate_mbit": 0}, "rate"),
        ({"rate_mbit": 10, "delay_ms": 5}, {"rate_mbit": 8}, "delay under load"),
        ({"rate_mbit": 10, "queue_packets": 50}, {"queue_packets": 80}, "queue"),
        ({"rate_mbit": 10, "queue_packets": 50}, {"queue_packets": 40}, "queue"),
        ({"rate_mbit": 10, "queue_packets": 50, "loss": 0.02}, {"queue_packets": 80}, "queue"),
        ({"rate_mbit": 10, "queue_packets": 0, "queue_bytes": 64_000}, {"queue_bytes": 96_000}, "queue"),
        ({"rate_mbit": 10, "queue_packets": 0, "queue_ms": 50}, {"queue_ms": 30}, "queue"),
        ({"rate_mbit": 20, "delay_ms": 20, "jitter_ms": 3, "queue_packets": 50}, {"queue_packets": 70}, "queue"),
        ({"delay_ms": 20, "jitter_ms": 10}, {"keeps_order": False}, "order"),
        ({"delay_ms": 20}, {"reorder": 0.01}, "order"),
        ({"delay_ms": 20, "reorder": 0.05}, {"reorder": 0.1}, "reorder"),
        ({"delay_ms": 20, "reorder": 0.05}, {"reorder": 0}, "reorder"),
        ({"duplicate": 0.05}, {"duplicate": 0.0}, "duplicate"),
        ({}, {"duplicate": 0.01}, "duplicate"),
        ({"corrupt": 0.05}, {"corrupt": 0.1}, "corrupt"),
        ({}, {"corrupt": 0.01}, "corrupt"),
    ],
)
def test_a_link_that_does_something_else_is_off_in_just_that(asked: dict, does: dict, wish: str) -> None:
    want = Impairment(**asked)
    found = verdicts(want, replace(want, **does))
    assert found[wish].outcome == "off", found[wish]
    assert not found[wish].why  # what is off has no excuse


def test_late_packets_that_a_median_hides_are_off() -> None:
    found = verdicts(Impairment(delay_ms=10), late_ms=lambda n: 5.0 if n % 20 == 0 else 0.0)
    assert found["delay"].outcome == "true"
    assert found["delay, 99th percentile"].outcome == "off"


# --- what nobody can tell ------------------------------------------------------------------------


def test_the_machines_noise_is_not_blamed_on_the_link_nor_does_it_hide_one_that_is_off() -> None:
    noisy = Noise(median_ms=0.2, p99_ms=4.0)
    late = verdicts(Impairment(delay_ms=10), noise=noisy, late_ms=lambda n: 0.4 if n % 10 else 6.0)
    assert {late["delay"].outcome, late["delay, 99th percentile"].outcome} == {"can't tell"}
    assert "too noisy" in late["delay"].why
    wrong = verdicts(Impairment(delay_ms=10), Impairment(delay_ms=12), noise=noisy)
    assert wrong["delay"].outcome == "off"
    early = verdicts(Impairment(delay_ms=10), Impairment(delay_ms=9.8), noise=noisy)
    assert early["delay"].outcome == "off"  # noise makes nothing early


def test_where_the_element_was_late_itself_nobody_can_tell() -> None:
    for asked, late_ms, late, wish, outcome in (
        (Impairment(delay_ms=30), 3.0, 10, "delay, 99th percentile", "off"),
        (Impairment(delay_ms=30), 3.0, 11, "delay, 99th percentile", "can't tell"),
        (Impairment(delay_ms=30), 3.0, 99, "delay", "off"),
        (Impairment(delay_ms=30), 3.0, 101, "delay", "can't tell"),
        (Impairment(delay_ms=30, jitter_ms=3), 3.0, 10, "delay", "off"),
        (Impairment(delay_ms=30, jitter_ms=3), 3.0, 11, "delay", "can't tell"),
    ):
        found = replace(seen(asked, asked, late_ms=lambda _, ms=late_ms: ms), lapses=Lapses(1000, late))
        verdict = next(v for v in judge(asked, found, QUIET) if v.wish == wish)
        assert verdict.outcome == outcome, verdict
        assert ("kept from running" in verdict.why) == (outcome == "can't tell")


def test_jitter_on_a_noisy_machine() -> None:
    wish = Impairment(delay_ms=10, jitter_ms=1)
    noisy = Noise(median_ms=0.5, p99_ms=1.0)
    assert verdicts(wish, noise=noisy, late_ms=lambda _: 0.7)["delay"].outcome == "can't tell"
    assert verdicts(wish, replace(wish, jitter_ms=8), noise=noisy)["delay"].outcome == "off"


# --- loss by number --------------------------------------------------------------------------------------

LISTED = Impairment(delay_ms=1, lose=((1_003, 1_003), (1_007, 1_110)))


def by_number(
    lost: Callable[[int], bool], asked: Impairment = LISTED, others: int = 0, counted: int = 992
) -> dict[str, Verdict]:
    """Of packets that nobody else's are among, in truth; `lost` is told each one's number."""
    out = list(seen(replace(asked, lose=(), loss=0.0), asked, count=300).frames)
    for at, f in enumerate(out):
        if lost(counted + 1 + at):
            out[at] = f._replace(arrived_ns=None, copies=0)
    return {v.wish: v for v in judge(asked, Seen(tuple(out), numbered=Numbered(counted, others)), QUIET)}


def _is_listed(number: int) -> bool:
    return number == 1_003 or 1_007 <= number <= 1_110


def test_exactly_the_listed_packets_are_lost() -> None:
    found = by_number(_is_listed)
    assert {v.outcome for v in found.values()} == {"true"}, found
    assert found["loss by number"].asked == "1003, 1007-1110"
    assert found["loss by number"].got == "105 of 105 of these packets lost"


def test_a_listed_packet_that_arrives_is_told_and_one_more_that_is_lost() -> None:
    assert by_number(lambda n: _is_listed(n) and n != 1_050)["loss by number"].outcome == "off"
    assert by_number(lambda n: _is_listed(n) or n == 1_200)["loss"].outcome == "off"
    assert by_number(lambda n: _is_listed(n + 1))["loss by number"].outcome == "off", "counted from 0"
    assert by_number(lambda _: False)["loss by number"].outcome == "off"


def test_packets_of_others_make_numbers_unsure_but_not_all() -> None:
    found = by_number(lambda n: _is_listed(n + 2), others=3)
    assert found["loss by number"].outcome == found["loss"].outcome == "true", found
    assert by_number(lambda _: False, others=3)["loss by number"].outcome == "off"
    alone = replace(LISTED, lose=((1_003, 1_003),))
    told = by_number(lambda n: n == 1_003, alone, others=1)["loss by number"]
    assert told.outcome == "can't tell" and "1 packet of others" in told.why


def test_chance_beside_the_list_is_judged_by_what_is_not_listed() -> None:
    asked = replace(LISTED, loss=0.5)
    assert by_number(lambda n: _is_listed(n) or n % 2 == 0, asked)["loss"].outcome == "true"
    assert by_number(_is_listed, asked)["loss"].outcome == "off"


def test_where_nobody_counts_nobody_can_tell() -> None:
    found = {v.wish: v for v in judge(LISTED, seen(replace(LISTED, lose=()), LISTED), QUIET)}
    assert found["loss by number"].outcome == "can't tell"


@given(st.lists(st.integers(1, 60), unique=True, min_size=1), st.integers(1, 70), st.integers(0, 70))
def test_listed_numbers_are_counted(numbers: list[int], first: int, more: int) -> None:
    among = listed(Impairment(lose=tuple((n, n) for n in sorted(numbers))))
    assert among(first, first + more) == sum(first <= n <= first + more for n in numbers)


def test_losses_of_a_machine_that_loses_on_its_own_loopback() -> None:
    lossy = replace(QUIET, lost=3)
    wish = Impairment(delay_ms=1)
    few = seen(wish, wish)
    some = Seen((few.frames[0]._replace(arrived_ns=None, copies=0), *few.frames[1:]))
    assert {v.wish: v.outcome for v in judge(wish, some, lossy)}["loss"] == "can't tell"
    assert {v.wish: v.outcome for v in judge(wish, some, QUIET)}["loss"] == "off"
    assert verdicts(wish, replace(wish, loss=0.05), noise=lossy)["loss"].outcome == "off"


def test_a_clock_that_was_set_and_a_probe_that_was_too_slow() -> None:
    wish = Impairment(delay_ms=1)
    found = verdicts(wish, noise=replace(QUIET, step_ms=-7.0))
    assert found["delay"].outcome == "can't tell" and "clock was set" in found["delay"].why
    slow = {v.wish: v for v in judge(wish, replace(seen(wish, wish), missed=9), QUIET)}
    assert slow["loss"].outcome == "can't tell" and "9 packets" in slow["loss"].why


def test_other_traffic_on_a_link_with_a_rate() -> None:
    wish = Impairment(rate_mbit=10)
    busy = replace(seen(wish, wish), other_bytes=2_000_000)
    outcomes = {v.wish: v.outcome for v in judge(wish, busy, QUIET)}
    assert {outcomes[w] for w in ("delay", "delay under load", "rate")} == {"can't tell"}


def test_a_machine_that_cannot_fill_the_link_is_not_the_links_fault() -> None:
    wish = Impairment(rate_mbit=10)
    found = verdicts(wish, Impairment(rate_mbit=9), noise=replace(QUIET, overrun=True))
    assert found["rate"].outcome == "can't tell" and "can't send so much" in found["rate"].why


def test_few_packets_are_too_few() -> None:
    wishes = (Impairment(delay_ms=3), Impairment(delay_ms=3, jitter_ms=1), Impairment(burst_loss=BurstLoss(0.1, 0.5)))
    for wish in wishes:
        found = verdicts(wish, count=15)
        assert "can't tell" in {v.outcome for v in found.values()}
        assert all(v.why.endswith((".", "longer.")) for v in found.values() if v.outcome != "true")


def test_what_has_no_single_value_is_not_measured() -> None:
    assert verdicts(Impairment(trace="1\n2\n"))["trace"].outcome == "not measured"
    assert verdicts(Impairment(delay_ms=0.5, reorder=0.1))["reorder"].outcome == "not measured"


def test_a_fault_lets_nothing_through() -> None:
    wish = Impairment(delay_ms=1)
    good = seen(wish, wish)
    (off,) = judge(wish, good, QUIET, fault="silent")
    (true,) = judge(wish, Seen(tuple(f._replace(arrived_ns=None) for f in good.frames)), QUIET, fault="silent")
    assert (off.outcome, true.outcome) == ("off", "true")


def test_a_sender_that_was_held_up_does_not_make_a_rate_untrue() -> None:
    wish = Impairment(rate_mbit=10)
    link, out = Link(wish), []
    for n in range(600):
        pause_ms = 300 if n > 400 else 0
        out.append(link.carry(BEGAN_NS + round((n * 1.1 + pause_ms) * MS), 1514, "full"))
    found = {v.wish: v for v in judge(wish, Seen(tuple(out)), QUIET)}
    assert found["rate"].outcome == "can't tell"


@pytest.mark.parametrize(("alpha", "most"), [(0.02, 16), (1e-6, 0)])
def test_true_links_are_called_off_as_rarely_as_was_asked_for(alpha: float, most: int) -> None:
    """Of 200, with two verdicts that chance has a part in: 8 expected at 2 %, deviation 3."""
    wish = Impairment(loss=0.03, delay_ms=4, jitter_ms=1)
    alarms = 0
    for seed in range(200):
        link = Link(wish, seed)
        found = Seen(tuple(link.carry(BEGAN_NS + n * 8 * MS, 100, "idle", 0.02) for n in range(100)))
        alarms += worst(v.outcome for v in judge(wish, found, QUIET, alpha)) == "off"
    assert alarms <= most


# --- from what the probe tells -----------------------------------------------------------------


def test_frames_of_several_streams_in_the_order_of_sending() -> None:
    def flight(times: tuple[int, ...], *arrivals: Arrival) -> Flight:
        return Flight(Stream(Path("a"), "x", Path("b"), "y", 0, 1, len(times), 100), times, arrivals, 0)

    first = flight((10, 30), Arrival(0, 50, False), Arrival(0, 60, False), Arrival(1, 70, True))
    found = frames([("idle", first), ("load", flight((20,)))])
    assert found == (
        Frame(10, 100, "idle", 50, 2, False),
        Frame(20, 100, "load", None, 0, False),
        Frame(30, 100, "idle", 70, 1, True),
    )


def test_overtaken() -> None:
    def those(*arrivals: int | None) -> list[Frame]:
        return [Frame(n, 60, "idle", at) for n, at in enumerate(arrivals)]

    assert overtaken(those(10, 11, None, 13)) == 0
    assert overtaken(those(10, 12, 11)) == 1
    assert overtaken(those(14, 11, 12, 13)) == 1
    assert overtaken(those(9, 8, 7)) == 2


def test_queueing_is_computed_exactly_also_with_todays_times() -> None:
    wish = Impairment(rate_mbit=500, delay_ms=1)
    link = Link(wish)
    sent = [link.carry(BEGAN_NS + n * 1000, 1514, "full") for n in range(900)]
    delays = [p.delay_ms for p in passages(wish, sent)]
    assert max(abs(d - 1) for d in delays) < 0.001


# --- meaning and chance -----------------------------------------------------------------------


@pytest.mark.parametrize("wish", [w for w in WISHES if w.jitter_ms or w.jitter_table_ms], ids=str)
def test_the_distribution_is_the_one_that_is_drawn_from(wish: Impairment) -> None:
    link = Link(wish)
    drawn = [link._delay_ms() for _ in range(20_000)]
    assert distance(drawn, delay_cdf(wish), 1e-9, 1e-9) < most_distance(20_000, 1e-6)
    for share in (0.01, 0.5, 0.99):
        assert delay_quantile_ms(wish, share) == pytest.approx(quantile(sorted(drawn), share), abs=0.5)


@pytest.mark.parametrize("wish", [w for w in WISHES if w.burst_loss], ids=str)
def test_bursts_have_their_mean_and_length(wish: Impairment) -> None:
    link = Link(wish)
    lost = [link._loses() for _ in range(200_000)]
    starts = sum(b and not a for a, b in pairwise(lost))
    assert sum(lost) / len(lost) == pytest.approx(mean_loss(wish), rel=0.03)
    assert sum(lost) / starts == pytest.approx(mean_burst(wish), rel=0.03)


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [  # R: binom.test(hits, of, conf.level = 0.95)$conf.int
        (0, 10, 0.0, 0.3084971),
        (10, 10, 0.6915029, 1.0),
        (5, 10, 0.1870860, 0.8129140),
        (3, 100, 0.006229972, 0.08517605),
        (50, 1000, 0.03733540, 0.06539049),
    ],
)
def test_intervals_are_those_of_the_books(hits: int, of: int, low: float, high: float) -> None:
    assert share_interval(hits, of, 0.05) == pytest.approx((low, high), rel=1e-5, abs=1e-9)


@settings(max_examples=60)
@given(st.integers(1, 100_000), st.floats(0, 1), st.sampled_from([0.05, 1e-4, 1e-7]))
def test_an_interval_holds_what_was_seen_and_grows_with_certainty(of: int, share: float, alpha: float) -> None:
    hits = round(of * share)
    low, high = share_interval(hits, of, alpha)
    assert 0 <= low <= hits / of <= high <= 1
    wider = share_interval(hits, of, alpha / 10)
    assert wider[0] <= low and high <= wider[1]


@settings(max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_a_distance_is_one_and_margins_only_shrink_it(sample: list[float]) -> None:
    def cdf(x: float) -> float:
        return min(1.0, max(0.0, x))

    full = distance(sample, cdf, 0, 0)
    assert 0 < full <= 1
    assert distance(sample, cdf, 0.1, 0.1) <= full
    assert distance(sample, cdf, 2, 2) == 0


# --- plans ----------------------------------------------------------------------------------------


def bits(all_: list[Sending], phase: str) -> float:
    return sum(8 * s.count * s.frame_bytes for s in all_ if s.phase == phase)


def test_a_light_check_is_short_and_light() -> None:
    wishes = [Impairment(delay_ms=5, rate_mbit=rate) for rate in (0, 0.064, 1, 10, 1000)] * 4
    sendings = light(wishes)
    assert duration_s(sendings) < 2.2
    for wish, mine in zip(wishes, sendings, strict=True):
        (probes,) = (s for s in mine if s.phase == "idle")
        assert not wish.rate_mbit or bits(mine, "idle") <= 0.11e6 * wish.rate_mbit * 1.3
        assert probes.count >= (3 if wish.rate_mbit == 0.064 else 100)
        assert bits(mine, "full") <= max(0.45e6 * wish.rate_mbit, 0)
        assert bool(wish.rate_mbit) == any(s.phase == "full" for s in mine)
    many = light([Impairment(delay_ms=5)] * 1000)
    assert all(one[0].count >= 25 for one in many)
    assert sum(s.count for one in many for s in one) / duration_s(many) < 4500


def test_a_thorough_check_loads_and_fills() -> None:
    wish = Impairment(rate_mbit=10, queue_packets=50)
    mine = thorough(wish, 0.8, 6.0, 2)
    assert duration_s([mine]) <= 6.1
    (load,) = (s for s in mine if s.phase == "load")
    assert 8 * load.frame_bytes / load.interval_s == pytest.approx(8e6)
    (full,) = (s for s in mine if s.phase == "full")
    assert 8 * full.frame_bytes / full.interval_s > 1.05e7 and full.ahead > 50
    assert [s.phase for s in thorough(Impairment(delay_ms=1), 0.8, 6.0, 2)] == ["idle"]
    lossy = thorough(Impairment(rate_mbit=10, queue_packets=50, loss=0.2), 0.8, 6.0, 2)[-1]
    assert 0.8 * 8 * lossy.frame_bytes / lossy.interval_s > 1.05e7 and 0.8 * lossy.ahead > 50


def test_it_waits_for_what_is_on_its_way() -> None:
    wish = Impairment(delay_ms=300, jitter_ms=10, rate_mbit=1)
    mine = thorough(wish, 0.8, 6.0, 2)
    assert drain_s([wish], [mine]) > 0.33 + 0.15


def test_packets_are_so_far_apart_that_jitter_is_seen() -> None:
    (mine,) = light([Impairment(delay_ms=30, jitter_ms=3)])
    assert mine[0].interval_s > 0.015


# --- whole links ------------------------------------------------------------------------------------


def test_directions_that_are_worth_measuring() -> None:
    topology = parse(
        """
name: t
slivers: {a: {}, b: {}, c: {}}
links:
  - a -- b: {delay: 5ms}
  - b -- c
  - a -- c: {loss: 1%}
""",
        source="t",
        default_name="t",
    )
    found = to_measure(directions(topology, topology.links))
    assert [(d.source, d.vif, d.destination, d.peer_vif) for d in found] == [
        ("a", "to-b", "b", "to-a"), ("b", "to-a", "a", "to-b"), ("a", "to-c", "c", "to-a"), ("c", "to-a", "a", "to-c"),
    ]  # fmt: skip
    assert found[0].asked == Impairment(delay_ms=5)
    faulty = replace(topology.links[1], fault="silent")
    assert [d.fault for d in to_measure(directions(topology, [faulty]))] == ["silent", "silent"]


def test_a_judgement_is_that_of_its_worst_verdict_and_says_why() -> None:
    good = Verdict("delay", "5ms", "median 5.01 ms", "0.1 ms", "true")
    bad = Verdict("rate", "10mbit", "9mbit", "2%", "off")
    unsure = Verdict("loss", "1%", "", "", "can't tell", "Too few.")
    both = Judgement("a", "to-b", "b", (good, bad, unsure))
    assert both.outcome == "off"
    assert both.reasons() == ("The link from a to b is off: rate asked 10mbit, got 9mbit (tolerance 2%).",)
    assert both.doubts() == ("Whether the link from a to b gives its loss can't be told: Too few.",)
    assert Judgement("a", "to-b", "b", (good,)).outcome == "true"


def test_what_netem_smooths_under_load_is_not_measured() -> None:
    asked = Impairment(rate_mbit=10, delay_ms=20, jitter_ms=1)
    told = {v.wish: v for v in judge(asked, seen(asked, asked), QUIET, smooths=True)}
    assert told["delay under load"].outcome == "not measured" and "netem" in told["delay under load"].why
    assert told["delay"].outcome == "true"


def test_a_queue_behind_netems_jitter_is_not_measured() -> None:
    asked = Impairment(rate_mbit=10, delay_ms=20, jitter_ms=1, queue_packets=50)
    told = {v.wish: v for v in judge(asked, seen(asked, asked), QUIET, smooths=True)}
    assert told["queue"].outcome == "not measured" and "after its jitter" in told["queue"].why


@pytest.mark.parametrize("seed", range(10))
def test_jitter_with_a_long_tail_is_not_taken_for_a_longer_queue(seed: int) -> None:
    asked = Impairment(rate_mbit=20, delay_ms=20, jitter_ms=3, distribution="pareto", queue_packets=50)
    assert verdicts(asked, seed=seed)["queue"].outcome == "true"


def test_of_a_queue_that_losses_kept_from_filling_nothing_is_said() -> None:
    assert "queue" not in verdicts(Impairment(rate_mbit=10, queue_packets=50, loss=0.2))


def test_under_load_too_few_that_nothing_held_up_are_no_distribution() -> None:
    asked = Impairment(rate_mbit=100, delay_ms=200, jitter_ms=40)
    told = verdicts(asked, count=200)["delay under load"]
    assert told.outcome == "can't tell" and "too few for a distribution" in told.why


@pytest.mark.parametrize(
    ("keys", "wish", "asked", "why"),
    [
        ({"rate_mbit": 10, "aqm": "codel", "queue_packets": 0, "queue_ms": 50.0}, "queue", "50ms", "keeps it from"),
        ({"rate_mbit": 10, "aqm": "codel"}, "aqm", "codel", "only the rate is measured"),
        (
            {"rate_mbit": 10, "delay_ms": 20, "jitter_ms": 1, "duplicate": 0.1},
            "delay under load",
            "20ms, normal jitter 1ms",
            "Copies have delays of their own",
        ),
        ({"trace": "time_ms,rate_mbit,loss\n0,5,1%\n"}, "trace", "rate 5mbit, loss 1%", "its rate is not measured"),
        ({"trace": "time_ms,rate_mbit,loss\n0,5,1%\n"}, "loss", "by trace", "changes with the time"),
    ],
)
def test_what_is_not_measured_is_told(keys: dict[str, Any], wish: str, asked: str, why: str) -> None:
    asking, does = Impairment(**keys), Impairment(rate_mbit=keys.get("rate_mbit", 0.0))
    told = next(v for v in judge(asking, seen(does, asking), QUIET) if v.wish == wish)
    assert told.asked == asked
    assert why in told.why


@pytest.mark.parametrize(
    ("text", "least"),
    [
        ("time_ms,delay_ms\n0,30\n100,20\n", "20ms"),
        ("time_ms,delay_ms\n50,30\n100,20\n", "5ms"),  # its own before the first row
        ("time_ms,rate_mbit,delay_ms\n0,1,30\n100,2,\n", "5ms"),
        ("1\n4\n", "5ms"),
    ],
)
def test_what_follows_a_trace_is_never_faster_than_that(text: str, least: str) -> None:
    asked = Impairment(delay_ms=5, trace=text)
    held = next(v for v in judge(asked, seen(Impairment(delay_ms=30), asked), QUIET) if v.wish == "delay at least")
    assert (held.asked, held.outcome) == (least, "true")
    bare = next(v for v in judge(asked, seen(Impairment(), asked), QUIET) if v.wish == "delay at least")
    assert bare.outcome == "off"


def test_of_a_trace_beside_jitter_no_least_delay_is_known() -> None:
    asked = Impairment(delay_ms=5, jitter_ms=1, trace="1\n4\n")
    assert "delay at least" not in {v.wish for v in judge(asked, seen(Impairment(), asked), QUIET)}


def test_what_was_asked_of_damage_is_shown_as_it_was_written() -> None:
    wish = Impairment(corrupt=0.05)
    assert next(v for v in judge(wish, seen(wish, wish), QUIET) if v.wish == "corrupt").asked == "5%"
