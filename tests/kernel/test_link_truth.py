"""What links really give, measured with packets: the same suite for both backends.

On a kernel without netem that half is skipped here, and run in user-mode Linux (kernel_machine.py).  With fewer than
three processors a link of 1 Gbit/s is tried once, and skipped where that machine can't show it.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from kernel_machine import ROUGH
from msgspec.structs import replace
from own_place import unspoilt

from vini.bench.pair import Pairs, pairs
from vini.model import BurstLoss, Impairment, Shape
from vini.node.drivers.contents import FileDriver
from vini.node.place import Place
from vini.node.probe import capabilities
from vini.plugins import shaping
from vini.plugins.shape_files import files
from vini.truth import ByElement, Check, Direction, Here, Judgement, Tolerance, check_lightly, check_thoroughly

pytestmark = [pytest.mark.alone, pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
PAIRS = 4
LOAD, FOR_S = 0.8, 3.0
FEW_PROCESSORS = len(os.sched_getaffinity(0)) < 3
DELAYS_MS, RATES_MBIT = (1, 10, 100, 300), (1, 10, 100, 1000)
# User-mode Linux is interrupted for milliseconds at a time by its own machine: there the suite is about what is done
# to packets, not about microseconds.
TOLERANCE = Tolerance(median_ms=2.0, p99_ms=100.0) if ROUGH else Tolerance()
ACCEPTED = {"true", "can't tell"} if ROUGH else {"true"}


# A train's, with an outage; a cell's in mahimahi's form; a tunnel's without loss; a delay that changes at no rate.
TRACED = [
    Impairment(
        trace="time_ms,rate_mbit,delay_ms,loss\n0,12,35,0.5%\n300,outage,,\n380,3,60,5%\n700,24,25,\n1000,6,35,\n"
        "1300,repeat\n",
        queue_packets=0,
        queue_ms=300,
    ),
    Impairment(delay_ms=20, trace="".join(f"{ms}\n" for ms in range(1, 700) if ms % 7 and not 200 < ms < 240)),
    Impairment(trace="time_ms,rate_mbit,delay_ms\n0,8,20\n400,2,40\n600,30,20\n900,repeat\n"),
    Impairment(trace="time_ms,delay_ms\n0,5\n200,30\n500,repeat\n"),
]
SHIFTED = (  # the first of them, from its row at 700 ms on
    "time_ms,rate_mbit,delay_ms,loss\n0,24,25,\n300,6,35,\n600,12,35,0.5%\n900,outage,,\n980,3,60,5%\n1300,repeat\n"
)


class Rig:
    """Some pairs, and one backend."""

    def __init__(self, made: Pairs, backend: str):
        self.made, self.backend = made, backend

    def shape(self, i: int, wish: Impairment) -> Shape:
        made = shaping.shape(f"s.a{i}", "to-b", wish, "none", frozenset({self.backend}))
        assert made is not None
        return made

    def give(self, *wishes: Impairment) -> None:
        """From a to b, a pair each."""
        self.made.ensure(*(self.shape(i, w) for i, w in enumerate(wishes)))

    def directions(self, wishes: Sequence[Impairment]) -> list[Direction]:
        every = [self.made.direction(i, "a", w) for i, w in enumerate(wishes)]
        return [replace(d, smooths=self.backend == "netem") for d in every]

    def give_with_files(self, *wishes: Impairment) -> None:
        """The same, of lists and traces."""
        every = [self.shape(i, w) for i, w in enumerate(wishes)]
        written = [f for o, w in zip(every, wishes, strict=True) for f in files(o.ns, w).values()]
        assert FileDriver(self.made.place).ensure(written) == {}
        self.made.ensure(*every)

    def bench(self) -> Here:
        return Here(self.made.where, ByElement(self.made.place.run, self.made.where))

    def thoroughly(self, *wishes: Impairment) -> Check:
        every = self.directions(wishes)
        return asyncio.run(check_thoroughly(every, self.bench(), LOAD, FOR_S, lambda _: None, TOLERANCE))

    def lightly(self, *wishes: Impairment) -> Check:
        return asyncio.run(check_lightly(self.directions(wishes), self.bench(), TOLERANCE))


@pytest.fixture(params=["element", pytest.param("netem", marks=pytest.mark.needs_kernel("netem"))])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    if request.param not in capabilities():
        pytest.skip(f"needs {request.param}, which this kernel or machine lacks")
    with tempfile.TemporaryDirectory(prefix="lt-", dir="/run") as run:
        place = Place(f"lt-{os.getpid()}", Path(run), Path(run))
        with pairs(place, PAIRS) as made:
            yield Rig(made, request.param)


def is_true(found: Check) -> bool:
    """And nothing was left unmeasured."""
    return {v.outcome for j in found.judgements for v in j.verdicts} <= ACCEPTED


def outcomes(one: Judgement) -> dict[str, str]:
    return {v.wish: v.outcome for v in one.verdicts}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Links of up to 100 Mbit/s together, those of 1 Gbit/s each alone, so that each is told of."""
    if "mbit" in metafunc.fixturenames:
        cells = [(r, DELAYS_MS) for r in RATES_MBIT if r < 1000] + [(1000, (d,)) for d in DELAYS_MS]
        names = [f"{r}mbit-{'-'.join(map(str, ds))}ms" for r, ds in cells]
        metafunc.parametrize(("mbit", "delays_ms"), cells, ids=names)


def test_delay_and_rate_idle_and_loaded(rig: Rig, mbit: int, delays_ms: tuple[int, ...]) -> None:
    """A link of that rate for each delay, as many at once as the machine can fill."""
    if ROUGH:
        delays_ms = delays_ms if mbit < 100 else (10,)
        if mbit > 100:
            pytest.skip("user-mode Linux can't carry that much")
    wishes = [Impairment(delay_ms=d, rate_mbit=mbit) for d in delays_ms]
    rig.give(*wishes)

    def good(found: Check) -> bool:
        return all(_is_as_asked(outcomes(j), mbit) for j in found.judgements)

    if mbit >= 1000 and FEW_PROCESSORS and not good(found := rig.thoroughly(*wishes)):
        said = "; ".join([*found.reasons(), *found.doubts()])
        pytest.skip(f"sender, element and receiver of 1 Gbit/s need a processor each; this machine has fewer. {said}")
    at_once = [wishes]
    if mbit == 100 and FEW_PROCESSORS and not good(rig.thoroughly(*wishes)):
        at_once = [[wish] for wish in wishes]  # two slow processors can't fill four links at once
    for some in at_once:
        rig.give(*some)
        unspoilt(lambda some=some: rig.thoroughly(*some), good)


def _is_as_asked(said: dict[str, str], mbit: int) -> bool:
    needed = {"delay", "delay under load", "rate", "loss", "order"}
    # a queue or a rate may be what this machine can't show at 1 Gbit/s; what it shows must be true
    accepted = ACCEPTED if mbit < 1000 else {"true", "can't tell"}
    return needed <= said.keys() and set(said.values()) <= accepted and said["loss"] == said["order"] == "true"


def test_jitter_and_loss_hold_under_load_too(rig: Rig) -> None:
    """At 80 % of a rate, where packets wait for each other; without load in the same measurement."""
    wishes = [
        Impairment(delay_ms=20, jitter_ms=1, rate_mbit=20),
        Impairment(delay_ms=20, jitter_ms=2, distribution="uniform", rate_mbit=20, loss=0.05),
        Impairment(delay_ms=20, jitter_ms=2, distribution="pareto", rate_mbit=20, keeps_order=False),
        Impairment(delay_ms=5, rate_mbit=50, loss=0.1),
    ]
    rig.give(*wishes)
    accepted = ACCEPTED | {"not measured"} if rig.backend == "netem" else ACCEPTED  # its rate smooths the jitter

    def good(found: Check) -> bool:
        said = [outcomes(j) for j in found.judgements]
        return all("delay under load" in s and set(s.values()) <= accepted for s in said)

    unspoilt(lambda: rig.thoroughly(*wishes), good)


def test_jitter_is_of_the_distribution_that_was_asked_for(rig: Rig) -> None:
    wishes = [
        Impairment(delay_ms=20, jitter_ms=1),
        Impairment(delay_ms=20, jitter_ms=2, distribution="uniform"),
        Impairment(delay_ms=20, jitter_ms=2, distribution="pareto"),
        Impairment(delay_ms=1, jitter_ms=2),  # cut at 0
    ]
    rig.give(*wishes)
    unspoilt(lambda: rig.thoroughly(*wishes), is_true)


def test_loss_in_bursts_and_alone_duplicates_and_damage(rig: Rig) -> None:
    wishes = [
        Impairment(loss=0.05),
        Impairment(burst_loss=BurstLoss(0.05, 0.3)),
        Impairment(duplicate=0.05, corrupt=0.05),
        Impairment(delay_ms=20, reorder=0.1),
    ]
    rig.give(*wishes)
    unspoilt(lambda: rig.thoroughly(*wishes), is_true)


def test_packets_are_lost_by_their_numbers_and_others_are_counted_as_if_nobody_had_measured(rig: Rig) -> None:
    wish, other = (
        Impairment(delay_ms=1, lose=((5000, 5000), (5004, 5020))),
        Impairment(delay_ms=1, lose=((5003, 5003),)),
    )
    if rig.backend == "netem":
        pytest.skip("netem can't lose packets by number")
    counter = ByElement(rig.made.place.run, rig.made.where)

    def verdict(asked: Impairment) -> str:
        (one,) = rig.directions([asked])
        counter.count_from(one, 77)
        (found,) = asyncio.run(check_lightly([one], Here(rig.made.where, counter), TOLERANCE)).judgements
        assert 77 <= counter.counted(one) < 100  # the kernel's own packets count, ours don't
        return outcomes(found)["loss by number"]

    rig.give_with_files(wish)
    unspoilt(lambda: verdict(wish), lambda said: said == "true")
    assert verdict(other) in {"off", "can't tell"}  # never "true"


def by_trace(rig: Rig) -> Rig:
    if rig.backend == "netem":
        pytest.skip("netem can't follow a trace")
    if ROUGH:
        pytest.skip("user-mode Linux is interrupted for longer than a trace's rows last")
    return rig


def test_links_that_follow_a_trace_are_true(rig: Rig) -> None:
    """Each full for two seconds of its trace, and judged by the place in it."""
    by_trace(rig).give_with_files(*TRACED)

    def good(found: Check) -> bool:
        said = [outcomes(j) for j in found.judgements]
        return is_true(found) and all(
            {"trace", "delay", "rate", "rate over time", "loss"} <= s.keys() for s in said[:3]
        )

    unspoilt(lambda: rig.thoroughly(*TRACED), good)
    unspoilt(lambda: rig.lightly(*TRACED), is_true)


def test_another_trace_than_was_asked_for_is_found_out(rig: Rig) -> None:
    """Its rates 5 % lower; an opportunity in twenty missing; its delays 2 ms longer; and begun a quarter of it ago."""
    train, cell, tunnel = TRACED[0].trace, TRACED[1].trace, TRACED[2].trace
    lines = cell.splitlines()
    given = [
        replace(TRACED[0], trace=train.replace(",12,", ",11.4,").replace(",24,", ",22.8,").replace(",6,", ",5.7,")),
        replace(TRACED[1], trace="".join(f"{n}\n" for i, n in enumerate(lines) if i % 20 != 7)),
        replace(TRACED[2], trace=tunnel.replace(",20\n", ",22\n").replace(",40\n", ",42\n")),
    ]
    by_trace(rig).give_with_files(*given)
    found, said = told(lambda: rig.thoroughly(*TRACED[:3]), ("rate over time", "rate", "delay"))
    assert said == ["off"] * 3, found

    rig.give_with_files(replace(TRACED[0], trace=SHIFTED))
    (found,) = (outcomes(j) for j in rig.thoroughly(TRACED[0]).judgements)
    assert found["delay, 99th percentile"] == found["rate over time"] == "off", found


def test_a_link_that_lost_its_trace_is_found_out(rig: Rig) -> None:
    by_trace(rig).give(Impairment(delay_ms=35))
    (found,) = (outcomes(j) for j in rig.lightly(TRACED[0]).judgements)
    assert found["trace"] == "off"


def test_a_light_check_finds_true_links_true(rig: Rig) -> None:
    wishes = [Impairment(delay_ms=5), Impairment(rate_mbit=20, delay_ms=2), Impairment(loss=0.3)]
    rig.give(*wishes)
    unspoilt(lambda: rig.lightly(*wishes), is_true)


def told(look: Callable[[], Check], wishes: Sequence[str]) -> tuple[Check, list[str]]:
    """What is said of these, one of each link.  Where the machine was too noisy in that moment to tell, as it says, it
    is looked at once more, twice at most."""
    for _ in range(3):
        found = look()
        said = [outcomes(j)[w] for j, w in zip(found.judgements, wishes, strict=True)]
        if "can't tell" not in said:
            break
    return found, said


def test_links_that_give_something_else_are_found_out(rig: Rig) -> None:
    asked = [
        Impairment(delay_ms=10),
        Impairment(rate_mbit=10),
        Impairment(loss=0.05),
        Impairment(delay_ms=20, jitter_ms=4),
    ]
    given = [
        Impairment(delay_ms=12),
        Impairment(rate_mbit=8),
        Impairment(loss=0.4),
        Impairment(delay_ms=20, jitter_ms=0.2),
    ]
    rig.give(*given)
    for look in (rig.lightly, rig.thoroughly):
        found, said = told(lambda look=look: look(*asked), ("delay", "rate", "loss", "delay"))  # type: ignore[misc]
        if ROUGH:  # a machine this noisy can count, and calls nothing true that is not
            assert outcomes(found.judgements[2])["loss"] == "off"
            assert outcomes(found.judgements[1])["rate"] != "true"
            continue
        assert said == ["off"] * 4, found
        assert len(found.reasons()) >= 4


def test_a_bare_pair_is_not_what_was_asked(rig: Rig) -> None:
    found = rig.lightly(Impairment(delay_ms=200), Impairment(loss=0.3), Impairment(rate_mbit=1))
    wishes = ("delay", "loss", "rate")
    said = [outcomes(j)[w] for j, w in zip(found.judgements, wishes, strict=True)]
    assert said[1] == "off" and (said == ["off"] * 3 or (ROUGH and "true" not in said))
