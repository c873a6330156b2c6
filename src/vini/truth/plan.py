"""What to send over a link so that it shows what it does: little and short, or much for as long as one likes.  Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from vini.dataplane.probe import LEAST_FRAME, MOST_FRAME
from vini.model import Impairment, Value
from vini.truth.meaning import delay_quantile_ms, frame_s, mean_loss, spacing_ms

PROBE_BYTES = 100
CONTROL_S = 0.001  # between two of the control's frames
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

    A link without a rate can't be loaded: it is measured without load all the time.
    """
    if not a.rate_mbit:
        return [_probes(a, "idle", 0.0, for_s, directions)]
    third_s = for_s / 3 - PAUSE_S
    out = [_probes(a, "idle", 0.0, third_s, directions)]
    if load and _fits(a, third_s, most):
        start_s = for_s / 3
        every_s = frame_s(a, most) / load
        out.append(Sending("load", start_s, every_s, int(third_s / every_s), most))
    return out + _full(a, 2 * for_s / 3, third_s, most)


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
    """Single packets, so far apart that none holds up another."""
    apart_s = max(0.002, directions / MOST_PROBES_PER_S, frame_s(a, PROBE_BYTES) / PROBES_SHARE, spacing_ms(a) / 1000)
    return Sending(phase, start_s, apart_s, max(1, int(for_s / apart_s)), PROBE_BYTES)


def _train(a: Impairment, start_s: float, most: int) -> list[Sending]:
    size = most if _fits(a, 2 * TRAIN_S, most) else LEAST_FRAME
    each_s = frame_s(a, size)
    if not each_s or each_s * LEAST_TRAIN > 2 * TRAIN_S:
        return []
    count = min(MOST_TRAIN, max(LEAST_TRAIN, int(TRAIN_S / each_s)), _room(a, size))
    return [Sending("full", start_s, each_s, count, size, count)]


def _full(a: Impairment, start_s: float, for_s: float, most: int) -> list[Sending]:
    """More than the rate; where the queue can be filled in that time, it is filled."""
    size = most if _fits(a, for_s, most) else LEAST_FRAME
    each_s = frame_s(a, size)
    if each_s * LEAST_TRAIN > for_s:
        return []
    passes = max(LEAST_PASSING, 1 - mean_loss(a))  # what is lost on purpose doesn't fill anything
    every_s = each_s * passes / OVERLOAD
    room = _room(a, size)
    ahead = max(3, min(int(HEAD_START_S / each_s), room // 2))
    if room * each_s < for_s / 3:
        ahead = math.ceil(1.1 * room / passes) + 3
    return [Sending("full", start_s, every_s, ahead + int(for_s / every_s), size, ahead)]


def _fits(a: Impairment, for_s: float, most: int) -> bool:
    return frame_s(a, most) * LEAST_TRAIN <= for_s


def _room(a: Impairment, frame_bytes: int) -> int:
    """Frames that may be sent at once without one being refused by the queue."""
    limits = [float(a.queue_packets), a.queue_bytes / frame_bytes]
    limits.append(a.queue_ms / 1000 / frame_s(a, frame_bytes) if a.rate_mbit else 0.0)
    return max(3, int(min((x for x in limits if x), default=MOST_TRAIN)))


def _last_s(a: Impairment, sendings: Sequence[Sending]) -> float:
    backlog_s = max((s.count * frame_s(a, s.frame_bytes) - (s.end_s - s.start_s) for s in sendings), default=0.0)
    return max(0.0, backlog_s) + delay_quantile_ms(a, 0.9999) / 1000
