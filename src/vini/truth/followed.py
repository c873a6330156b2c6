"""Whether a link gave what its trace says for the time in which it was measured: rate, delay, loss.  Pure.

It is known when the trace began, so for each packet is computed when it should have come, from when it was sent and
from those ahead of it.  Where it is read a little later it may miss an opportunity, or the last moment before an
outage; so all is computed twice, as if every packet were read at once, and as if a little later: between the two it
is on time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import groupby
from statistics import fmean
from typing import NamedTuple

from vini.model import Impairment
from vini.text import trace, units
from vini.truth.chance import quantile, share_interval
from vini.truth.course import NO_LIMIT, course, speed
from vini.truth.meaning import is_spread
from vini.truth.seen import Frame, Noise, Seen
from vini.truth.tolerance import ENOUGH, FEW, LAPSES_MEDIAN, LAPSES_P99, NOISE_FACTOR, OTHERS_SHARE, Tolerance
from vini.truth.verdict import Verdict, compared, unknown

_READ_MS = 0.3  # that a packet may be read later than it was sent, at least; more on a noisy machine
_HEARD_MS = 100.0  # before the end of the measurement a packet must be due, to be called lost
_LAG_MS, _LAG = 2.0, 0.01  # that a full link may be ahead of its trace or behind it: at least; of the time it was full
_SPARED_MS = 5.0  # CoDel's target: it drops none that waited for less, nor one that nothing was ahead of
_GROUPS = 4  # of packets, by how likely the trace loses them


class _Due(NamedTuple):
    """A packet that arrived."""

    frame: Frame
    left_ns: float  # its last bit, in truth, since the trace began
    off_ms: float  # later than it should have arrived; earlier, where it is less than 0


class _Offered(NamedTuple):
    """A packet that was sent, and what the link that was asked for would do to it."""

    frame: Frame
    fresh: bool  # the link had nothing to send when it came
    half_full: bool  # the queue
    due_ns: float  # its arrival
    wait_ms: float  # until its turn


class Followed:
    """The verdicts on a direction whose trace is known to have begun at `seen.began_ns`."""

    def __init__(self, asked: Impairment, seen: Seen, noise: Noise, alpha: float, tolerance: Tolerance):
        self._asked, self._seen, self._noise, self._alpha, self._tolerance = asked, seen, noise, alpha, tolerance
        self._trace, self._course = trace.parse(asked.trace), course(asked)
        self._began_ns = seen.began_ns or 0
        self._read_ns = 1e6 * max(_READ_MS, NOISE_FACTOR * noise.p99_ms)
        self._offered = list(self._offers())
        self._dues = list(self._all_dues())

    # --- what should have been --------------------------------------------------------------------

    def _since(self, at_ns: int) -> float:
        return float(at_ns - self._began_ns)

    def _arrivals(self, arrived: Sequence[Frame], read_ns: float) -> Iterator[tuple[float, float]]:
        """Of each packet, where all are read so much later: when its last bit leaves, and when it arrives."""
        position, last_ns = 0.0, 0.0
        for f in arrived:
            start = max(position, self._course.at(self._since(f.sent_ns) + read_ns))
            position = self._course.after(start, f.frame_bytes)
            left_ns = self._course.when(position)
            due_ns = left_ns + self._course.delay_ms(left_ns) * 1e6
            if self._asked.keeps_order:
                due_ns = last_ns = max(due_ns, last_ns)
            yield left_ns, due_ns
            position = self._course.after(position, (f.copies - 1) * f.frame_bytes)

    def _all_dues(self) -> Iterator[_Due]:
        arrived = [f for f in self._seen.frames if f.arrived_ns is not None]
        both = zip(self._arrivals(arrived, 0.0), self._arrivals(arrived, self._read_ns), strict=True)
        for f, ((left_ns, soon_ns), (_, later_ns)) in zip(arrived, both, strict=True):
            at_ns = self._since(f.arrived_ns or 0)
            first_ns, last_ns = min(soon_ns, later_ns), max(soon_ns, later_ns)
            off_ns = at_ns - soon_ns
            if last_ns - first_ns > 1.01 * self._read_ns:  # the next opportunity, or behind an outage
                off_ns = min(0.0, at_ns - first_ns) + max(0.0, at_ns - last_ns)
            yield _Due(f, left_ns + off_ns, off_ns / 1e6)

    def _offers(self) -> Iterator[_Offered]:
        """Also of packets that didn't arrive: lost by chance as the trace says, or refused by the queue."""
        a, of = self._asked, self._course
        position = 0.0
        waiting: deque[tuple[float, int]] = deque()  # (turn, bytes)
        waiting_bytes = 0
        for f in self._seen.frames:
            now_ns = self._since(f.sent_ns)
            while waiting and waiting[0][0] <= now_ns:
                waiting_bytes -= waiting.popleft()[1]
            at = of.at(now_ns)
            fresh, start = at >= position, max(at, position)
            turn_ns = of.turn(start)
            fills = [len(waiting) / a.queue_packets if a.queue_packets else 0.0]
            fills.append((waiting_bytes + f.frame_bytes) / a.queue_bytes if a.queue_bytes else 0.0)
            fills.append((turn_ns - now_ns) / 1e6 / a.queue_ms if a.queue_ms else 0.0)
            if fresh or max(fills) < 1 or f.arrived_ns is not None:
                passes = f.copies if f.arrived_ns is not None else 1 - of.loss(now_ns)
                waiting.append((turn_ns, f.frame_bytes))
                waiting_bytes += f.frame_bytes
                position = of.after(start, round(f.frame_bytes * passes))
            left_ns = of.when(position)
            due_ns = left_ns + of.delay_ms(min(left_ns, 1e18)) * 1e6
            yield _Offered(f, fresh, max(fills) >= 0.5, due_ns, (turn_ns - now_ns) / 1e6)

    # --- verdicts ---------------------------------------------------------------------------------

    def all(self) -> Iterator[Verdict]:
        """What was seen of the trace, the delay and the rate."""
        yield self._part()
        yield from self._delays()
        if self._trace.opportunities_ms or "rate_mbit" in self._trace.gives or self._asked.rate_mbit:
            yield from self._rates()

    def _part(self) -> Verdict:
        sent = self._seen.frames
        from_ms, to_ms = (self._since(f.sent_ns) / 1e6 for f in (sent[0], sent[-1]))
        length_ms = self._trace.length_ms
        got = f"{(to_ms - from_ms) / 1000:.1f} s of it from {from_ms / 1000:.1f} s on"
        if self._trace.repeats:
            share = min(1.0, (to_ms - from_ms) / length_ms)
            got = f"{(to_ms - from_ms) / 1000:.1f} s from {from_ms % length_ms / 1000:.1f} s on, {share:.0%} of it"
        return Verdict("trace", trace.summary(self._trace), got, "", "true")

    def _in_the_way(self) -> str:
        if abs(self._noise.step_ms) > self._tolerance.median_ms / 2:
            return f"The machine's clock was set by {self._noise.step_ms:.3f} ms meanwhile; measure again."
        if self._seen.missed:
            return f"The measuring program was too slow to read {self._seen.missed} packets that came."
        sent = self._seen.frames
        given = self._course.bits_between(self._since(sent[0].sent_ns), self._since(sent[-1].sent_ns))
        share = self._seen.other_bytes * 8 / given if given else 0.0
        if share > OTHERS_SHARE:
            return f"Other traffic took {share:.1%} of the link's rate meanwhile."
        return ""

    def _scattered(self) -> str:
        if is_spread(self._asked):
            return "Jitter beside a trace hides when a packet should come."
        return "Packets that overtake beside a trace hide when one should come." if self._asked.reorder else ""

    def _delays(self) -> Iterator[Verdict]:
        asked, most = self._asked_delay(), self._tolerance
        off = sorted(d.off_ms for d in self._dues if d.frame.phase == "idle")
        sent = sum(f.phase == "idle" for f in self._seen.frames)
        if why := self._scattered():
            yield unknown("delay", asked, why)
            return
        if why := self._in_the_way():
            yield unknown("delay", asked, why, "can't tell")
            return
        if len(off) < FEW:
            why = f"Only {len(off)} of {sent} packets arrived; measure for longer."
            yield unknown("delay", asked, why, "can't tell")
            return
        middle, lapses = quantile(off, 0.5), self._seen.lapses
        noise = NOISE_FACTOR * self._noise.median_ms if middle > 0 else 0.0
        noisy = f"the machine is too noisy: it wakes by {self._noise.median_ms:.3f} ms late (median)."
        yield compared(
            "delay", asked, f"median {_off(middle)}", f"{most.median_ms:g} ms", abs(middle), most.median_ms,
            *lapses.hiding(LAPSES_MEDIAN, noise, noisy),
        )  # fmt: skip
        if len(off) >= ENOUGH:
            # Of packets that were read late nobody knows when they came: those may leave too early.
            early = 0.0 if lapses.stalled else quantile(off, 0.01)
            worst = max(quantile(off, 0.99), early, key=abs)
            noise = NOISE_FACTOR * self._noise.p99_ms if worst > 0 else 0.0
            noisy = f"the machine is too noisy: 1 % of its wake-ups are {self._noise.p99_ms:.3f} ms late or more."
            yield compared(
                "delay, 99th percentile", asked, _off(worst), f"{most.p99_ms:g} ms", abs(worst), most.p99_ms,
                *lapses.hiding(LAPSES_P99, noise, noisy),
            )  # fmt: skip

    def _asked_delay(self) -> str:
        given = {d for s in self._trace.steps if (d := s.delay_ms) is not None}
        least, most = min(given, default=self._asked.delay_ms), max(given, default=self._asked.delay_ms)
        told = units.duration(least) + (f"..{units.duration(most)}" if most > least else "")
        return f"{told}, rate by trace" if not given else f"{told} by trace"

    # --- rate ---------------------------------------------------------------------------------------

    def _rates(self) -> Iterator[Verdict]:
        fastest = speed(self._asked)
        asked = "by trace" if self._trace.opportunities_ms or "rate_mbit" in self._trace.gives else "as asked"
        if fastest.most == NO_LIMIT:
            yield unknown("rate", asked, "At some time nothing limits it, so it can't be kept full.")
            return
        if not any(f.phase == "full" for f in self._seen.frames):
            yield unknown("rate", asked, "It is too fast, or too slow, to be kept full for so long.")
            return
        if why := self._in_the_way():
            yield unknown("rate", asked, why, "can't tell")
            return
        found = self._stretch()
        took_ns = found[-1].left_ns - found[0].left_ns if found else 0.0
        given = self._course.bits_between(found[0].left_ns, found[-1].left_ns) if took_ns > 0 else 0.0
        if len(found) < FEW or not given:
            yield unknown("rate", asked, "Too few packets of a full link arrived; measure for longer.", "can't tell")
            return
        yield self._total(asked, found, took_ns, given)
        if not self._scattered():
            yield self._over_time(asked, found, took_ns)

    def _stretch(self) -> list[_Due]:
        """The packets of the longest time in which the link surely always had something to send."""
        best: tuple[int, int] = (0, -1)
        begin_ns = None
        for o in self._offered:
            if o.frame.phase != "full":
                continue
            if begin_ns is None or o.fresh:
                begin_ns = o.frame.sent_ns
            best = max(best, (begin_ns, o.frame.sent_ns), key=lambda s: s[1] - s[0])
        return [d for d in self._dues if d.frame.phase == "full" and best[0] <= d.frame.sent_ns <= best[1]]

    def _total(self, asked: str, found: Sequence[_Due], took_ns: float, given: float) -> Verdict:
        first_ns, last_ns, most = found[0].left_ns, found[-1].left_ns, self._tolerance.rate
        bits = 8.0 * sum(d.frame.frame_bytes * d.frame.copies for d in found) - 8 * found[0].frame.frame_bytes
        edge_ns = self._read_ns + 1e6 * (self._asked.jitter_ms * 8 + max(self._asked.jitter_table_ms, default=0.0))
        of = self._course.bits_between
        noise = (of(max(0.0, first_ns - edge_ns), first_ns) + of(last_ns, last_ns + edge_ns)) / given
        why = f"{took_ns / 1e6:.0f} ms of a full link are too short on a machine this noisy, or with this jitter."
        if self._noise.overrun:
            noise, why = 1.0, "this machine can't send so much without a pause."
        got, should = (units.rate(round(x * 1000 / took_ns, 4)) for x in (bits, given))
        within = f"{most:.0%}"
        return compared("rate", f"{should} {asked}", got, within, abs(bits / given - 1), most, noise, why)

    def _over_time(self, asked: str, found: Sequence[_Due], took_ns: float) -> Verdict:
        """Of a link that gives more or less than its trace for a while, packets come ever earlier or later."""
        off = sorted(d.off_ms for d in found)
        low, high = (quantile(off, 0.01), quantile(off, 0.99)) if len(off) >= ENOUGH else (off[0], off[-1])
        if self._seen.lapses.stalled:  # as of a delay
            low, high = max(0.0, low), max(0.0, high)
        limit = max(_LAG_MS, self._tolerance.p99_ms, _LAG * took_ns / 1e6)
        noise = 1e9 if self._noise.overrun else NOISE_FACTOR * self._noise.p99_ms
        why = f"the machine is too noisy: 1 % of its wake-ups are {self._noise.p99_ms:.3f} ms late or more."
        got = f"{_off(low)} to {_off(high)} in {took_ns / 1e9:.1f} s"
        hidden = self._seen.lapses.hiding(LAPSES_P99, noise, why)
        return compared("rate over time", asked, got, f"{limit:.3g} ms apart", high - low, limit, *hidden)

    # --- loss ---------------------------------------------------------------------------------------

    def losses(self, among: Sequence[Frame]) -> Verdict:
        """Of these packets, as far as no queue may have refused them and each was due before we stopped to listen."""
        chosen = {id(f) for f in among}
        until_ns = self._since(self._seen.until_ns) - _HEARD_MS * 1e6
        frames = [
            o.frame for o in self._offered
            if id(o.frame) in chosen and o.frame.phase == "idle" and not o.half_full and o.due_ns < until_ns
            and not (self._asked.aqm and o.wait_ms >= _SPARED_MS and not o.fresh)
        ]  # fmt: skip
        asked = self._asked_loss()
        if self._asked.burst_loss:
            return unknown("loss", asked, "Bursts beside a trace are not measured.")
        lost = sum(f.arrived_ns is None for f in frames)
        got = f"{lost} of {len(frames)}"
        if self._seen.missed:
            why = f"the measuring program was too slow to read {self._seen.missed} packets that came."
            return unknown("loss", asked, why, "can't tell", got)
        groups = [g for g in self._by_chance(frames) if len(g) >= FEW]
        if not groups:
            few = f"{len(frames)} packets are too few; measure for longer."
            if self._asked.aqm:
                few = f"The AQM may drop what waits, and {len(frames)} packets that did not are too few."
            return unknown("loss", asked, few, "can't tell", got)
        return max((self._share(asked, g, self._alpha / len(groups)) for g in groups), key=_worse)

    def _chance(self, f: Frame) -> float:
        return self._course.loss(self._since(f.sent_ns))

    def _by_chance(self, frames: Sequence[Frame]) -> list[list[Frame]]:
        ordered = sorted(frames, key=self._chance)
        groups = [list(g) for _, g in groupby(ordered, self._chance)]
        if len(groups) <= _GROUPS:
            return groups
        size = -(-len(ordered) // _GROUPS)
        return [ordered[i : i + size] for i in range(0, len(ordered), size)]

    def _share(self, asked: str, frames: Sequence[Frame], alpha: float) -> Verdict:
        """Packets with different chances are lost with less variance than as many with the mean (Hoeffding 1956)."""
        n, lost, mean = len(frames), sum(f.arrived_ns is None for f in frames), fmean(map(self._chance, frames))
        low, high = share_interval(lost, n, alpha)
        hidden = self._asked.corrupt * 2 / 60  # a flipped bit in the Ethernet type hides the frame from us
        away = max(low - mean - hidden, mean - high, 0.0)
        forgiven = share_interval(max(0, lost - self._noise.lost), n, alpha)[0] <= mean + hidden
        noise = 1.0 if self._noise.lost and lost > n * mean and forgiven else 0.0
        why = f"the machine lost {self._noise.lost} packets on its own loopback."
        got = f"{lost / n:.3%} ({lost} of {n}) where it is {mean:.3%}"
        return compared("loss", asked, got, f"{low:.3%} to {high:.3%}", away, 0.0, noise, why)

    def _asked_loss(self) -> str:
        given = {p for s in self._trace.steps if (p := s.loss) is not None}
        if not given:
            return units.loss(self._asked.loss)
        least, most = units.loss(min(given)), units.loss(max(given))
        return (least if least == most else f"{least}..{most}") + " by trace"


def _worse(v: Verdict) -> tuple[int, float]:
    return ("true", "can't tell", "off").index(v.outcome), v.value or 0.0


def _off(ms: float) -> str:
    return f"{abs(ms):.3f} ms {'early' if ms < 0 else 'late'}"
