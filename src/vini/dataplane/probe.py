"""The link probe's process: numbered frames from vif to vif, and when each left and arrived.

Its source is in `probe/`, one concept per file.  It is compiled when first needed, measures once, and ends.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from pathlib import Path

from vini.dataplane.build import build
from vini.model import Value, ViniError

SOURCE = Path(__file__).with_name("probe")
LEAST_FRAME, MOST_FRAME, HEADER_BYTES = 60, 1514, 14  # as in frame.h
_START_S = 30.0  # what starting, warming up and telling may take at most on a busy machine
OWN = Path("-")  # a namespace of the probe's own; only its loopback is there
ELSEWHERE = Path("@")  # on another machine: the end's address (MAC) stands for its name
_HEAD, _ABOUT, _ARRIVAL = struct.Struct("<3q"), struct.Struct("<3q"), struct.Struct("<IIq")


class Stream(Value, frozen=True):
    """Frames to be sent from one vif to another: the first `ahead` at once, the others at an even pace."""

    netns: Path
    dev: str
    peer_netns: Path
    peer_dev: str
    start_ns: int  # after the beginning of the measurement
    interval_ns: int
    count: int
    frame_bytes: int  # Ethernet header included
    ahead: int = 0

    def due_ns(self, number: int) -> int:
        """When that frame is to leave, after the beginning of the measurement."""
        return self.start_ns + max(0, number - self.ahead + 1) * self.interval_ns


class Arrival(Value, frozen=True):
    """One copy of a frame that came out of the link."""

    number: int  # place in its stream, from 0
    at_ns: int  # CLOCK_REALTIME, by the kernel
    corrupted: bool


class Flight(Value, frozen=True):
    """What became of a stream."""

    stream: Stream
    sent_ns: tuple[int, ...]  # CLOCK_REALTIME just before each frame was given to the kernel
    arrivals: tuple[Arrival, ...]  # in the order in which they came
    missed: int  # frames of ours, at that vif, that came but that the probe was too slow to read


class Measurement(Value, frozen=True):
    """All flights of one measurement."""

    flights: tuple[Flight, ...]
    began_ns: int  # CLOCK_REALTIME; to it the streams' times are added
    step_ns: int  # by how much the machine's clock was set meanwhile
    real_time: bool  # whether the probe may run in real time
    overrun: bool  # it used that up: it had more to do, without a pause, than may be done so


def built() -> Path:
    """The program for the present source."""
    return build("probe", SOURCE)


async def measure(streams: Sequence[Stream], drain_s: float) -> Measurement:
    """Send them all, and wait `drain_s` longer for what is still on its way.  When cancelled, sending ends.

    Raises ViniError with the probe's own sentence where a vif or a namespace is missing.
    """
    program = await asyncio.to_thread(built)
    last_s = max((s.start_ns + s.interval_ns * s.count) / 1e9 for s in streams)
    process = await asyncio.create_subprocess_exec(
        str(program), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(2 * last_s + drain_s + _START_S):
            told, complaint = await process.communicate(plan(streams, drain_s).encode())
    except TimeoutError as e:
        raise ViniError("The link probe did not end in time; the machine is too busy to measure on.") from e
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise ViniError(f"The links can't be measured. {complaint.decode().strip()}")
    return parsed(streams, told)


def plan(streams: Sequence[Stream], drain_s: float) -> str:
    """As the program reads it."""
    return "".join(_line(s) for s in streams) + f"drain {round(drain_s * 1e9)}\n"


def _line(s: Stream) -> str:
    ends = f"{s.netns} {s.dev} {s.peer_netns} {s.peer_dev}"
    return f"stream {ends} {s.start_ns} {s.interval_ns} {s.count} {s.ahead} {s.frame_bytes}\n"


def parsed(streams: Sequence[Stream], told: bytes) -> Measurement:
    """What the program tells of these streams.  Raises ViniError where that isn't all."""
    try:
        return _parsed(streams, told)
    except struct.error as e:
        raise ViniError("The link probe ended before it had told all that it measured; measure again.") from e


def _parsed(streams: Sequence[Stream], told: bytes) -> Measurement:
    began_ns, step_ns, demotions = _HEAD.unpack_from(told)
    at, flights = _HEAD.size, []
    for stream in streams:
        sent, arrived, missed = _ABOUT.unpack_from(told, at)
        at += _ABOUT.size
        left = struct.unpack_from(f"<{sent}q", told, at)
        at += 8 * sent
        end = at + _ARRIVAL.size * arrived
        arrivals = tuple(Arrival(n, t, bool(bad)) for n, bad, t in _ARRIVAL.iter_unpack(told[at:end]))
        at = end
        flights.append(Flight(stream, left, arrivals, missed))
    return Measurement(tuple(flights), began_ns, step_ns, demotions >= 0, demotions > 0)
