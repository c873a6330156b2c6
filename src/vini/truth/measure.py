"""Measuring links: sends what a plan says over living vifs, and judges what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from vini.dataplane import probe
from vini.dataplane.probe import OWN, Flight, Stream
from vini.model import NotFound, Value
from vini.node import netns
from vini.text.units import count
from vini.truth import plan
from vini.truth.chance import quantile
from vini.truth.counting import Counter, Counts
from vini.truth.direction import Direction
from vini.truth.judge import Tolerance, judge
from vini.truth.plan import PROBE_BYTES, Sending
from vini.truth.seen import Noise, Seen, frames, noise, passages
from vini.truth.verdict import Judgement

FALSE_ALARMS = 0.001  # the probability that chance alone makes any verdict of one check wrong
VERDICTS = 8  # of one direction, at most
CONTROL_S = 0.001  # between two of the control's frames
MOST_MBIT = 1000.0  # of all links that are filled at one time: what two cores send, carry and read
Say = Callable[[str], None]
Where = Callable[[str], Path]  # sliver -> its network namespace


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


class Delays(Value, frozen=True):
    """Of one direction, in ms."""

    median: float
    p99: float
    noise: Noise  # the machine's own, in the same seconds


class Leg(Value, frozen=True):
    """A direction between two namespaces, as the probe sees it."""

    direction: Direction
    netns: Path
    peer_netns: Path


async def check_lightly(
    all_: Sequence[Direction], where: Where, tolerance: Tolerance | None = None, counter: Counter | None = None
) -> Check:
    """About two seconds, all links at once, with little on them.  `counter` counts packets that are lost by number."""
    if not all_:
        return Check()
    legs = [_leg(d, where) for d in all_]
    sendings = plan.light([d.asked for d in all_])
    return await _measured(legs, sendings, len(all_), tolerance, counter)


async def check_thoroughly(
    all_: Sequence[Direction], where: Where, load: float, for_s: float, say: Say, tolerance: Tolerance | None = None,
    counter: Counter | None = None,
) -> Check:  # fmt: skip
    """`for_s` seconds for each link, with traffic up to its rate on it; those go together that the machine can fill."""
    found = []
    groups = list(_groups(all_))
    for i, group in enumerate(groups, 1):
        legs = [_leg(d, where) for d in group]
        sendings = [plan.thorough(d.asked, load, for_s, len(group)) for d in group]
        some = count(len(group), "direction") + (f", group {i} of {len(groups)}" if len(groups) > 1 else "")
        say(f"{some}: traffic for {plan.duration_s(sendings):.1f} s")
        found.append(await _measured(legs, sendings, len(all_), tolerance, counter))
    judgements = tuple(j for c in found for j in c.judgements)
    noisiest = max((c.noise for c in found), key=lambda n: n.p99_ms, default=Noise())
    return Check(judgements, noisiest, max((c.seconds for c in found), default=0.0))


async def delays(d: Direction, where: Where, load_mbit: float, for_s: float) -> Delays | None:
    """Of packets beside so much load, without their time in a queue; None where none arrived."""
    leg, sendings = _leg(d, where), plan.steady(load_mbit, for_s)
    streams = [_control(for_s), *(_stream(leg, s) for s in sendings)]
    found = await probe.measure(streams, plan.drain_s([d.asked], [sendings]))
    flights = [(s.phase, f) for s, f in zip(sendings, found.flights[1:], strict=True)]
    delays_ms = sorted(p.delay_ms for p in passages(d.asked, frames(flights)))
    if not delays_ms:
        return None
    return Delays(quantile(delays_ms, 0.5), quantile(delays_ms, 0.99), noise(found.flights[0], found))


def _groups(all_: Sequence[Direction]) -> Iterator[list[Direction]]:
    group: list[Direction] = []
    for d in all_:
        if group and sum(x.asked.rate_mbit for x in [*group, d]) > MOST_MBIT:
            yield group
            group = []
        group.append(d)
    if group:
        yield group


def _leg(d: Direction, where: Where) -> Leg:
    for sliver in (d.source, d.destination):
        if not where(sliver).exists():
            raise NotFound(f"Sliver {sliver} isn't up, so its links can't be measured; `vini status` says why.")
    return Leg(d, where(d.source), where(d.destination))


async def _measured(
    legs: Sequence[Leg], sendings: Sequence[Sequence[Sending]], directions: int, tolerance: Tolerance | None,
    counter: Counter | None,
) -> Check:  # fmt: skip
    asked, lasts_s = [p.direction.asked for p in legs], plan.duration_s(sendings)
    streams = [_stream(p, s) for p, all_ in zip(legs, sendings, strict=True) for s in all_]
    before = [_sent_bytes(p) for p in legs]
    counts, sent = Counts([p.direction for p in legs], counter), [0] * len(legs)
    counts.begin()
    try:
        found = await probe.measure([_control(lasts_s), *streams], plan.drain_s(asked, sendings))
        flights = iter(found.flights[1:])
        ours = [[(s.phase, next(flights)) for s in all_] for all_ in sendings]
        sent = [sum(len(f.sent_ns) for _, f in mine) for mine in ours]
    finally:
        numbered = counts.end(sent)
    after = [_sent_bytes(p) for p in legs]
    quiet = noise(found.flights[0], found)
    judgements = []
    for leg, mine, was, now, numbers in zip(legs, ours, before, after, numbered, strict=True):
        d = leg.direction
        others = max(0, now - was - _ours(mine))
        seen = Seen(frames(mine), max(f.missed for _, f in mine), others, numbers)
        verdicts = judge(d.asked, seen, quiet, FALSE_ALARMS / VERDICTS / directions, tolerance, d.fault, d.smooths)
        judgements.append(Judgement(d.source, d.vif, d.destination, verdicts))
    return Check(tuple(judgements), quiet, lasts_s)


def _control(for_s: float) -> Stream:
    return Stream(OWN, "lo", OWN, "lo", 0, round(CONTROL_S * 1e9), int(for_s / CONTROL_S), PROBE_BYTES)


def _stream(p: Leg, s: Sending) -> Stream:
    return Stream(
        p.netns, p.direction.vif, p.peer_netns, p.direction.peer_vif,
        round(s.start_s * 1e9), round(s.interval_s * 1e9), s.count, s.frame_bytes, s.ahead,
    )  # fmt: skip


def _ours(flights: Sequence[tuple[str, Flight]]) -> int:
    missed = max(f.missed for _, f in flights) * max(f.stream.frame_bytes for _, f in flights)
    return missed + sum(len(f.arrivals) * f.stream.frame_bytes for _, f in flights)


def _sent_bytes(p: Leg) -> int:
    """That left by the vif so far (proc(5), /proc/net/dev)."""
    with netns.inside(p.netns):
        lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
    counts = next((rest for dev, _, rest in (x.partition(":") for x in lines) if dev.strip() == p.direction.vif), "")
    if not counts:
        raise NotFound(f"Sliver {p.direction.source} has no vif {p.direction.vif}; `vini status` says why.")
    return int(counts.split()[8])
