"""Whether a direction of a link gave what was asked of it, wish by wish.  Pure.

Every verdict may be wrong by chance with probability `alpha` at most; whoever asks for many divides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from statistics import NormalDist, fmean

from vini.model import Fault, Impairment
from vini.text import trace, units
from vini.truth.chance import distance, most_distance, quantile, share_interval, uniform_distance
from vini.truth.followed import Followed
from vini.truth.meaning import (
    delay_cdf,
    delay_quantile_ms,
    frame_s,
    is_spread,
    listed,
    loss_deviation,
    mean_burst,
    mean_loss,
)
from vini.truth.seen import Frame, Noise, Passage, Seen, overtaken, passages
from vini.truth.tolerance import (
    ENOUGH,
    ENOUGH_SPREAD,
    FEW,
    LAPSES_MEDIAN,
    LAPSES_P99,
    NOISE_FACTOR,
    OTHERS_SHARE,
    Tolerance,
)
from vini.truth.verdict import Verdict, compared, unknown

PHASES = {"idle": "", "load": " under load"}


def judge(
    asked: Impairment,
    seen: Seen,
    noise: Noise,
    alpha: float = 1e-4,
    tolerance: Tolerance | None = None,
    fault: Fault = "none",
    smooths: bool = False,
) -> tuple[Verdict, ...]:
    """A verdict for each wish that there is, and for what nobody asked for but must hold.

    `smooths`: its rate comes after its jitter, so that what jitter does under load is not what it did.
    """
    if fault != "none":
        return (_fault(fault, seen),)
    judged = _Judge(asked, seen, noise, alpha, tolerance or Tolerance(), smooths)
    return tuple(judged.all())


def _fault(fault: Fault, seen: Seen) -> Verdict:
    arrived = sum(f.arrived_ns is not None for f in seen.frames)
    got = f"{arrived} of {len(seen.frames)} packets arrived"
    return compared("fault", f"{fault}: nothing arrives", got, "0 packets", arrived, 0, 0, "")


class _Judge:
    def __init__(self, asked: Impairment, seen: Seen, noise: Noise, alpha: float, tolerance: Tolerance, smooths: bool):
        self.asked, self.seen, self.noise, self.alpha, self.tolerance = asked, seen, noise, alpha, tolerance
        self.smooths = smooths
        self.passages = [] if asked.trace else passages(asked, seen.frames)
        self.paced = [f for f in seen.frames if f.phase in PHASES]
        knows = asked.trace and seen.frames and seen.began_ns
        self.followed = Followed(asked, seen, noise, alpha, self.tolerance) if knows else None

    def all(self) -> Iterator[Verdict]:
        if self.followed:
            yield from self.followed.all()
            yield from self._aqm()
        elif self.asked.trace:
            yield from self._trace(trace.parse(self.asked.trace))
        else:
            yield from self._delays()
            yield from self._rate()
            yield from self._aqm()
        yield from self._losses()
        yield from self._order()
        yield from self._shares()

    def _trace(self, followed: trace.Trace) -> Iterator[Verdict]:
        """Where nobody tells when it began, or it began anew meanwhile: only what it never may be."""
        why = "When it began could not be asked: its rate is not measured, and of its delay only the least."
        if self.seen.began_ns == 0:
            yield compared("trace", trace.summary(followed), "it follows none", "this one", 1.0, 0.0, 0.0, "")
        else:
            yield unknown("trace", trace.summary(followed), why)
        least_ms, most = followed.least_delay_ms(self.asked.delay_ms), self.tolerance.median_ms
        if not least_ms or is_spread(self.asked) or self.asked.reorder:
            return
        asked = units.duration(least_ms)
        if why := self._in_the_way():
            yield unknown("delay at least", asked, why, "can't tell")
        elif came := [f.arrived_ns - f.sent_ns for f in self.paced if f.arrived_ns is not None]:
            got_ms = min(came) / 1e6
            early_ms = max(0.0, least_ms - got_ms)
            noise, why = self.seen.lapses.hiding(0.0 if self.seen.lapses.stalled else 1.0, 0.0, "")
            yield compared("delay at least", asked, f"{got_ms:.3f} ms", f"{most:g} ms", early_ms, most, noise, why)

    # --- delay ------------------------------------------------------------------------------------

    def _delays(self) -> Iterator[Verdict]:
        for phase, words in PHASES.items():
            found = self._punctual(phase)
            sent = sum(f.phase == phase for f in self.seen.frames)
            if not sent:
                continue
            if phase == "load" and is_spread(self.asked) and (why := self._hides_jitter()):
                yield unknown(f"delay{words}", self._asked_delay(), why)
            elif why := self._in_the_way():
                yield unknown(f"delay{words}", self._asked_delay(), why, "can't tell")
            elif phase == "load" and is_spread(self.asked):
                yield self._spread_under_load()
            elif len(found) < FEW:
                why = f"Only {len(found)} of {sent} packets arrived undisturbed; measure for longer."
                yield unknown(f"delay{words}", self._asked_delay(), why, "can't tell")
            elif is_spread(self.asked):
                yield self._spread(found)
            else:
                yield from self._fixed(f"delay{words}", found)

    def _punctual(self, phase: str) -> list[float]:
        """Delays in ms of the frames of a phase that nothing held up: chosen by what was before them."""
        out, before_ns = [], 0
        least_ms = delay_quantile_ms(self.asked, 0.001) if is_spread(self.asked) else 0.0
        for p in self.passages:
            held_up = is_spread(self.asked) and self.asked.keeps_order and before_ns > p.frame.sent_ns + least_ms * 1e6
            if p.frame.phase == phase and not held_up and not self._overtook(p):
                out.append(p.delay_ms)
            before_ns = max(before_ns, p.frame.arrived_ns or 0)
        return sorted(out)

    def _in_the_way(self) -> str:
        if abs(self.noise.step_ms) > self.tolerance.median_ms / 2:
            return f"The machine's clock was set by {self.noise.step_ms:.3f} ms meanwhile; measure again."
        if self.asked.rate_mbit and self._others_share() > OTHERS_SHARE:
            return f"Other traffic took {self._others_share():.1%} of the link's rate meanwhile."
        return ""

    def _others_share(self) -> float:
        span_s = (self.seen.frames[-1].sent_ns - self.seen.frames[0].sent_ns) / 1e9
        return self.seen.other_bytes * 8 / 1e6 / span_s / self.asked.rate_mbit if span_s else 0.0

    def _fixed(self, wish: str, found: Sequence[float]) -> Iterator[Verdict]:
        asked, most, lapses = self.asked.delay_ms, self.tolerance, self.seen.lapses
        middle = quantile(found, 0.5)
        noisy = f"the machine is too noisy: it wakes by {self.noise.median_ms:.3f} ms late (median)."
        yield compared(
            wish, self._asked_delay(), f"median {middle:.3f} ms", f"{most.median_ms:g} ms",
            abs(middle - asked), most.median_ms,
            *lapses.hiding(LAPSES_MEDIAN, NOISE_FACTOR * self.noise.median_ms if middle > asked else 0.0, noisy),
        )  # fmt: skip
        if len(found) >= ENOUGH:
            late = quantile(found, 0.99) - asked
            noisy = f"the machine is too noisy: 1 % of its wake-ups are {self.noise.p99_ms:.3f} ms late or more."
            yield compared(
                f"{wish}, 99th percentile", self._asked_delay(), f"{late + asked:.3f} ms", f"{most.p99_ms:g} ms",
                abs(late), most.p99_ms, *lapses.hiding(LAPSES_P99, NOISE_FACTOR * self.noise.p99_ms, noisy),
            )  # fmt: skip

    def _spread(self, found: Sequence[float]) -> Verdict:
        """Kolmogorov and Smirnov's test; each packet may be late by what a link without jitter may be."""
        n, cdf, most = len(found), delay_cdf(self.asked), self.tolerance
        deviation = fmean((x - fmean(found)) ** 2 for x in found) ** 0.5
        limit = most.spread + most_distance(n, self.alpha)
        near = distance(found, cdf, 0.001, most.median_ms)
        far = distance(found, cdf, 0.001, most.median_ms + NOISE_FACTOR * self.noise.p99_ms)
        got = f"median {quantile(found, 0.5):.3f} ms, deviation {deviation:.3f} ms, distance {near:.3f}"
        why = f"the machine is too noisy: 1 % of its wake-ups are {self.noise.p99_ms:.3f} ms late or more."
        if n < ENOUGH_SPREAD:
            few = f"{n} packets are too few for a distribution; measure for longer."
            return unknown("delay", self._asked_delay(), few, "can't tell", got)
        hidden = self.seen.lapses.hiding(LAPSES_P99, 1.0 if far <= limit else 0.0, why)
        within = f"distance {limit:.3f} ({n} packets)"
        return compared("delay", self._asked_delay(), got, within, near, limit, *hidden)

    def _hides_jitter(self) -> str:
        """Why delays under load don't show it."""
        if self.smooths:
            return "netem's rate comes after its jitter, and smooths it under load."
        return "Copies have delays of their own, and hold others up." if self.asked.duplicate else ""

    def _spread_under_load(self) -> Verdict:
        """Of packets that wait for those ahead, too: each that does not has a delay of the asked distribution, given
        that it is beyond the packet's ahead; so where it is in the rest of the distribution is uniform, independent
        of all before (Rosenblatt 1952)."""
        found, most = self._unheld(), self.tolerance
        n, limit = len(found), most.spread + most_distance(max(1, len(found)), self.alpha)
        if n < ENOUGH_SPREAD:
            few = f"{n} packets that no other held up are too few for a distribution; measure for longer."
            return unknown("delay under load", self._asked_delay(), few, "can't tell")
        near = self._distance_beyond(found, most.median_ms)
        far = self._distance_beyond(found, most.median_ms + NOISE_FACTOR * self.noise.p99_ms)
        why = f"the machine is too noisy: 1 % of its wake-ups are {self.noise.p99_ms:.3f} ms late or more."
        return compared(
            "delay under load", self._asked_delay(), f"distance {near:.3f}", f"distance {limit:.3f} ({n} packets)",
            near, limit, *self.seen.lapses.hiding(LAPSES_P99, 1.0 if far <= limit else 0.0, why),
        )  # fmt: skip

    def _unheld(self) -> list[tuple[float, float]]:
        """Of each packet under load that none ahead held up: its delay, and the least that it could have had; ms."""
        out, before_ns, apart_ms = [], 0, 2 * self.tolerance.median_ms
        for p in self.passages:
            arrived_ns = p.frame.arrived_ns or 0
            least_ms = p.delay_ms - (arrived_ns - before_ns) / 1e6 + apart_ms if self.asked.keeps_order else -1.0
            if p.frame.phase == "load" and p.delay_ms > least_ms and not self._overtook(p):
                out.append((p.delay_ms, least_ms))
            before_ns = max(before_ns, arrived_ns)
        return out

    def _distance_beyond(self, found: Sequence[tuple[float, float]], late_ms: float) -> float:
        """How far their places in what was left of the distribution are from uniform, where each may be so late."""
        cdf = delay_cdf(self.asked)

        def place(delay_ms: float, least_ms: float) -> float:
            below = cdf(least_ms)
            return min(1.0, max(0.0, (cdf(delay_ms) - below) / (1 - below))) if below < 1 else 1.0

        lows = [place(delay - late_ms, least) for delay, least in found]
        return uniform_distance(lows, [place(delay + 0.001, least - late_ms) for delay, least in found])

    def _asked_delay(self) -> str:
        a, delay = self.asked, units.duration(self.asked.delay_ms)
        if a.jitter_table_ms:
            return f"{delay}, jitter by table"
        return f"{delay}, {a.distribution} jitter {units.duration(a.jitter_ms)}" if a.jitter_ms else delay

    # --- rate and queue -------------------------------------------------------------------------

    def _rate(self) -> Iterator[Verdict]:
        if not self.asked.rate_mbit:
            return
        asked = units.rate(self.asked.rate_mbit)
        arrived = [p for p in self.passages if p.frame.phase == "full"]
        if len(arrived) < 3:
            yield unknown("rate", asked, "Too few packets of a full link arrived; measure for longer.", "can't tell")
            return
        if why := self._in_the_way():
            yield unknown("rate", asked, why, "can't tell")
            return
        got, took_s, empty = self._full_rate(arrived)
        spread_ms = delay_quantile_ms(self.asked, 0.999) - delay_quantile_ms(self.asked, 0.001)
        noise = (NOISE_FACTOR * self.noise.p99_ms + spread_ms) / 1000 / took_s if took_s else 1.0
        why = f"{took_s * 1000:.0f} ms of a full link are too short on a machine this noisy, or with this jitter."
        if self.noise.overrun or (empty > noise and got < self.asked.rate_mbit):
            noise, why = 1.0 if self.noise.overrun else empty, "this machine can't send so much without a pause."
        yield compared(
            "rate", asked, units.rate(round(got, 4)), f"{self.tolerance.rate:.0%}",
            abs(got / self.asked.rate_mbit - 1), self.tolerance.rate, noise, why,
        )  # fmt: skip
        yield from self._queue(arrived, abs(got / self.asked.rate_mbit - 1))

    def _aqm(self) -> Iterator[Verdict]:
        """What nobody measures is told of, too."""
        if self.asked.aqm:
            why = "What it drops or marks follows from all that waited before; only the rate is measured."
            yield unknown("aqm", self.asked.aqm, why)

    def _full_rate(self, arrived: Sequence[Passage]) -> tuple[float, float, float]:
        """Mbit/s between the first arrival and the last; seconds between them; and in which share of them the link
        had nothing to send, since the sender was held up."""
        times = [p.frame.arrived_ns or 0 for p in arrived]
        first, last = min(times), max(times)
        took_s = (last - first) / 1e9
        if not took_s:
            return 0.0, 0.0, 1.0
        bits = 8 * sum(p.frame.frame_bytes * p.frame.copies for p in arrived)
        bits -= 8 * arrived[times.index(first)].frame.frame_bytes
        ends = [(t - first) / 1e9 - p.delay_ms / 1e3 for t, p in zip(times, arrived, strict=True)]
        empty_s = max(0.0, max(ends) - min(ends) - bits / 1e6 / self.asked.rate_mbit)
        return bits / 1e6 / took_s, took_s, min(1.0, empty_s / took_s)

    def _queue(self, arrived: Sequence[Passage], rate_off: float) -> Iterator[Verdict]:
        """How long packets waited for their turn, where more came than it holds."""
        a, full = self.asked, [f for f in self.seen.frames if f.phase == "full"]
        if not (a.queue_packets or a.queue_bytes or a.queue_ms):
            return
        bound = str(units.queue(a.queue_packets, a.queue_bytes, a.queue_ms))
        asked = f"{bound} packets" if a.queue_packets else bound
        if why := self._hides_queue():
            yield unknown("queue", asked, why)
        elif len(arrived) < len(full) and not self.seen.missed:
            frame_ms = 1000 * frame_s(a, full[0].frame_bytes)
            limit_ms = a.queue_ms or (a.queue_packets or a.queue_bytes // full[0].frame_bytes) * frame_ms
            if (mean_loss(a) or a.lose) and self._surplus(full) * frame_ms < limit_ms:
                return  # what is missing was lost ahead of it
            # Those of the first burst, which fills it, also waited until whoever shapes had read all before them.
            later = sorted(arrived, key=lambda p: p.frame.sent_ns)[len(arrived) // 2 :]
            most_ms = quantile(sorted(self._wait_ms(p) for p in later), 0.99)
            # A computed wait is wrong by as much as the rate is off, from the first of them on.
            noise_ms = rate_off * len(arrived) * frame_ms if is_spread(a) else 0.0
            noise_ms += NOISE_FACTOR * self.noise.p99_ms if most_ms > limit_ms else 0.0
            why = "the machine is too noisy, or the rate too far off, for so short a queue."
            if self.noise.overrun:
                noise_ms, why = 1e9, "this machine can't send so much without a pause."
            yield compared(
                "queue", asked, self._held(most_ms, frame_ms), "2 packets or 5%",
                abs(most_ms - limit_ms), max(2.5 * frame_ms, 0.05 * limit_ms), noise_ms, why,
            )  # fmt: skip

    def _surplus(self, full: Sequence[Frame]) -> float:
        """Frames that surely came to the queue beyond those that left it while they were sent."""
        n, z = len(full), NormalDist().inv_cdf(1 - self.alpha)
        listed_there = listed(self.asked)(1, 10**9) if self.asked.lose else 0
        came = n * (1 - mean_loss(self.asked) - z * loss_deviation(self.asked, n)) - min(n, listed_there)
        took_s = (full[-1].sent_ns - full[0].sent_ns) / 1e9
        return came - took_s / frame_s(self.asked, full[0].frame_bytes)

    def _hides_queue(self) -> str:
        """Why the time that packets wait does not tell what a queue holds."""
        if self.asked.aqm:
            return "An AQM keeps it from filling."
        return "netem's queue comes after its jitter." if self.smooths and is_spread(self.asked) else ""

    def _wait_ms(self, p: Passage) -> float:
        """Until its turn: measured; where jitter is on top of it, computed from when those that arrived were sent."""
        if is_spread(self.asked) or self.asked.reorder:
            return p.wait_ms
        own_ms = 1000 * frame_s(self.asked, p.frame.frame_bytes)
        return ((p.frame.arrived_ns or 0) - p.frame.sent_ns) / 1e6 - self.asked.delay_ms - own_ms

    def _held(self, wait_ms: float, frame_ms: float) -> str:
        """What waits for so long, in the words of what was asked."""
        if self.asked.queue_packets:
            return f"{round(wait_ms / frame_ms)} packets"
        if self.asked.queue_bytes:
            return f"{round(wait_ms * self.asked.rate_mbit * 125)}B"
        return f"{wait_ms:.3f} ms"

    # --- loss -----------------------------------------------------------------------------------

    def _losses(self) -> Iterator[Verdict]:
        frames = self._unqueued()
        if self.asked.lose:
            sure, frames = self._by_number(frames)
            yield self._numbers_lost(sure)
        if self.followed:
            yield self.followed.losses(frames)
            return
        lost, n = sum(f.arrived_ns is None for f in frames), len(frames)
        if self.asked.trace:
            why = "What a trace loses changes with the time since it began, which could not be asked."
            yield unknown("loss", "by trace", why, got=f"{lost} of {n}")
            return
        if self.seen.missed:
            why = f"the measuring program was too slow to read {self.seen.missed} packets that came."
            yield unknown("loss", units.loss(mean_loss(self.asked)), why, "can't tell", f"{lost} of {n}")
        elif self.asked.burst_loss:
            yield self._bursty_share(lost, n)
            yield self._burst_length(frames)
        else:
            hidden = self.asked.corrupt * 2 / 60  # a flipped bit in the Ethernet type hides the frame from us
            yield self._share("loss", lost, n, self.asked.loss, self.asked.loss + hidden)

    def _by_number(self, frames: Sequence[Frame]) -> tuple[list[Frame], list[Frame]]:
        """Those that are surely listed, and those that surely aren't: packets of others may have been among ours."""
        sure: list[Frame] = []
        spared: list[Frame] = []
        if numbered := self.seen.numbered:
            chosen, among = {id(f) for f in frames}, listed(self.asked)
            for number, f in enumerate(self.seen.frames, numbered.counted + 1):
                possible = among(number, number + numbered.others)
                if id(f) in chosen and (possible == 0 or possible == numbered.others + 1):
                    (sure if possible else spared).append(f)
        return sure, spared

    def _numbers_lost(self, sure: Sequence[Frame]) -> Verdict:
        told = [str(units.packets(*r)) for r in self.asked.lose[:3]]
        asked = ", ".join([*told, "..."] if self.asked.lose[3:] else told)
        arrived = sum(f.arrived_ns is not None for f in sure)
        got = f"{len(sure) - arrived} of {len(sure)} of these packets lost"
        if self.seen.numbered is None:
            why = "the link element, which counts packets, could not be asked."
            return unknown("loss by number", asked, why, "can't tell")
        if not sure:
            others = units.count(self.seen.numbered.others, "packet")
            why = f"{others} of others may have had the listed numbers; measure while nobody else uses the link."
            return unknown("loss by number", asked, why, "can't tell")
        return compared("loss by number", asked, got, "0 packets", arrived, 0, 0, "")

    def _unqueued(self) -> list[Frame]:
        """The frames that no queue may have refused: those that came when it was less than half full."""
        a = self.asked
        if not a.rate_mbit:
            return self.paced
        out, waiting, wait_ms = [], 0, 0.0
        known = {id(p.frame): p for p in self.passages}
        for f in self.paced:
            if p := known.get(id(f)):
                waiting, wait_ms = p.waiting, p.wait_ms
            full = a.queue_packets and 2 * waiting >= a.queue_packets or a.queue_ms and 2 * wait_ms >= a.queue_ms
            if not full and not (a.queue_bytes and 2 * wait_ms * a.rate_mbit * 125 >= a.queue_bytes):
                out.append(f)
        return out

    def _share(self, wish: str, hits: int, of: int, least: float, most: float, asked: str = "") -> Verdict:
        """Whether chance alone explains so many; also with the control's own losses taken off.

        `asked` is what a person wrote, where that isn't `least`.
        """
        asked, got = asked or units.loss(least), f"{hits / of:.3%} ({hits} of {of})" if of else "nothing"
        if of < FEW:
            return unknown(wish, asked, f"{of} packets are too few; measure for longer.", "can't tell", got)
        low, high = share_interval(hits, of, self.alpha)
        away = max(low - most, least - high, 0.0)
        forgiven = share_interval(max(0, hits - self.noise.lost), of, self.alpha)[0]
        excused = self.noise.lost and forgiven <= most
        why = f"the machine lost {self.noise.lost} packets on its own loopback."
        if crowded := self.asked.rate_mbit and self._others_share() > OTHERS_SHARE:
            why = "other traffic may have filled the queue."
        noise = 1.0 if wish == "loss" and hits / of > most and (excused or crowded) else 0.0
        return compared(wish, asked, got, f"{low:.3%} to {high:.3%}", away, 0.0, noise, why)

    def _bursty_share(self, lost: int, n: int) -> Verdict:
        mean, z = mean_loss(self.asked), NormalDist().inv_cdf(1 - self.alpha / 2)
        got = f"{lost / n:.3%} ({lost} of {n})" if n else "nothing"
        if n * mean < ENOUGH:
            return unknown("loss", units.loss(mean), f"{n} packets are too few; measure for longer.", "can't tell", got)
        limit = z * loss_deviation(self.asked, n)
        return compared("loss", f"{mean:.3%} in bursts", got, f"{limit:.3%}", abs(lost / n - mean), limit, 0, "")

    def _burst_length(self, frames: Sequence[Frame]) -> Verdict:
        mean, z = mean_burst(self.asked), NormalDist().inv_cdf(1 - self.alpha / 2)
        bursts = [len(list(g)) for is_lost, g in groupby(frames, lambda f: f.arrived_ns is None) if is_lost]
        asked = f"{mean:.2f} packets"
        if len(bursts) < ENOUGH_SPREAD:
            why = f"{len(bursts)} bursts are too few; measure for longer."
            return unknown("length of bursts", asked, why, "can't tell", f"{len(bursts)} bursts")
        limit = z * (max(mean * (mean - 1), 0.01) / len(bursts)) ** 0.5
        got = fmean(bursts)
        return compared("length of bursts", asked, f"{got:.2f} packets", f"{limit:.2f}", abs(got - mean), limit, 0, "")

    # --- order, duplicates, damage ----------------------------------------------------------------

    def _order(self) -> Iterator[Verdict]:
        count = overtaken(self.seen.frames)
        got = f"{count} of {len(self.seen.frames)} packets out of order"
        if self.asked.reorder:
            idle = [p for p in self.passages if p.frame.phase == "idle"]
            if self.asked.trace:
                why = "Packets that overtake beside a trace can't be told from others."
                yield unknown("reorder", units.loss(self.asked.reorder), why, got=got)
            elif self.asked.delay_ms < 1 or delay_quantile_ms(self.asked, 0.0001) < self.asked.delay_ms / 2:
                why = "Packets that overtake can't be told from others where the delay is short or its jitter wide."
                yield unknown("reorder", units.loss(self.asked.reorder), why, got=got)
            else:
                early = sum(self._overtook(p) for p in idle)
                yield self._share("reorder", early, len(idle), self.asked.reorder, self.asked.reorder)
        elif self.asked.keeps_order:
            yield compared("order", "kept", got, "0 packets", count, 0, 0, "")

    def _overtook(self, p: Passage) -> bool:
        return bool(self.asked.reorder) and p.delay_ms < self.asked.delay_ms / 2

    def _shares(self) -> Iterator[Verdict]:
        arrived = [f for f in self.seen.frames if f.arrived_ns is not None and f.phase in PHASES]
        twice, damaged = sum(f.copies > 1 for f in arrived), sum(f.corrupted for f in arrived)
        if twice or self.asked.duplicate:
            # a copy may be lost again, or find the queue full
            least = self.asked.duplicate * (1 - mean_loss(self.asked))
            yield self._share("duplicate", twice, len(arrived), least, self.asked.duplicate)
        if damaged or self.asked.corrupt:
            most = 1 - (1 - self.asked.corrupt) ** (2 if self.asked.duplicate else 1)
            least = self.asked.corrupt * (1 - 2 / 60)
            yield self._share("corrupt", damaged, len(arrived), least, most, units.loss(self.asked.corrupt))
