"""Measuring on this machine: both ends of each link are here, by one clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vini.dataplane import probe
from vini.dataplane.probe import OWN, Flight, Stream
from vini.model import NotFound, Value
from vini.node import netns
from vini.truth.chance import quantile
from vini.truth.counting import Asked, Counter, Counts
from vini.truth.direction import Direction
from vini.truth.plan import CONTROL_S, PROBE_BYTES, Sending, drain_s, duration_s, steady
from vini.truth.seen import Noise, Seen, Taken, frames, noise, others_bytes, passages

Where = Callable[[str], Path]  # sliver -> its network namespace


class Delays(Value, frozen=True):
    """Of one direction, in ms."""

    median: float
    p99: float
    noise: Noise  # the machine's own, in the same seconds


class Here:
    """A `measure.Bench` over slivers of this machine.  `counter` counts packets that are lost by number."""

    def __init__(self, where: Where, counter: Counter | None = None):
        self._where, self._counter = where, counter

    async def measure(self, all_: Sequence[Direction], sendings: Sequence[Sequence[Sending]]) -> list[Taken]:
        """See Bench.  Raises NotFound where a sliver or a vif is not there."""
        for d in all_:
            self._check(d)
        asked = [d.asked for d in all_]
        streams = [self._stream(d, s) for d, mine in zip(all_, sendings, strict=True) for s in mine]
        before = [self._sent_bytes(d) for d in all_]
        beside, counts, sent = Asked(all_, self._counter), Counts(all_, self._counter), [0] * len(all_)
        counts.begin()
        try:
            waits_s = drain_s(asked, sendings)
            found = await probe.measure([control(duration_s(sendings)), *streams], waits_s)
            flights = iter(found.flights[1:])
            ours = [[(s.phase, next(flights)) for s in mine] for mine in sendings]
            sent = [sum(len(f.sent_ns) for _, f in mine) for mine in ours]
        finally:
            numbered = counts.end(sent)
        after = [self._sent_bytes(d) for d in all_]
        quiet = noise(found.flights[0], found)
        until_ns = found.began_ns + round((duration_s(sendings) + waits_s) * 1e9)
        told = zip(ours, before, after, numbered, beside.end(), strict=True)
        return [
            Taken(
                Seen(
                    frames(mine), _missed(mine), others_bytes(mine, now - was), numbers, said.began_ns, until_ns,
                    said.lapses,
                ),
                quiet,
            )
            for mine, was, now, numbers, said in told
        ]  # fmt: skip

    async def delays(self, d: Direction, load_mbit: float, for_s: float) -> Delays | None:
        """Of packets beside so much load, without their time in a queue; None where none arrived."""
        self._check(d)
        sendings = steady(load_mbit, for_s)
        streams = [control(for_s), *(self._stream(d, s) for s in sendings)]
        found = await probe.measure(streams, drain_s([d.asked], [sendings]))
        flights = [(s.phase, f) for s, f in zip(sendings, found.flights[1:], strict=True)]
        delays_ms = sorted(p.delay_ms for p in passages(d.asked, frames(flights)))
        if not delays_ms:
            return None
        return Delays(quantile(delays_ms, 0.5), quantile(delays_ms, 0.99), noise(found.flights[0], found))

    def _check(self, d: Direction) -> None:
        for sliver in (d.source, d.destination):
            if not self._where(sliver).exists():
                raise NotFound(f"Sliver {sliver} isn't up, so its links can't be measured; `vini status` says why.")

    def _stream(self, d: Direction, s: Sending) -> Stream:
        return stream(s, (self._where(d.source), d.vif), (self._where(d.destination), d.peer_vif))

    def _sent_bytes(self, d: Direction) -> int:
        """That left by the vif so far (proc(5), /proc/net/dev)."""
        with netns.inside(self._where(d.source)):
            lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
        counts = next((rest for dev, _, rest in (x.partition(":") for x in lines) if dev.strip() == d.vif), "")
        if not counts:
            raise NotFound(f"Sliver {d.source} has no vif {d.vif}; `vini status` says why.")
        return int(counts.split()[8])


def control(for_s: float) -> Stream:
    """Frames over a loopback of the probe's own: how punctual the machine is."""
    return Stream(OWN, "lo", OWN, "lo", 0, round(CONTROL_S * 1e9), int(for_s / CONTROL_S), PROBE_BYTES)


def stream(s: Sending, source: tuple[Path, str], destination: tuple[Path, str]) -> Stream:
    """As the probe is told it, between these ends."""
    return Stream(
        *source, *destination, round(s.start_s * 1e9), round(s.interval_s * 1e9), s.count, s.frame_bytes, s.ahead
    )


def _missed(flights: Sequence[tuple[str, Flight]]) -> int:
    return max(f.missed for _, f in flights)
