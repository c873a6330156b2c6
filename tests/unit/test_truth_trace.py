"""Verdicts on links that follow a trace, from links of which we know what is wrong; no clock, no packets."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from vini.model import Impairment
from vini.text import trace
from vini.truth import Frame, Noise, Seen, Verdict, judge
from vini.truth.counting import Lapses, between
from vini.truth.course import NO_LIMIT, course, speed
from vini.truth.plan import Sending, duration_s, light, most_mbit, thorough

MS = 1_000_000
AQM_MS = 105.0  # of waiting, from which on this link's AQM drops: CoDel's target, after its interval
BEGAN_NS = 1_790_000_000 * 1000 * MS
QUIET = Noise(median_ms=0.03, p99_ms=0.1)

CELLULAR = (
    "time_ms,rate_mbit,delay_ms,loss\n0,12,35,0.1%\n400,outage,,\n500,3,80,5%\n900,24,30,\n1300,6,55,1%\n1900,repeat\n"
)
RATES = "time_ms,rate_mbit\n0,20\n300,5\n700,40\n1000,repeat\n"
DELAYS = "time_ms,delay_ms\n0,20\n250,60\n500,5\n1000,repeat\n"
LOSSES = "time_ms,loss\n0,1%\n400,30%\n800,repeat\n"


def cell(seed: int = 4, opportunities: int = 900) -> str:
    """Opportunities as of a cellular link: bursts, and pauses of up to 60 ms."""
    chance, at, out = random.Random(seed), 0, []
    while len(out) < opportunities:
        at += chance.choice([0, 0, 1, 1, 1, 2, 3, 8]) if chance.random() < 0.98 else chance.randrange(20, 60)
        out.append(at)
    return "".join(f"{ms}\n" for ms in [*out, at + 1])


# --- a link that follows a trace, the slow and plain way ------------------------------------------------------------


class Link:
    """Packets through a trace: by looking for the next opportunity, or for the next row, one after the other."""

    def __init__(self, does: Impairment, seed: int = 1):
        self.does, self.of, self.random = does, trace.parse(does.trace), random.Random(seed)
        self.free_ms = self.last_ms = self.seen_ms = 0.0  # since the trace began
        self.left, self.next = 0, 0  # bytes of the last opportunity; the next one
        self.turns: list[float] = []

    def carry(self, sent_ns: int, size: int, phase: str, late_ms: float = 0.0, read_ms: float = 0.0) -> Frame:
        now = (sent_ns - BEGAN_NS) / MS + read_ms
        self.turns = [t for t in self.turns if t > now]
        row = self.row(now)
        if self.random.random() < (self.does.loss if row is None or row.loss is None else row.loss):
            return Frame(sent_ns, size, phase, None, 0)
        if self.does.queue_packets and len(self.turns) >= self.does.queue_packets:
            return Frame(sent_ns, size, phase, None, 0)
        before = self.free_ms, self.left, self.next
        turn = self.leaves(now, size)
        if self.does.aqm and turn - now > AQM_MS:
            self.free_ms, self.left, self.next = before
            return Frame(sent_ns, size, phase, None, 0)
        self.turns.append(turn)
        row = self.row(self.free_ms)
        due = self.free_ms + (self.does.delay_ms if row is None or row.delay_ms is None else row.delay_ms)
        self.last_ms = max(self.last_ms, due)
        self.seen_ms = max(self.seen_ms, self.last_ms + late_ms)
        return Frame(sent_ns, size, phase, BEGAN_NS + round(self.seen_ms * MS))

    def leaves(self, now: float, size: int) -> float:
        """When its first bit leaves; `free_ms` is then when its last has."""
        turn = max(now, self.free_ms)
        if not self.of.opportunities_ms:
            self.free_ms, begins = self.through(turn, size * 8 / 1000), turn
            return begins
        if turn > self.free_ms:
            self.left = 0
        while self.opportunity(self.next) <= now and not self.left:
            self.next += 1
        begins = turn if self.left else self.opportunity(self.next)
        while self.left < size:
            self.free_ms = max(self.free_ms, self.opportunity(self.next))
            self.left, self.next = self.left + 1500, self.next + 1
        self.left -= size
        return begins

    def opportunity(self, n: int) -> float:
        times = self.of.opportunities_ms
        return n // len(times) * times[-1] + times[n % len(times)]

    def through(self, at: float, kbit: float) -> float:
        """When so much has got through: a step for each row."""
        ends = [s.at_ms for s in self.of.steps] + [self.of.period_ms or math.inf]
        while kbit > 1e-9:
            row, phase = self.row(at), at % self.of.period_ms if self.of.period_ms else at
            mbit = (self.does.rate_mbit or NO_LIMIT) if row is None or row.rate_mbit is None else row.rate_mbit
            if mbit == NO_LIMIT:
                return at
            step = next(e for e in ends if e > phase) - phase + 1e-9  # surely beyond it
            step = min(step, kbit / mbit) if mbit else step
            at, kbit = at + step, kbit - step * mbit
        return at

    def row(self, at: float) -> trace.Step | None:
        at = at % self.of.period_ms if self.of.period_ms else at
        return next((s for s in reversed(self.of.steps) if s.at_ms <= at), None)


Late = Callable[[int], float]


def seen(
    does: Impairment,
    asked: Impairment,
    from_s: float = 0.73,
    seed: int = 1,
    late_ms: Late = lambda _: 0.02,
    read_ms: Late = lambda _: 0.01,
    for_s: float = 3.0,
    sendings: list[Sending] | None = None,
) -> Seen:
    """What a thorough check finds of a link that does this, where that was asked, so long after the trace began."""
    link, out, n = Link(does, seed), [], 0
    for s in sendings or thorough(asked, 0.8, for_s, 1):
        for i in range(s.count):
            due_s = from_s + s.start_s + max(0, i - s.ahead + 1) * s.interval_s
            sent_ns = BEGAN_NS + round(due_s * 1e9)
            out.append(link.carry(sent_ns, s.frame_bytes, s.phase, max(0.0, late_ms(n)), max(0.0, read_ms(n))))
            n += 1
    return Seen(tuple(out), began_ns=BEGAN_NS, until_ns=out[-1].sent_ns + 5000 * MS)


def verdicts(asked: Impairment, does: Impairment | None = None, noise: Noise = QUIET, **how) -> dict[str, Verdict]:
    return {v.wish: v for v in judge(asked, seen(does or asked, asked, **how), noise)}


WISHES = [
    Impairment(trace=CELLULAR),
    Impairment(trace=CELLULAR, queue_packets=0, queue_ms=300.0),
    Impairment(trace=CELLULAR, queue_packets=5),
    Impairment(trace=RATES, delay_ms=15),
    Impairment(trace=DELAYS),
    Impairment(trace=DELAYS, rate_mbit=10),
    Impairment(trace=LOSSES, delay_ms=3),
    Impairment(trace=cell(), delay_ms=20),
    Impairment(trace=cell(), delay_ms=20, queue_packets=20, loss=0.05),
    Impairment(trace="20\n"),
    Impairment(trace="time_ms,rate_mbit\n500,8\n1000,outage\n1100,3\n", rate_mbit=30),
]


@pytest.mark.parametrize("from_s", [0.0, 0.73, 100.4567])
@pytest.mark.parametrize("wish", WISHES, ids=lambda w: trace.summary(trace.parse(w.trace)))
def test_a_link_that_follows_its_trace_is_true(wish: Impairment, from_s: float) -> None:
    chance = random.Random(from_s)
    found = verdicts(
        wish, from_s=from_s, late_ms=lambda _: chance.expovariate(40), read_ms=lambda _: chance.random() / 9
    )
    assert {v.outcome for v in found.values()} <= {"true"} | ({"can't tell"} if wish.trace == "20\n" else set()), found
    assert "delay" in found and "trace" in found


def scaled(text: str, rate: float = 1.0, time: float = 1.0, delay_ms: float = 0.0, later_ms: float = 0.0,
           loss: float = 1.0) -> str:  # fmt: skip
    """Of another trace: its rates or times or losses by a factor, its delays longer, its beginning later."""
    of = trace.parse(text)
    if times := of.opportunities_ms:
        period, kept = times[-1], times if rate == 1 else [t for i, t in enumerate(times) if i % 20 or rate > 1]
        moved = sorted(round((t + later_ms) % period * time) for t in kept)
        return "".join(f"{t}\n" for t in [*moved, round(period * time)])
    rows = []
    for s in of.steps:
        at = (s.at_ms + later_ms) % of.period_ms * time
        wait = None if s.delay_ms is None else s.delay_ms + delay_ms
        rows.append(trace.Step(at, s.rate_mbit and s.rate_mbit * rate, wait, s.loss and s.loss * loss))
    rows.sort(key=lambda s: s.at_ms)
    if rows[0].at_ms:
        rows.insert(0, replace(rows[-1], at_ms=0.0))
    return trace.canonical(trace.Trace(steps=tuple(rows), period_ms=of.period_ms * time))


@pytest.mark.parametrize(
    ("text", "change", "wish"),
    [
        (CELLULAR, {"rate": 0.95}, "rate"),
        (CELLULAR, {"rate": 1.05}, "rate"),
        (CELLULAR, {"rate": 0.95}, "rate over time"),
        (CELLULAR, {"rate": 1.05}, "rate over time"),
        (CELLULAR, {"time": 1.05}, "rate over time"),
        (CELLULAR, {"later_ms": 50}, "rate over time"),
        (CELLULAR, {"later_ms": 50}, "delay, 99th percentile"),
        (CELLULAR, {"delay_ms": 0.5}, "delay"),
        (CELLULAR, {"delay_ms": -5}, "delay"),
        (CELLULAR, {"loss": 8}, "loss"),
        (RATES, {"rate": 0.95}, "rate"),
        (RATES, {"later_ms": 100}, "rate over time"),
        (DELAYS, {"later_ms": 40}, "delay, 99th percentile"),
        (DELAYS, {"delay_ms": 2}, "delay"),
        (LOSSES, {"loss": 0.5}, "loss"),
        (LOSSES, {"later_ms": 400}, "loss"),
        (cell(), {"rate": 0.95}, "rate"),
        (cell(), {"time": 1.05}, "rate"),
        (cell(), {"time": 0.95}, "rate over time"),
        (cell(), {"later_ms": 400}, "rate over time"),
    ],
)
def test_another_trace_is_found_out(text: str, change: dict[str, float], wish: str) -> None:
    asked = Impairment(trace=text)
    found = verdicts(asked, replace(asked, trace=scaled(text, **change)))
    assert found[wish].outcome == "off", found


@pytest.mark.parametrize(
    ("does", "wish"),
    [
        (Impairment(trace="time_ms,delay_ms\n0,0\n"), "rate"),  # nothing limits it
        (Impairment(trace=cell(), delay_ms=21), "delay"),
        (Impairment(trace=cell(5), delay_ms=20), "rate over time"),
        (Impairment(trace=cell(), delay_ms=20, loss=0.05), "loss"),
    ],
)
def test_what_does_not_follow_it_is_off(does: Impairment, wish: str) -> None:
    assert verdicts(Impairment(trace=cell(), delay_ms=20), does)[wish].outcome == "off"


def test_a_slow_link_with_a_short_queue_is_slow_though_nothing_waits_for_long() -> None:
    asked = Impairment(trace=RATES, queue_packets=4)
    assert verdicts(asked, replace(asked, trace=scaled(RATES, rate=0.95)))["rate"].outcome == "off"


@pytest.mark.parametrize("text", [CELLULAR, cell()])
def test_a_sender_that_was_held_up_is_not_the_links_fault(text: str) -> None:
    wish = Impairment(trace=text)
    before, after = thorough(wish, 0.8, 2.0, 1), thorough(wish, 0.8, 2.0, 1)
    later = [replace(s, start_s=s.start_s + 4.0) for s in after if s.phase == "full"]
    found = verdicts(wish, sendings=[*before, *later])
    assert {v.outcome for v in found.values()} == {"true"}, found


def test_a_noisy_machine_is_not_blamed_on_the_link() -> None:
    noisy, chance = Noise(median_ms=0.2, p99_ms=4.0), random.Random(3)
    found = verdicts(
        Impairment(trace=CELLULAR), noise=noisy, late_ms=lambda _: 6.0 if chance.random() < 0.1 else 0.4,
    )  # fmt: skip
    assert "off" not in {v.outcome for v in found.values()}, found
    assert found["delay"].outcome == "can't tell" and "too noisy" in found["delay"].why


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("wish", [Impairment(trace=CELLULAR), Impairment(trace=cell(), delay_ms=5)])
def test_true_links_are_never_off_whatever_a_noisy_machine_does(wish: Impairment, seed: int) -> None:
    """One packet in some hundred is read, or comes, some milliseconds late."""
    chance, noise = random.Random(seed), Noise(median_ms=0.05, p99_ms=2.0)

    def late(_: int) -> float:
        return chance.expovariate(20) if chance.random() < 0.99 else chance.random() * 5

    found = verdicts(wish, noise=noise, from_s=seed * 0.37, late_ms=late, read_ms=late, seed=seed, for_s=2.0)
    assert "off" not in {v.outcome for v in found.values()}, found


@pytest.mark.parametrize("wish", [Impairment(trace=CELLULAR), Impairment(trace=cell()), Impairment(trace=DELAYS)])
def test_a_light_check_finds_true_links_true_and_wrong_ones_off(wish: Impairment) -> None:
    (sendings,) = light([wish])
    assert duration_s([sendings]) < 2.2
    found = verdicts(wish, sendings=sendings)
    assert {v.outcome for v in found.values()} == {"true"}, found
    bare = verdicts(wish, Impairment(trace="time_ms,delay_ms\n0,0\n"), sendings=sendings)
    assert "off" in {v.outcome for v in bare.values()}


# --- what can't be told -------------------------------------------------------------------------------------------


def test_how_much_of_the_trace_was_seen_is_told() -> None:
    assert verdicts(Impairment(trace=CELLULAR), from_s=2.0)["trace"].got == "2.9 s from 0.1 s on, 100% of it"
    long = "time_ms,rate_mbit\n0,10\n30000,20\n60000,repeat\n"
    assert verdicts(Impairment(trace=long), from_s=72.0)["trace"].got == "2.9 s from 12.0 s on, 5% of it"
    assert (
        verdicts(Impairment(trace="time_ms,rate_mbit\n0,10\n"), from_s=9.0)["trace"].got == "2.9 s of it from 9.0 s on"
    )


def test_where_nobody_tells_when_it_began_it_is_not_measured() -> None:
    asked = Impairment(trace=cell(), delay_ms=20)
    found = {v.wish: v for v in judge(asked, replace(seen(asked, asked), began_ns=None), QUIET)}
    assert found["trace"].outcome == found["loss"].outcome == "not measured"
    assert found["delay at least"].outcome == "true"


def test_a_link_that_follows_no_trace_at_all_is_off() -> None:
    asked = Impairment(trace=CELLULAR)
    found = {v.wish: v for v in judge(asked, replace(seen(asked, asked), began_ns=0), QUIET)}
    assert (found["trace"].outcome, found["trace"].got) == ("off", "it follows none")


def test_what_stands_in_the_way_is_told() -> None:
    asked = Impairment(trace=CELLULAR)
    good = seen(asked, asked)
    for changed, noise, why in (
        (replace(good, other_bytes=200_000), QUIET, "Other traffic"),
        (replace(good, missed=3), QUIET, "too slow to read 3"),
        (good, replace(QUIET, step_ms=9.0), "clock was set"),
    ):
        found = {v.wish: v for v in judge(asked, changed, noise)}
        for wish in ("delay", "rate"):
            assert found[wish].outcome == "can't tell" and why in found[wish].why, found[wish]


SLOW = "time_ms,rate_mbit\n0,20\n1200,0.02\n2000,repeat\n"


@pytest.mark.parametrize("loss", [0.0, 0.03])
def test_what_an_aqm_drops_in_a_slow_row_is_not_the_links_loss(loss: float) -> None:
    asked = Impairment(trace=SLOW, aqm="codel", loss=loss)
    found = seen(asked, asked, for_s=8)
    assert sum(f.arrived_ns is None for f in found.frames if f.phase == "idle") > 20
    assert verdicts(asked, for_s=8)["loss"].outcome == "true"
    assert verdicts(asked, replace(asked, loss=0.25), for_s=8)["loss"].outcome == "off"


def test_where_all_wait_an_aqm_hides_what_is_lost() -> None:
    asked = Impairment(trace="time_ms,rate_mbit\n0,0.02\n", aqm="codel")
    few = verdicts(asked)["loss"]
    assert few.outcome == "can't tell" and "The AQM may drop what waits" in few.why


@pytest.mark.parametrize(
    ("lapses", "late_ms", "outcomes"),
    [
        (Lapses(1000, 0, 0), 3.0, ("true", "off")),
        (Lapses(1000, 10, 0), 3.0, ("true", "off")),
        (Lapses(1000, 11, 0), 3.0, ("true", "can't tell")),
        (Lapses(1000, 5, 6), 3.0, ("true", "can't tell")),
        (Lapses(1000, 200, 0), 0.02, ("true", "true")),
        (Lapses(0, 0, 0), 3.0, ("true", "off")),
    ],
)
def test_where_the_element_was_late_itself_nobody_can_tell_a_percentile(lapses, late_ms, outcomes) -> None:
    asked = Impairment(trace="time_ms,delay_ms\n0,20\n")
    good = seen(asked, asked, late_ms=lambda n: late_ms if n % 50 == 0 else 0.02)
    found = {v.wish: v for v in judge(asked, replace(good, lapses=lapses), QUIET)}
    assert (found["delay"].outcome, found["delay, 99th percentile"].outcome) == outcomes
    if outcomes[1] == "can't tell":
        assert "the link element was kept from running" in found["delay, 99th percentile"].why


def test_where_the_element_was_late_with_many_nobody_can_tell_a_median() -> None:
    asked = Impairment(trace="time_ms,delay_ms\n0,20\n")
    bad = seen(asked, asked, late_ms=lambda _: 3.0)
    for late, outcome in ((99, "off"), (101, "can't tell")):
        found = {v.wish: v for v in judge(asked, replace(bad, lapses=Lapses(1000, late)), QUIET)}
        assert found["delay"].outcome == outcome


def test_packets_that_come_early_are_not_judged_where_the_element_read_some_late() -> None:
    asked = Impairment(trace="time_ms,delay_ms\n0,20\n")
    good = seen(asked, asked)
    early = tuple(f._replace(arrived_ns=f.arrived_ns - 3 * MS) if i % 50 == 0 else f for i, f in enumerate(good.frames))
    for lapses, outcome in ((Lapses(10**6), "off"), (Lapses(10**6, 0, 3), "true")):
        found = {v.wish: v for v in judge(asked, replace(good, frames=early, lapses=lapses), QUIET)}
        assert found["delay, 99th percentile"].outcome == outcome


def test_lapses_of_one_measurement() -> None:
    assert between(Lapses(100, 5, 1), Lapses(300, 7, 1)) == Lapses(200, 2, 0)
    assert between(Lapses(100, 5, 1), Lapses(30, 2, 0)) == Lapses(30, 2, 0), "the element began anew"


@pytest.mark.parametrize(
    ("keys", "wish", "why"),
    [
        ({"jitter_ms": 2}, "delay", "Jitter beside a trace"),
        ({"reorder": 0.1}, "delay", "overtake beside a trace"),
        ({"trace": "time_ms,rate_mbit\n0,\n500,10\n1000,repeat\n"}, "rate", "nothing limits it"),
        ({"trace": "time_ms,rate_mbit\n0,1900\n500,10\n1000,repeat\n"}, "rate", "too fast"),
    ],
)
def test_what_is_not_measured_is_told(keys: dict, wish: str, why: str) -> None:
    asked = Impairment(**{"trace": CELLULAR, **keys})
    found = verdicts(asked, replace(asked, jitter_ms=0, reorder=0))
    assert found[wish].outcome == "not measured" and why in found[wish].why


def test_a_trace_with_jitter_has_its_rate_and_its_order_judged() -> None:
    asked = Impairment(trace=RATES, jitter_ms=1, delay_ms=20)
    assert verdicts(asked, replace(asked, jitter_ms=0))["rate"].outcome == "true"
    slow = replace(asked, jitter_ms=0, trace=scaled(RATES, rate=0.9))
    assert verdicts(asked, slow)["rate"].outcome == "off"


# --- courses ------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([CELLULAR, RATES, cell(7, 40), "5\n5\n5\n9\n", "time_ms,rate_mbit\n3,8\n"]),
    st.lists(st.tuples(st.integers(0, 40_000), st.sampled_from([60, 1499, 1500, 1514, 4000])), min_size=1, max_size=30),
)
def test_a_course_says_what_the_plain_way_gives(text: str, packets: list[tuple[int, int]]) -> None:
    asked = Impairment(trace=text, rate_mbit=25)
    link, of, position, now_us = Link(asked), course(asked), 0.0, 0
    for gap_us, size in packets:
        now_us += gap_us
        link.leaves(now_us / 1000, size)
        position = of.after(max(position, of.at(now_us * 1000)), size)
        assert of.when(position) / MS == pytest.approx(link.free_ms, abs=0.011 * 40)


@pytest.mark.parametrize("text", [CELLULAR, RATES, cell(7, 40)])
def test_what_gets_through_adds_up(text: str) -> None:
    of = course(Impairment(trace=text))
    edges = sorted(random.Random(1).random() * 5000 * MS for _ in range(40))
    parts = sum(of.bits_between(a, b) for a, b in pairwise(edges))
    assert parts == pytest.approx(of.bits_between(edges[0], edges[-1]))


def test_speeds() -> None:
    assert speed(Impairment(trace=RATES)).most == pytest.approx(40)
    assert speed(Impairment(trace=RATES)).mean == pytest.approx(20)
    assert speed(Impairment(trace=CELLULAR)).longest_ms == 100
    assert speed(Impairment(trace="4\n10\n")).longest_ms == 6
    assert most_mbit(Impairment(trace=DELAYS)) == most_mbit(Impairment(trace="time_ms,rate_mbit\n0,\n9,1\n")) == 0
    assert most_mbit(Impairment(trace=DELAYS, rate_mbit=7)) == pytest.approx(7)
    assert most_mbit(Impairment(rate_mbit=7)) == 7


def test_a_trace_with_rates_is_kept_full_and_one_without_is_not() -> None:
    phases = [s.phase for s in thorough(Impairment(trace=RATES), 0.8, 6.0, 1)]
    assert phases == ["idle", "full"]
    assert [s.phase for s in thorough(Impairment(trace=DELAYS), 0.8, 6.0, 1)] == ["idle"]
    (_, full) = thorough(Impairment(trace=RATES), 0.8, 6.0, 1)
    assert 8 * full.frame_bytes / full.interval_s == pytest.approx(44e6)
