"""What was seen of one direction of a link, frame by frame, beside when each should have come.  Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Literal, NamedTuple

from vini.dataplane.probe import Flight, Measurement
from vini.model import Impairment, Value
from vini.truth.chance import quantile
from vini.truth.counting import Lapses, Numbered
from vini.truth.meaning import frame_s


class Frame(NamedTuple):
    """One frame that was sent.  Times are ns of one clock."""

    sent_ns: int
    frame_bytes: int
    phase: str  # of the plan: "idle", "load", "full"
    arrived_ns: int | None  # its first copy; None: never
    copies: int = 1
    corrupted: bool = False


class Seen(Value, frozen=True):
    """One direction, measured."""

    frames: tuple[Frame, ...]  # in the order of sending
    missed: int = 0  # frames that came, but that the probe was too slow to read
    other_bytes: int = 0  # that left by the same vif meanwhile, and were not ours
    numbered: Numbered | None = None  # where packets are lost by number
    began_ns: int | None = None  # when it began with its trace, by the frames' clock; 0: it has none; None: unknown
    until_ns: int = 0  # by the same clock: when we stopped to listen
    lapses: Lapses = Lapses()


class Noise(Value, frozen=True):
    """The machine's own part: by how much frames over an undelayed loopback were late, in the same seconds."""

    median_ms: float = 0.0
    p99_ms: float = 0.0
    lost: int = 0
    step_ms: float = 0.0  # by how much the machine's clock was set
    overrun: bool = False  # the sender had more to do than this machine can


# By how many clocks the times of one direction are: one; two, of which only both directions together tell a delay;
# or two where nothing came back, so that nothing tells it.
Clock = Literal["one", "round trip", "none"]


class Taken(Value, frozen=True):
    """A direction as it was measured, and what the machines had to do with it."""

    seen: Seen
    noise: Noise
    clock: Clock = "one"
    unsure_ms: float = 0.0  # of its delays, beside the noise


class Passage(NamedTuple):
    """A frame that arrived, seen from where its last bit left the sender."""

    frame: Frame
    delay_ms: float  # from then to its arrival
    waiting: int  # frames that waited before it when it came to the queue
    wait_ms: float


def frames(flights: Sequence[tuple[str, Flight]]) -> tuple[Frame, ...]:
    """Of all streams of one direction, with their phases."""
    out = []
    for phase, flight in flights:
        copies = [0] * len(flight.sent_ns)
        first: dict[int, int] = {}
        corrupted = set()
        for arrival in flight.arrivals:
            if arrival.number < len(copies):
                copies[arrival.number] += 1
                first.setdefault(arrival.number, arrival.at_ns)
                if arrival.corrupted:
                    corrupted.add(arrival.number)
        size = flight.stream.frame_bytes
        for n, sent_ns in enumerate(flight.sent_ns):
            out.append(Frame(sent_ns, size, phase, first.get(n), copies[n], n in corrupted))
    return tuple(sorted(out, key=lambda f: f.sent_ns))


def others_bytes(flights: Sequence[tuple[str, Flight]], sent_bytes: int) -> int:
    """Of so many bytes that left by a vif, those that were not ours."""
    missed = max(f.missed for _, f in flights) * max(f.stream.frame_bytes for _, f in flights)
    ours = missed + sum(len(f.arrivals) * f.stream.frame_bytes for _, f in flights)
    return max(0, sent_bytes - ours)


def noise(flight: Flight, found: Measurement) -> Noise:
    """From the control's flight: how late each of its frames came after it was due."""
    late_ms = sorted((a.at_ns - found.began_ns - flight.stream.due_ns(a.number)) / 1e6 for a in flight.arrivals)
    lost = len(flight.sent_ns) - len({a.number for a in flight.arrivals})
    median, p99 = (max(0.0, quantile(late_ms, share)) if late_ms else 0.0 for share in (0.5, 0.99))
    return Noise(median, p99, lost, found.step_ns / 1e6, found.overrun)


def passages(asked: Impairment, seen: Sequence[Frame]) -> list[Passage]:
    """The frames that arrived, without their time in the queue and on the wire: it is computed, from what was sent.

    Only frames that arrived took a turn: what is lost is lost before the queue, or at its end.
    """
    out = []
    zero_ns = seen[0].sent_ns if seen else 0  # since the epoch there are more ns than a float can tell apart
    free_ns = 0.0
    turns: deque[float] = deque()  # when those that wait get their turn
    for f in seen:
        if f.arrived_ns is None:
            continue
        sent_ns = f.sent_ns - zero_ns
        while turns and turns[0] <= sent_ns:
            turns.popleft()
        turn_ns = max(free_ns, sent_ns)
        free_ns = turn_ns + frame_s(asked, f.frame_bytes) * 1e9
        out.append(Passage(f, (f.arrived_ns - zero_ns - free_ns) / 1e6, len(turns), (turn_ns - sent_ns) / 1e6))
        turns.append(turn_ns)
        free_ns += (f.copies - 1) * frame_s(asked, f.frame_bytes) * 1e9  # copies are sent like others
    return out


def overtaken(seen: Sequence[Frame]) -> int:
    """Frames that arrived after one that was sent later."""
    count, latest = 0, 0
    there = ((f.arrived_ns, f.sent_ns) for f in seen if f.arrived_ns is not None)
    for _, sent_ns in sorted(there):
        count += sent_ns < latest
        latest = max(latest, sent_ns)
    return count
