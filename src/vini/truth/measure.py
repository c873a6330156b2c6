"""Measuring links: sends what a plan says over living vifs, and judges what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from vini.model import Value
from vini.text.units import count
from vini.truth import plan
from vini.truth.apart import by_their_sum
from vini.truth.direction import Direction
from vini.truth.judge import judge
from vini.truth.plan import Sending
from vini.truth.seen import Noise, Taken
from vini.truth.tolerance import Tolerance
from vini.truth.verdict import Judgement

FALSE_ALARMS = 0.001  # the probability that chance alone makes any verdict of one check wrong
VERDICTS = 8  # of one direction, at most
# Between machines: what the way between them takes, and by how much two clocks drift apart (50 ppm).
APART_MS, APART_P99_MS, DRIFT_MS_PER_S = 1.0, 5.0, 0.05
Say = Callable[[str], None]


class Bench(Protocol):
    """Where the links are."""

    async def measure(self, all_: Sequence[Direction], sendings: Sequence[Sequence[Sending]]) -> list[Taken]:
        """Send all this at once, and tell what was seen of each direction.  Raises ViniError where it can't be."""


class Check(Value, frozen=True):
    """Links measured together."""

    judgements: tuple[Judgement, ...] = ()
    noise: Noise = Noise()  # of the worst group
    seconds: float = 0.0  # that traffic of ours was on each link
    why_not: str = ""  # a sentence, where nothing could be measured

    def reasons(self) -> tuple[str, ...]:
        """Why what is measured over these links is not what was asked for; () where it is."""
        return tuple(r for j in self.judgements for r in j.reasons())

    def doubts(self) -> tuple[str, ...]:
        """What nobody could tell."""
        if self.why_not:
            return (f"The links were not checked: {self.why_not}",)
        return tuple(d for j in self.judgements for d in j.doubts())


async def check_lightly(all_: Sequence[Direction], bench: Bench, tolerance: Tolerance | None = None) -> Check:
    """About two seconds, all links at once, with little on them."""
    if not all_:
        return Check()
    sendings = plan.light([d.asked for d in all_], [d.most_frame for d in all_])
    return await _measured(all_, sendings, len(all_), bench, tolerance)


async def check_thoroughly(
    all_: Sequence[Direction], bench: Bench, load: float, for_s: float, say: Say, tolerance: Tolerance | None = None
) -> Check:
    """`for_s` seconds for each link, with traffic up to its rate on it; those go together that the machine can fill."""
    found = []
    groups = list(_groups(all_))
    for i, group in enumerate(groups, 1):
        sendings = [plan.thorough(d.asked, load, for_s, len(group), d.most_frame) for d in group]
        some = count(len(group), "direction") + (f", group {i} of {len(groups)}" if len(groups) > 1 else "")
        say(f"{some}: traffic for {plan.duration_s(sendings):.1f} s")
        found.append(await _measured(group, sendings, len(all_), bench, tolerance))
    judgements = tuple(j for c in found for j in c.judgements)
    noisiest = max((c.noise for c in found), key=lambda n: n.p99_ms, default=Noise())
    return Check(judgements, noisiest, max((c.seconds for c in found), default=0.0))


def _groups(all_: Sequence[Direction]) -> Iterator[list[Direction]]:
    group: list[Direction] = []
    for d in all_:
        if group and sum(plan.most_mbit(x.asked) for x in [*group, d]) > plan.MOST_MBIT:
            yield group
            group = []
        group.append(d)
    if group:
        yield group


async def _measured(
    all_: Sequence[Direction], sendings: Sequence[Sequence[Sending]], directions: int, bench: Bench,
    tolerance: Tolerance | None,
) -> Check:  # fmt: skip
    lasts_s = plan.duration_s(sendings)
    taken = await bench.measure(all_, sendings)
    alpha = FALSE_ALARMS / VERDICTS / directions
    judgements = tuple(_judged(d, t, alpha, tolerance or _fair(t, lasts_s)) for d, t in zip(all_, taken, strict=True))
    return Check(judgements, max((t.noise for t in taken), key=lambda n: n.p99_ms), lasts_s)


def _judged(d: Direction, t: Taken, alpha: float, tolerance: Tolerance) -> Judgement:
    verdicts = judge(d.asked, t.seen, t.noise, alpha, tolerance, d.fault, d.smooths)
    return Judgement(d.source, d.vif, d.destination, by_their_sum(verdicts, t.clock), t.clock)


def _fair(t: Taken, lasts_s: float) -> Tolerance:
    if t.clock == "one":
        return Tolerance()
    drift_ms = DRIFT_MS_PER_S * lasts_s + t.unsure_ms
    return Tolerance(median_ms=round(APART_MS + drift_ms, 3), p99_ms=round(APART_P99_MS + drift_ms, 3))
