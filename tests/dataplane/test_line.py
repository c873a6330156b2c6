"""What one direction of an emulated link does to packets and when: statistics and exact times, without waiting."""

from __future__ import annotations

import ctypes
import math
import random
import shutil
import statistics
from collections import Counter, deque
from collections.abc import Callable, Iterator
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import pytest
from simulated import FOREVER, MS, Departures, Line, library

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
SECOND = 1000 * MS
Make = Callable[..., Line]


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return library(tmp_path_factory.mktemp("model"))


@pytest.fixture
def line(lib: ctypes.CDLL) -> Iterator[Make]:
    """Makes lines; in the end none of them holds memory."""
    made: list[Line] = []

    def make(**settings: Any) -> Line:
        made.append(Line(lib, **settings))
        return made[-1]

    yield make
    for one in made:
        left = one.count("free_cells"), one.count("cells")
        one.close()
    if made:
        again = Line(lib)
        left = again.count("cells") - again.count("free_cells")
        again.close()
        assert left == 33  # the window


def everything(line: Line, arrivals: list[int], frame_bytes: int = 100) -> Departures:
    return line.run(arrivals, frame_bytes) + line.depart()


def numbers(departures: Departures) -> list[int]:
    return [n for n, _ in departures]


def times_ms(departures: Departures) -> list[float]:
    return [t / MS for _, t in departures]


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


# --- loss ------------------------------------------------------------------------------------------


def lost_of(count: int, departures: Departures) -> list[bool]:
    there = set(numbers(departures))
    return [n not in there for n in range(count)]


def test_independent_loss_is_within_its_confidence_interval(line: Make) -> None:
    n, p = 100_000, 0.03
    lost = sum(lost_of(n, everything(line(loss_ppm=30_000), [i * MS for i in range(n)])))
    assert abs(lost - n * p) < 4 * math.sqrt(n * p * (1 - p))


def test_gilbert_elliott_has_the_asked_runs(line: Make) -> None:
    """All is lost in the bad state and nothing in the good one, so runs of losses are the visits: geometric."""
    n, enter, leave = 200_000, 0.01, 0.1
    one = line(enter_ppm=10_000, leave_ppm=100_000, bad_ppm=1_000_000)
    lost = lost_of(n, everything(one, [i * MS for i in range(n)]))
    bad = [len(list(run)) for is_lost, run in groupby(lost) if is_lost]
    good = [len(list(run)) for is_lost, run in groupby(lost) if not is_lost]
    for runs, p in ((bad, leave), (good, enter)):
        deviation = math.sqrt(1 - p) / p / math.sqrt(len(runs))
        assert abs(statistics.fmean(runs) - 1 / p) < 4 * deviation
    shorter = sum(run <= 5 for run in bad) / len(bad)  # not the mean alone: geometric
    assert abs(shorter - (1 - (1 - leave) ** 5)) < 4 * math.sqrt(0.25 / len(bad))


def test_both_states_may_lose_a_part(line: Make) -> None:
    n = 200_000
    one = line(enter_ppm=50_000, leave_ppm=50_000, bad_ppm=500_000, good_ppm=100_000)
    lost = sum(lost_of(n, everything(one, [i * MS for i in range(n)])))
    assert abs(lost / n - 0.3) < 0.02  # half of the time in each


def test_exactly_the_listed_packets_are_lost(line: Make, tmp_path: Path) -> None:
    path = written(tmp_path / "lose", "1\n5-7\n20\n")
    one = line(lose=path)
    lost = [i + 1 for i, is_lost in enumerate(lost_of(50, everything(one, [i * MS for i in range(50)]))) if is_lost]
    assert lost == [1, 5, 6, 7, 20]
    one.set(SECOND, delay_us=5)  # goes on counting
    assert len(everything(one, [SECOND + i for i in range(50)])) == 50
    one.set(2 * SECOND, lose="-")
    one.set(2 * SECOND, lose=path)  # counts anew
    assert len(everything(one, [2 * SECOND + i for i in range(50)])) == 45


# --- delay -----------------------------------------------------------------------------------------


def normal(unit: float) -> float:
    return (1 + math.erf(unit / math.sqrt(2))) / 2


def pareto(unit: float) -> float:
    """Alpha 3, shifted to the mean 0 and scaled to the deviation 1."""
    x = unit * math.sqrt(3) / 2 + 1.5
    return 1 - x**-3 if x > 1 else 0.0


def uniform(unit: float) -> float:
    return min(1.0, max(0.0, (unit + 1) / 2))


def kolmogorov_smirnov(samples: list[float], distribution: Callable[[float], float]) -> float:
    """The largest distance between the two distribution functions, times the root of the sample size."""
    n = len(samples)
    at = [distribution(x) for x in sorted(samples)]
    return max(max((i + 1) / n - p, p - i / n) for i, p in enumerate(at)) * math.sqrt(n)


@pytest.mark.parametrize(("number", "distribution"), [(0, normal), (1, uniform), (2, pareto)])
def test_delays_have_the_asked_distribution(line: Make, number: int, distribution: Callable[[float], float]) -> None:
    arrivals = [i * SECOND for i in range(10_000)]
    one = line(delay_us=50_000, jitter_us=5000, distribution=number)
    delays = [t - arrivals[n] for n, t in everything(one, arrivals)]
    units = [(d - 50 * MS) / (5 * MS) for d in delays]
    assert kolmogorov_smirnov(units, distribution) < 1.95  # alpha 0.001


def test_a_table_is_followed_with_interpolation(line: Make, tmp_path: Path) -> None:
    """Quantiles -1, 0 and 9 ms: half of the offsets even between -1 and 0, half between 0 and 9."""
    arrivals = [i * SECOND for i in range(10_000)]
    one = line(delay_us=20_000, distribution=3, table=written(tmp_path / "t", "-1000\n0\n9000\n"))
    offsets = [(t - arrivals[n]) / MS - 20 for n, t in everything(one, arrivals)]

    def expected(ms: float) -> float:
        return (ms + 1) / 2 if ms < 0 else 0.5 + ms / 18

    assert min(offsets) >= -1 and max(offsets) <= 9
    assert kolmogorov_smirnov(offsets, expected) < 1.95


def test_a_delay_is_cut_at_nothing(line: Make) -> None:
    arrivals = [i * SECOND for i in range(5000)]
    delays = [t - arrivals[n] for n, t in everything(line(delay_us=1000, jitter_us=10_000), arrivals)]
    assert min(delays) == 0
    assert abs(delays.count(0) / 5000 - normal(-0.1)) < 0.03


@pytest.mark.parametrize("distribution", [0, 1, 2])
def test_order_is_kept_unless_asked_otherwise(line: Make, distribution: int) -> None:
    arrivals = [i * MS // 10 for i in range(5000)]
    jitter = {"delay_us": 10_000, "jitter_us": 3000, "distribution": distribution}
    assert numbers(everything(line(**jitter), arrivals)) == list(range(5000))
    out = everything(line(**jitter, keeps_order=0), arrivals)
    assert sorted(numbers(out)) == list(range(5000)) != numbers(out)
    assert times_ms(out) == sorted(times_ms(out))


def test_without_order_each_delay_is_one_draw(line: Make) -> None:
    """Packets far closer than the jitter: keeping order would raise the mean."""
    arrivals = [i * MS // 100 for i in range(20_000)]
    one = line(delay_us=50_000, jitter_us=5000, keeps_order=0)
    units = [(t - arrivals[n] - 50 * MS) / (5 * MS) for n, t in everything(one, arrivals)]
    assert kolmogorov_smirnov(units, normal) < 1.95


# --- reorder, duplicate ----------------------------------------------------------------------------


def test_only_chosen_packets_overtake_and_without_the_delay(line: Make) -> None:
    n = 20_000
    arrivals = [i * MS for i in range(n)]
    one = line(delay_us=10_000, reorder_ppm=100_000)
    out = everything(one, arrivals)
    quick = [k for k, t in out if t == arrivals[k]]
    slow = [k for k, t in out if t == arrivals[k] + 10 * MS]
    assert len(quick) + len(slow) == n
    assert abs(len(quick) - n / 10) < 4 * math.sqrt(n * 0.09)
    assert slow == sorted(slow)
    assert 0 <= len(quick) - one.count("reordered") <= 2  # the first packets have nobody to overtake


def test_duplicates_come_twice(line: Make) -> None:
    n = 20_000
    one = line(duplicate_ppm=200_000, delay_us=1000)
    copies = Counter(numbers(everything(one, [i * MS for i in range(n)])))
    twice = sum(c == 2 for c in copies.values())
    assert len(copies) == n and set(copies.values()) == {1, 2}
    assert twice == one.count("duplicated")
    assert abs(twice - n / 5) < 4 * math.sqrt(n * 0.16)


def test_a_copy_takes_its_own_turn(line: Make) -> None:
    one = line(duplicate_ppm=1_000_000, rate_kbit=800)  # 1 ms a frame of 100 bytes
    assert times_ms(everything(one, [0, 0])) == [1, 2, 3, 4]


# --- rate and queue --------------------------------------------------------------------------------


def test_the_rate_is_exact_and_a_lone_packet_takes_its_time(line: Make) -> None:
    one = line(rate_kbit=8000, delay_us=3000)
    assert times_ms(everything(one, [0] * 5 + [50 * MS], 1000)) == [4, 5, 6, 7, 8, 54]


def test_without_a_rate_nothing_waits(line: Make) -> None:
    one = line(delay_us=1_000_000, queue_packets=1, queue_bytes=1, queue_us=1)
    assert len(everything(one, [0] * 1000)) == 1000


@pytest.mark.parametrize(
    ("limit", "passes"),
    [
        ({"queue_packets": 7}, 1 + 7),
        ({"queue_bytes": 7500}, 1 + 7),  # the eighth would exceed it
        ({"queue_us": 7000}, 1 + 7),  # 1 ms a frame: the seventh waits for 7 ms
        ({"queue_us": 6999}, 1 + 6),
        ({"queue_packets": 7, "queue_bytes": 3000}, 1 + 3),
        ({}, 50),
    ],
)
def test_any_limit_drops_what_would_wait_too_much(line: Make, limit: dict[str, int], passes: int) -> None:
    one = line(rate_kbit=8000, delay_us=500_000, **limit)
    out = everything(one, [0] * 50, 1000)
    assert numbers(out) == list(range(passes))
    assert one.count("dropped") == 50 - passes


def test_the_waiting_time_is_that_of_the_trace(line: Make, tmp_path: Path) -> None:
    one = line(trace=written(tmp_path / "t", "opportunities\n1\n2\n3\n10\n"), queue_us=10_000)
    assert times_ms(everything(one, [0] * 9, 1500)) == [1, 2, 3, 10]


# --- changes ---------------------------------------------------------------------------------------


def test_what_is_on_the_wire_keeps_its_departure(line: Make) -> None:
    one = line(delay_us=300_000)
    first = one.run([i * MS for i in range(100)])
    one.set(100 * MS, delay_us=1000, jitter_us=10, rate_kbit=100_000)
    out = first + everything(one, [(100 + i) * MS for i in range(100)])
    assert numbers(out) == list(range(200))
    assert times_ms(out)[:100] == [300 + i for i in range(100)]


def test_what_waits_gets_a_new_turn(line: Make) -> None:
    one = line(rate_kbit=8, delay_us=5000)  # 1 s a frame of 1000 bytes
    out = one.run([0] * 4, 1000)
    one.set(MS, rate_kbit=8000)
    assert times_ms(out + one.depart()) == [1005, 1006, 1007, 1008]  # the first was being sent
    one.run([2 * SECOND] * 3, 1000)
    one.set(2 * SECOND, rate_kbit=0)
    assert times_ms(one.depart()) == [2006, 2006, 2006]


def test_a_lower_queue_limit_drops_nothing_that_waits(line: Make) -> None:
    one = line(rate_kbit=8000)
    one.run([0] * 100, 1000)
    one.set(MS // 2, queue_packets=1)
    assert len(one.depart()) == 100


# --- traces ----------------------------------------------------------------------------------------


def mahimahi(schedule_ms: list[int], arrivals: list[int], sizes: list[int]) -> list[tuple[int, int]]:
    """(number, ns) as its link_queue.cc says: burn one opportunity after the other."""
    out, queue, left, i = [], deque[int](), 0, 0
    for k in range(10**9):
        if i == len(arrivals) and not queue:
            return out
        now = (k // len(schedule_ms) * schedule_ms[-1] + schedule_ms[k % len(schedule_ms)]) * MS
        while i < len(arrivals) and arrivals[i] < now:
            queue.append(i)
            i += 1
        opportunity = 1500
        while opportunity and queue:
            left = left or sizes[queue[0]]
            sent = min(left, opportunity)
            left, opportunity = left - sent, opportunity - sent
            if not left:
                out.append((queue.popleft(), now))
    raise AssertionError


@pytest.mark.parametrize("seed", range(5))
def test_opportunities_are_mahimahis(line: Make, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    schedule = sorted(chance.randrange(40) for _ in range(chance.randrange(1, 30))) + [41]
    text = "opportunities\n" + "".join(f"{ms}\n" for ms in schedule)
    one = line(trace=written(tmp_path / "trace", text))
    arrivals = sorted(chance.randrange(1, 2000 * MS) for _ in range(800))
    sizes = [chance.choice([60, 500, 1499, 1500, 1501, 4000]) for _ in arrivals]
    out = []
    for at, size in zip(arrivals, sizes, strict=True):
        out += one.depart(at)
        one.arrive(at, size)
    assert out + one.depart() == mahimahi(schedule, arrivals, sizes)


def test_opportunities_carry_exactly_their_bytes(line: Make, tmp_path: Path) -> None:
    one = line(trace=written(tmp_path / "t", "opportunities\n0\n2\n2\n7\n10\n"), delay_us=20_000)
    out = [t for t in times_ms(everything(one, [1] * 3000, 500)) if t < 20 + 400]
    # 5 in each period of 10 ms, each 3 frames of 500 bytes; the one at 0 ms was before the packets, one is at 400 ms
    assert len(out) == (40 * 5 - 2) * 3


def test_steps_change_rate_delay_and_loss(line: Make, tmp_path: Path) -> None:
    rows = "steps 0\n0 8000 1000 -1\n10000 -1 2000 0\n20000 0 -1 -1\n30000 800 -1 1000000\n"
    one = line(trace=written(tmp_path / "t", rows), rate_kbit=4000, delay_us=500)
    at = [0, 9, 12, 19, 25, 31]  # ms; frames of 1000 bytes take 1 ms at 8000 kbit/s
    out = everything(one, [ms * MS for ms in at] + [40 * MS], 1000)
    # the second ends as its row does, and has the next one's delay; the fourth is half sent when the outage begins, and
    # goes on after it at a tenth; the fifth waits for it; from 30 ms on all is lost
    assert [(n, t / MS) for n, t in out] == [(0, 2), (1, 12), (2, 16), (3, 35.5), (4, 45.5)]
    assert one.count("lost") == 2


def test_a_frame_is_sent_at_the_rates_of_several_rows(line: Make, tmp_path: Path) -> None:
    rows = "steps 4000\n0 8000 -1 -1\n1000 2000 -1 -1\n2000 0 -1 -1\n3000 4000 -1 -1\n"
    one = line(trace=written(tmp_path / "t", rows))
    # bits in each ms of the period: 8000, 2000, 0, 4000
    assert times_ms(everything(one, [0], 1750)) == [4]
    assert times_ms(everything(one, [8 * MS + MS // 2], 1000)) == pytest.approx([8 + 3 + 0.5])


def test_the_last_row_holds_where_steps_do_not_repeat(line: Make, tmp_path: Path) -> None:
    one = line(trace=written(tmp_path / "t", "steps 0\n0 -1 1000 -1\n5000 -1 9000 -1\n"))
    assert times_ms(everything(one, [0, 4 * MS, 5 * MS, 900 * MS])) == [1, 5, 14, 909]


def test_steps_repeat_with_their_period(line: Make, tmp_path: Path) -> None:
    one = line(trace=written(tmp_path / "t", "steps 10000\n0 -1 1000 -1\n5000 -1 2000 -1\n"))
    assert times_ms(everything(one, [i * 5 * MS for i in range(6)])) == [1, 7, 11, 17, 21, 27]


def test_an_outage_without_end_ends_with_the_trace(line: Make, tmp_path: Path) -> None:
    one = line(trace=written(tmp_path / "t", "steps 0\n0 8000 0 0\n1000 0 -1 -1\n"))
    assert times_ms(everything(one, [0, 0, 0], 750)) == [0.75]  # the second is stuck half sent
    one.set(5 * MS, trace="-")
    assert [(n, t / MS) for n, t in one.depart()] == [(1, 5), (2, 5)]


def test_what_an_outage_held_stays_behind_what_is_on_the_wire(line: Make, tmp_path: Path) -> None:
    one = line(trace=written(tmp_path / "t", "steps 0\n0 8000 90000 -1\n1000 0 -1 -1\n"))
    one.run([0, 0], 750)
    one.set(5 * MS, trace="-")
    assert [(n, t / MS) for n, t in one.depart()] == [(0, 90.75), (1, 90.75)]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("trace", "1\n2\n", "line 1: a trace begins with"),
        ("trace", "opportunities\n1\n-3\n", "line 3: '-3' is not a whole number of milliseconds"),
        ("trace", "opportunities\n5\n4\n", "line 3: 4 ms comes after 5 ms"),
        ("trace", "opportunities\n0\n0\n", "line 3: the last opportunity must come later"),
        ("trace", "opportunities\n", "the last opportunity must come later"),
        ("trace", "steps 0\n", "line 1: it holds no entries"),
        ("trace", "steps 100\n0 1 1 1\n100 1 1 1\n", "line 3: 100 us is not within the period of 100 us"),
        ("trace", "steps 0\n0 1 1\n", "line 2: '0 1 1' is not `time_us rate_kbit delay_us loss_ppm`"),
        ("trace", "steps 0\n0 1 -2 1\n", "line 2"),
        ("trace", "steps 0\n0 1 1 1000001\n", "line 2"),
        ("table", "1\nx\n", "line 2: 'x' is not a number"),
        ("table", "1\nnan\n", "line 2: 'nan' is not a number"),
        ("table", "2\n1\n", "line 2: 1 is less than the line before"),
        ("lose", "0\n", "line 1: '0' is neither"),
        ("lose", "5-3\n", "line 1: '5-3' is neither"),
        ("lose", "1-4\n4\n", "line 2: 4 comes after 4"),
        ("lose", "", "it holds no entries"),
    ],
)
def test_nonsense_in_a_file_is_refused_with_its_place(
    line: Make, tmp_path: Path, name: str, text: str, sentence: str
) -> None:
    path = written(tmp_path / "file", text)
    with pytest.raises(ValueError) as e:
        line(**{name: path})
    assert path in str(e.value) and sentence in str(e.value)


# --- CoDel -----------------------------------------------------------------------------------------


class Rfc8289:
    """The pseudocode of its section 5, in nanoseconds; every frame is as large as all others."""

    target, interval = 5 * MS, 100 * MS

    def __init__(self) -> None:
        self.queue: deque[tuple[int, int]] = deque()
        self.first_above = self.drop_next = 0
        self.count = self.last_count = 0
        self.dropping = False

    def control_law(self, t: int, count: int) -> int:
        return t + int(self.interval / math.sqrt(count))

    def do_dequeue(self, now: int) -> tuple[int | None, bool]:
        if not self.queue:
            self.first_above = 0
            return None, False
        number, arrival = self.queue.popleft()
        if now - arrival < self.target or len(self.queue) <= 1:
            self.first_above = 0
            return number, False
        if self.first_above == 0:
            self.first_above = now + self.interval
            return number, False
        return number, now >= self.first_above

    def dequeue(self, now: int) -> int | None:
        number, ok_to_drop = self.do_dequeue(now)
        if self.dropping:
            if not ok_to_drop:
                self.dropping = False
            while now >= self.drop_next and self.dropping:
                self.count += 1
                number, ok_to_drop = self.do_dequeue(now)
                if not ok_to_drop:
                    self.dropping = False
                else:
                    self.drop_next = self.control_law(self.drop_next, self.count)
        elif ok_to_drop:
            number, ok_to_drop = self.do_dequeue(now)
            self.dropping = True
            delta = self.count - self.last_count
            self.count = delta if delta > 1 and now - self.drop_next < 16 * self.interval else 1
            self.drop_next = self.control_law(now, self.count)
            self.last_count = self.count
        return number


def forwarded_by_rfc(arrivals: list[int], takes: int) -> list[int]:
    aqm, out, free, i = Rfc8289(), [], 0, 0
    while i < len(arrivals) or aqm.queue:
        if not aqm.queue:
            free = max(free, arrivals[i])
            aqm.queue.append((i, arrivals[i]))
            i += 1
        while i < len(arrivals) and arrivals[i] < free:
            aqm.queue.append((i, arrivals[i]))
            i += 1
        number = aqm.dequeue(free)
        if number is not None:
            out.append(number)
            free += takes
    return out


@pytest.mark.parametrize("load", [0.8, 1.0, 1.1, 1.5, 3.0])
def test_codel_decides_as_the_rfc(line: Make, load: float) -> None:
    """Load in waves, so that it enters and leaves the dropping state."""
    chance, at, arrivals = random.Random(load), 0.0, []
    for i in range(20_000):
        wave = load if i // 2500 % 2 else 0.7
        at += chance.expovariate(wave) * MS
        arrivals.append(int(at))
    one = line(rate_kbit=8000, aqm=1, delay_us=20_000)
    out = everything(one, arrivals, 1000)
    assert numbers(out) == forwarded_by_rfc(arrivals, MS)
    assert one.count("managed") == len(arrivals) - len(out)


def test_codel_keeps_a_standing_queue_near_its_target(line: Make) -> None:
    """A sender that halves its window at each drop, and adds a packet per round trip (AIMD)."""
    one = line(rate_kbit=8000, aqm=1)
    in_flight, window, dropped, delays = 0, 50.0, 0, []
    sent: dict[int, int] = {}
    for now in range(0, 60 * SECOND, MS):
        for number, departure in one.depart(now):
            delays.append(departure - sent.pop(number))
            in_flight -= 1
            window += 1 / window
        gone = one.count("managed") - dropped
        if gone:
            dropped, in_flight, window = dropped + gone, in_flight - gone, max(2.0, window / 2)
        while in_flight < window:
            sent[one._arrived] = now
            one.arrive(now, 1000)
            in_flight += 1
    settled = delays[len(delays) // 2 :]
    assert statistics.median(settled) < 20 * MS  # 50 ms and growing without it
    assert len(settled) > 0.9 * 30_000  # and the link stays full


@pytest.mark.parametrize(("tos", "marks"), [(0b01, True), (0b10, True), (0b100, False)])
def test_codel_marks_what_may_be_marked(line: Make, tos: int, marks: bool) -> None:
    one = line(rate_kbit=8000, aqm=1)
    out = 0
    for i in range(5000):
        out += len(one.depart(i * MS * 9 // 10))
        one.arrive(i * MS * 9 // 10, 1000, tos)
    out += len(one.depart(FOREVER))
    assert (one.count("marked") > 10) == marks
    assert (one.count("managed") > 10) == (not marks)
    assert out == 5000 - one.count("managed")


def test_departures_never_go_back_in_time(line: Make) -> None:
    """Whatever is changed meanwhile, as long as order is kept."""
    chance, one, out, at = random.Random(5), line(delay_us=10_000), Departures(), 0
    for _ in range(3000):
        at += chance.randrange(MS)
        out += one.run([at] * chance.randrange(1, 4), 500)
        if chance.random() < 0.1:
            one.set(at, **{chance.choice(["delay_us", "jitter_us", "rate_kbit", "aqm"]): chance.choice([0, 1])})
            one.set(at, delay_us=chance.randrange(50_000), rate_kbit=chance.choice([0, 1000, 50_000]))
    out += one.depart()
    assert all(a <= b for (_, a), (_, b) in pairwise(out))
    assert numbers(out) == sorted(numbers(out))
    assert len(out) + one.count("managed") + one.count("dropped") == one.count("received")


@pytest.mark.parametrize("seed", range(30))
def test_a_frame_leaves_when_the_rows_have_given_its_bits(line: Make, tmp_path: Path, seed: int) -> None:
    """Row by row, here; the element looks the row up."""
    chance = random.Random(seed)
    starts = sorted(chance.sample(range(50), chance.randrange(1, 8)))
    rates = [chance.choice([-1, 0, 7, 100, 8000, 90_000]) for _ in starts]
    period, own = chance.choice([0, 50, 61]), chance.choice([0, 500])
    rows = "".join(f"{at * 1000} {rate} -1 -1\n" for at, rate in zip(starts, rates, strict=True))
    one = line(trace=written(tmp_path / "t", f"steps {period * 1000}\n{rows}"), rate_kbit=own)

    def kbit_at(ms: int) -> float:
        phase = ms % period if period else ms
        row = max((i for i, at in enumerate(starts) if at <= phase), default=-1)
        kbit = rates[row] if row >= 0 else -1
        return (own or math.inf) if kbit < 0 else kbit

    free = 0.0  # ms
    arrivals = sorted(chance.randrange(200) for _ in range(12))
    out = dict(everything(one, [ms * MS for ms in arrivals], 500))
    for n, ms in enumerate(arrivals):
        free, bits = max(free, ms), 4000.0
        while bits > 1e-9 and free < 100_000:
            kbit, ends = kbit_at(math.floor(free + 1e-9)), math.floor(free + 1e-9) + 1
            step = min(ends - free, bits / kbit) if kbit else ends - free
            free, bits = free + step, bits - (bits if kbit == math.inf else step * kbit)
        if free < 100_000:
            assert out[n] / MS == pytest.approx(free, abs=0.001)
        else:
            assert out.get(n, FOREVER) >= 99_000 * MS


def test_a_trace_of_many_short_rows_holds_nobody_up(line: Make, tmp_path: Path) -> None:
    """What one slice may ask for, of the element that serves all.  One by one, that were millions of rows a frame."""
    quick = line(trace=written(tmp_path / "q", "steps 2\n0 1 0 -1\n1 2 0 -1\n"), queue_us=9_000_000_000)
    out = everything(quick, [i * MS for i in range(5000)], 1500)
    assert times_ms(out)[:2] == pytest.approx([8000, 16_000])  # 12,000 bits at 1.5 kbit/s
    rows = "".join(f"{i} 0 -1 -1\n" for i in range(300_000))
    gap = line(trace=written(tmp_path / "o", f"steps 400000\n{rows}300000 8000 -1 -1\n"), queue_us=9_000_000_000)
    assert times_ms(everything(gap, [i * 1000 for i in range(5000)], 1000))[:2] == [301, 302]


@pytest.mark.parametrize("seed", range(6))
def test_changes_of_all_kinds_keep_order_and_lose_nothing(line: Make, tmp_path: Path, seed: int) -> None:
    """Also of traces, half sent frames and full queues; in the end everything has left, once and in order."""
    traces = {
        "cell": "opportunities\n0\n0\n3\n3\n9\n40\n",
        "train": "steps 60000\n0 8000 20000 -1\n10000 0 -1 -1\n25000 200 0 -1\n50000 -1 5000 -1\n",
        "end": "steps 0\n0 4000 1000 -1\n5000 0 -1 -1\n",  # never again
        "wait": "steps 0\n30000 100000 0 -1\n",
    }
    paths = ["-", *(written(tmp_path / name, text) for name, text in traces.items())]
    chance, one, out, at = random.Random(seed), line(delay_us=10_000), Departures(), 0
    for _ in range(1500):
        at += chance.randrange(2 * MS)
        out += one.run([at] * chance.randrange(1, 4), chance.choice([60, 500, 1514, 9014] * 5 + [65_000]))
        if chance.random() < 0.1:
            out += one.depart(at)
            one.set(at, trace=chance.choice(paths))
        if chance.random() < 0.1:
            one.set(at, delay_us=chance.randrange(50_000), rate_kbit=chance.choice([0, 100, 1000, 50_000]))
    one.set(at, trace="-", rate_kbit=0)
    out += one.depart()
    assert numbers(out) == list(range(one.count("received")))
    assert all(a <= b for (_, a), (_, b) in pairwise(out))
    assert one.count("dropped") == one.count("waiting") == 0


def test_times_and_rates_at_their_ends_do_not_wrap(line: Make, tmp_path: Path) -> None:
    most, huge = (2**63 - 1) // 10**6, (2**63 - 1) // 10**6 - 1
    far = 100 * 365 * 86_400 * SECOND  # a century after the boot
    one = line(rate_kbit=1, delay_us=most // 1000, jitter_us=most // 1000)
    out = everything(one, [far, far, far], 65_000)
    assert numbers(out) == [0, 1, 2] and out[0][1] >= far + 65_000 * 8 * MS
    assert times_ms(everything(line(rate_kbit=most), [far], 65_000)) == pytest.approx([far / MS])
    third = 2**64 // 3 // MS + 1  # ms: three of them are more than 64 bits of ns, by little
    seldom = line(trace=written(tmp_path / "t", f"opportunities\n1\n{third}\n"))
    seldom.run([0], 9000)  # takes six: the last is at a time that no clock reaches
    assert seldom.depart(60 * SECOND) == []
    steep = line(trace=written(tmp_path / "s", f"steps 0\n0 {huge} 0 -1\n{huge} 1 0 -1\n"))
    assert numbers(everything(steep, [far] * 3, 65_000)) == [0, 1, 2]


def test_a_shorter_delay_overtakes_nothing_that_is_on_its_way_also_with_jitter(line: Make) -> None:
    one = line(delay_us=300_000, jitter_us=20_000)
    out = one.run([i * MS for i in range(100)])
    one.set(100 * MS, delay_us=0, jitter_us=0)
    out += everything(one, [(100 + i) * MS for i in range(300)])
    assert numbers(out) == list(range(400))
    last = max(t for n, t in out if n < 100)
    assert all(t == max(last, n * MS) for n, t in out if n >= 100)


def test_where_memory_ends_the_newest_are_dropped_and_all_is_given_back(line: Make) -> None:
    """A packet of 64 KiB takes 32 cells; a direction may hold half of all that is free for others."""
    one = line(delay_us=10_000_000, duplicate_ppm=1_000_000)
    cells, each = one.count("free_cells"), 65_000 // 2048 + 1
    n = cells // each
    one.run(list(range(n)), 65_000)
    dropped = one.count("dropped")
    assert one.count("free_cells") >= cells // 2 - 2 * each
    out = one.depart()
    assert len(out) == 2 * n - dropped  # each comes twice, or is counted
    assert numbers(out) == sorted(numbers(out))
    assert one.count("free_cells") == cells


# --- processes that die again and again ------------------------------------------------------------


def test_a_process_that_dies_often_is_started_ever_more_slowly(lib: ctypes.CDLL) -> None:
    pace = ctypes.create_string_buffer(128)  # struct pace, zero

    def pause_ms(now: int) -> int:
        return int(lib.pace_pause_ns(pace, now)) // MS

    now = SECOND
    assert [pause_ms(now + i * MS) for i in range(4)] == [0] * 4  # the fifth is one too many
    pauses = []
    for _ in range(10):
        now += 10 * MS + (pauses[-1] * MS if pauses else 0)
        pauses.append(pause_ms(now))
    assert pauses == [20, 40, 80, 160, 320, 640, 1280, 2000, 2000, 2000]
    assert pause_ms(now + 60 * SECOND) == 0


def test_what_is_told_late_departs_as_if_it_had_been_told_in_time(line: Make) -> None:
    """A caller that was away tells arrivals of the past after others have departed."""
    settings = {"rate_kbit": 8000, "delay_us": 5000}  # 114 bytes with their header are 0.1 ms
    arrivals = [i * MS // 8 for i in range(1, 200)]
    told_in_time, told_late = line(**settings), line(**settings)
    expected = everything(told_in_time, arrivals)
    out = told_late.run(arrivals[:100])
    out += told_late.depart(arrivals[160])  # meanwhile 60 more have come
    for at in arrivals[100:]:
        told_late.arrive(at)
    out += told_late.depart()
    assert out == expected


def test_arrivals_before_a_change_come_with_it(line: Make) -> None:
    """What was changed holds for all that is told after it."""
    one = line(delay_us=5000)
    one.arrive(1 * MS)
    one.set(10 * MS, delay_us=1000)
    one.arrive(9 * MS)
    assert times_ms(one.depart()) == [6, 11]
