"""What to send over a link so that it shows what it does: little and short, or much for as long as one likes.  Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from vini.dataplane.probe import LEAST_FRAME, MOST_FRAME
from vini.model import Impairment, Value
from vini.text.trace import OPPORTUNITY_BITS, parse
from vini.truth.course import NO_LIMIT, speed
from vini.truth.meaning import delay_quantile_ms, frame_s, mean_loss, spacing_ms

PROBE_BYTES = 100
CONTROL_S = 0.001  # between two of the control's frames
MOST_MBIT = 1000.0  # of all links that are filled at one time: what two cores send, carry and read
MOST_PROBES_PER_S = 4000  # over all directions: what a busy machine still sends on time
PROBES_SHARE = 0.1  # of the rate, at most
CALM_S, TRAINS_S = 1.3, 0.4  # of a light check: single packets, then a train over each link
LEAST_PROBES = 30  # where there are so many links that they have to share `MOST_PROBES_PER_S`
TRAIN_S, LEAST_TRAIN, MOST_TRAIN = 0.2, 10, 400  # of one train: how long, and of how many frames
LEAST_PASSING = 0.5  # of the frames that fill a link, although more are to be lost
OVERLOAD = 1.1  # of the rate, so that a link that is too fast is seen
HEAD_START_S = 0.02  # of frames that wait, so that a link stays full while the sender is held up
PAUSE_S = 0.1  # between phases
PATIENCE_S = 0.25  # for packets that are later than they should be
LONGEST_WAIT_S = 5.0  # for what a trace holds back; nothing is said of what comes later

Phase = Literal["idle", "load", "full"]


class Sending(Value, frozen=True):
    """One stream of a direction."""

    phase: Phase
    start_s: float
    interval_s: float
    count: int
    frame_bytes: int
    ahead: int = 0

    @property
    def end_s(self) -> float:
        """When its last frame leaves."""
        return self.start_s + self.interval_s * max(0, self.count - self.ahead + 1)


def light(all_: Sequence[Impairment], most: Sequence[int] = ()) -> list[list[Sending]]:
    """Streams for each of these directions: about two seconds, more for some hundred of them.

    `most` is the largest frame, in bytes, that each carries.  Never more than a tenth of a rate, but for a train of
    frames that fills the link for a fifth of a second.
    """
    slot_s = TRAINS_S / max(1, len(all_))
    calm_s = max(CALM_S, LEAST_PROBES * len(all_) / MOST_PROBES_PER_S)
    return [
        [_probes(a, "idle", 0.0, calm_s, len(all_)), *_train(a, calm_s + PAUSE_S + i * slot_s, size)]
        for i, (a, size) in enumerate(zip(all_, most or [MOST_FRAME] * len(all_), strict=True))
    ]


def thorough(a: Impairment, load: float, for_s: float, directions: int, most: int = MOST_FRAME) -> list[Sending]:
    """Streams for one of these many directions: without load, at `load` (a share of its rate), and full.

    A link without a rate can't be loaded: it is measured without load all the time.  One that follows a trace is full
    for two thirds of it: what is 80 % of its rate changes faster than one can send.
    """
    if a.trace and 0 < most_mbit(a) <= MOST_MBIT:
        start_s = for_s / 3
        full = _full_by_trace(a, start_s, 2 * start_s - PAUSE_S, most)
        return [_probes(a, "idle", 0.0, start_s - PAUSE_S if full else for_s, directions), *full]
    if a.trace or not a.rate_mbit:
        return [_probes(a, "idle", 0.0, for_s, directions)]
    third_s = for_s / 3 - PAUSE_S
    out = [_probes(a, "idle", 0.0, third_s, directions)]
    if load and _fits(a, third_s, most):
        start_s = for_s / 3
        every_s = frame_s(a, most) / load
        out.append(Sending("load", start_s, every_s, int(third_s / every_s), most))
    return out + _full(a, 2 * for_s / 3, third_s, most)


def most_mbit(a: Impairment) -> float:
    """What the link gives when it is fastest; 0: nothing limits it, or not always."""
    most = speed(a).most if a.trace else a.rate_mbit
    return most if most < NO_LIMIT else 0.0


def steady(load_mbit: float, for_s: float) -> list[Sending]:
    """Single packets each 2 ms, beside so much of large ones."""
    out = [Sending("load", 0.0, 0.002, int(for_s / 0.002), PROBE_BYTES)]
    if load_mbit:
        every_s = MOST_FRAME * 8 / load_mbit / 1e6
        out.append(Sending("load", 0.0, every_s, int(for_s / every_s), MOST_FRAME))
    return out


def drain_s(all_: Sequence[Impairment], sendings: Sequence[Sequence[Sending]]) -> float:
    """How long to wait after the last frame for all that may still be on its way."""
    return PATIENCE_S + max((_last_s(a, s) for a, s in zip(all_, sendings, strict=True)), default=0.0)


def duration_s(sendings: Sequence[Sequence[Sending]]) -> float:
    """Until the last frame has left."""
    return max((s.end_s for one in sendings for s in one), default=0.0)


def _probes(a: Impairment, phase: Phase, start_s: float, for_s: float, directions: int) -> Sending:
    """Single packets, so far apart that none holds up another; by a trace, as a rule."""
    own_s = _seldom_s(a) if a.trace else frame_s(a, PROBE_BYTES) / PROBES_SHARE
    apart_s = max(0.002, directions / MOST_PROBES_PER_S, own_s, spacing_ms(a) / 1000)
    return Sending(phase, start_s, apart_s, max(1, int(for_s / apart_s)), PROBE_BYTES)


def _seldom_s(a: Impairment) -> float:
    """Of a trace's opportunities each may be used up by one packet; so for every other one."""
    mean = speed(a).mean
    if not 0 < mean < NO_LIMIT:
        return 0.0
    taken_bits = 2 * OPPORTUNITY_BITS if parse(a.trace).opportunities_ms else PROBE_BYTES * 8 / PROBES_SHARE
    return taken_bits / mean / 1e6


def _train(a: Impairment, start_s: float, most: int) -> list[Sending]:
    if a.trace:
        return _train_by_trace(a, start_s, most)
    size = most if _fits(a, 2 * TRAIN_S, most) else LEAST_FRAME
    each_s = frame_s(a, size)
    if not each_s or each_s * LEAST_TRAIN > 2 * TRAIN_S:
        return []
    count = min(MOST_TRAIN, max(LEAST_TRAIN, int(TRAIN_S / each_s)), _room(a, size, each_s))
    return [Sending("full", start_s, each_s, count, size, count)]


def _train_by_trace(a: Impairment, start_s: float, size: int) -> list[Sending]:
    """As much as it gives in the time of a train on average."""
    if not 0 < most_mbit(a) <= MOST_MBIT:
        return []
    each_s = size * 8 / speed(a).mean / 1e6
    count = min(MOST_TRAIN, max(LEAST_TRAIN, int(TRAIN_S / each_s)), _room(a, size, each_s))
    return [Sending("full", start_s, each_s, count, size, count)]


def _full_by_trace(a: Impairment, start_s: float, for_s: float, size: int) -> list[Sending]:
    """More than it gives at its fastest, all the time; its queue evens out what is shorter than that is known for."""
    each_s = size * 8 / most_mbit(a) / 1e6
    if each_s * LEAST_TRAIN > for_s:
        return []
    passes = max(LEAST_PASSING, 1 - max(a.loss, parse(a.trace).most("loss")))
    every_s = each_s * passes / OVERLOAD
    ahead = max(3, min(int(HEAD_START_S / each_s), _room(a, size, each_s) // 2))
    return [Sending("full", start_s, every_s, ahead + int(for_s / every_s), size, ahead)]


def _full(a: Impairment, start_s: float, for_s: float, most: int) -> list[Sending]:
    """More than the rate; where the queue can be filled in that time, it is filled."""
    size = most if _fits(a, for_s, most) else LEAST_FRAME
    each_s = frame_s(a, size)
    if each_s * LEAST_TRAIN > for_s:
        return []
    passes = max(LEAST_PASSING, 1 - mean_loss(a))  # what is lost on purpose doesn't fill anything
    every_s = each_s * passes / OVERLOAD
    room = _room(a, size, each_s)
    ahead = max(3, min(int(HEAD_START_S / each_s), room // 2))
    if room * each_s < for_s / 3:
        ahead = math.ceil(1.1 * room / passes) + 3
    return [Sending("full", start_s, every_s, ahead + int(for_s / every_s), size, ahead)]


def _fits(a: Impairment, for_s: float, most: int) -> bool:
    return frame_s(a, most) * LEAST_TRAIN <= for_s


def _room(a: Impairment, frame_bytes: int, each_s: float) -> int:
    """Frames that may be sent at once without one being refused by the queue, where each is on the wire for so long."""
    limits = [float(a.queue_packets), a.queue_bytes / frame_bytes]
    limits.append(a.queue_ms / 1000 / each_s if each_s else 0.0)
    return max(3, int(min((x for x in limits if x), default=MOST_TRAIN)))


def _last_s(a: Impairment, sendings: Sequence[Sending]) -> float:
    if a.trace:
        return min(LONGEST_WAIT_S, _last_by_trace_s(a, sendings))
    backlog_s = max((s.count * frame_s(a, s.frame_bytes) - (s.end_s - s.start_s) for s in sendings), default=0.0)
    return max(0.0, backlog_s) + delay_quantile_ms(a, 0.9999) / 1000


def _last_by_trace_s(a: Impairment, sendings: Sequence[Sending]) -> float:
    """With its longest pause, and twice what the rest takes on average."""
    by, delay_ms = speed(a), max(a.delay_ms, parse(a.trace).most("delay_ms"))
    sent = float(max((s.count * s.frame_bytes for s in sendings), default=0))
    limits = (a.queue_packets * MOST_FRAME, a.queue_bytes, a.queue_ms * most_mbit(a) * 125)
    held = min([sent, *(x for x in limits if x)])
    waits_s = 2 * held * 8 / by.mean / 1e6 if 0 < by.mean < NO_LIMIT else 0.0
    return waits_s + (by.longest_ms + delay_ms) / 1000 + delay_quantile_ms(a, 0.9999) / 1000
