"""`udp`: a numbered stream at a fixed rate, for exact loss, the longest gap, one-way delay and jitter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

from vini.experiment.probe import Probe, Stage
from vini.experiment.probes.ping import SCRIPT, moment
from vini.experiment.process import Program, last_words
from vini.experiment.statistics import Row, jitter, longest_gap, rounded, spread

DRAIN_S = 1.0  # the receiver stays this much longer than the sender, for what is still on its way


class Udp(Probe, frozen=True):
    """Datagrams with sequence numbers from one sliver's loopback to another's.

    One row for each datagram sent: `delay_ms` null means that it never arrived.  `copies` counts
    arrivals beyond the first, `order` how many arrived before it, as they left the receiver's queue.
    Delays are one-way; between slivers on two nodes they are as right as these nodes' clocks are known
    (`clocks` in the run's record).
    """

    source: str
    destination: str
    rate: float = 100.0  # datagrams per second
    size: int = 200  # bytes of UDP payload, 16 at least

    columns: ClassVar[dict[str, str]] = {
        "t": "float",
        "seq": "int",
        "delay_ms": "float",
        "copies": "int",
        "order": "int",
    }

    def slivers(self) -> tuple[str, ...]:
        return (self.source, self.destination)

    async def measure(self, stage: Stage) -> None:
        source, destination = stage.address(self.source), stage.address(self.destination)
        python = stage.network.script(SCRIPT)
        receive = [*python, "receive", destination, str(stage.port)]
        send = [*python, "send", source, destination, str(stage.port), f"{self.rate:g}", str(self.size)]
        sent: dict[int, int] = {}
        arrived: list[tuple[int, int]] = []
        began: dict[str, tuple[int, int]] = {}  # sliver -> a moment by both of its clocks
        drained = asyncio.Event()
        async with Program(stage.enter(self.destination, receive), stage.log) as receiver:
            ready = asyncio.Event()
            reading = asyncio.create_task(
                _read(receiver, drained, arrived, ready, lambda m: began.update({self.destination: m}))
            )
            await asyncio.wait({reading, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
            async with Program(stage.enter(self.source, send), stage.log) as sender:
                async for _, line in sender.lines(stage.stop):
                    if first := moment([line]):
                        began[self.source] = first
                        continue
                    number, _, at = line.partition(" ")
                    sent[int(number)] = int(at)
            if not stage.stop.is_set() or reading.done():
                stage.note(f"The UDP stream ended by itself: {last_words(stage.log)}")
            await asyncio.sleep(DRAIN_S)
            drained.set()
            await reading
        zero, there = (stage.zero_at(end, began.get(end)) for end in self.slivers())
        stage.rows += join(sent, [(n, at + round((zero - there) * 1e9)) for n, at in arrived], zero)

    def summarise(self, rows: list[Row]) -> dict[str, Any]:
        got = [r for r in rows if r["delay_ms"] is not None]
        arrivals = [r["t"] + r["delay_ms"] / 1000 for r in got]
        delays = [r["delay_ms"] for r in sorted(got, key=lambda r: r["order"])]
        gap, since = longest_gap(arrivals)
        return {
            "sent": len(rows),
            "lost": len(rows) - len(got),
            "loss": rounded(1 - len(got) / len(rows), 6) if rows else None,
            "duplicates": sum(r["copies"] for r in rows),
            "reordered": reordered(got),
            "longest_gap_ms": rounded(gap * 1000, 3),
            "longest_gap_from_s": rounded(since, 3),
            "longest_loss_run": longest_loss_run(rows),
            **spread(delays, "ms"),
            "jitter_ms": rounded(jitter(delays)),
            "late_ms": pacing_ms([r["t"] for r in rows], self.rate),
        }


async def _read(
    receiver: Program, stop: asyncio.Event, arrived: list[tuple[int, int]], ready: asyncio.Event,
    begin: Callable[[tuple[int, int]], None],
) -> None:  # fmt: skip
    async for _, line in receiver.lines(stop):
        if first := moment([line]):
            begin(first)
        elif line == "ready":
            ready.set()
        else:
            number, _, at = line.split(" ")
            arrived.append((int(number), int(at)))


def join(sent: dict[int, int], arrived: list[tuple[int, int]], zero: float) -> list[Row]:
    """One row for each number sent (ns), with the delay of its first arrival (ns); pure."""
    first: dict[int, int] = {}
    order: dict[int, int] = {}
    copies: dict[int, int] = {}
    for number, at in arrived:
        if number in first:
            copies[number] = copies.get(number, 0) + 1
        else:
            first[number] = at
            order[number] = len(order)
    return [
        {
            "t": at / 1e9 - zero,
            "seq": number,
            "delay_ms": (first[number] - at) / 1e6 if number in first else None,
            "copies": copies.get(number, 0),
            "order": order.get(number),
        }
        for number, at in sorted(sent.items())
    ]


def reordered(got: list[Row]) -> int:
    """How many arrived after one with a higher number (RFC 4737, type-P-reordered)."""
    count, highest = 0, -1
    for row in sorted(got, key=lambda r: r["order"]):
        count += row["seq"] < highest
        highest = max(highest, row["seq"])
    return count


def longest_loss_run(rows: list[Row]) -> int:
    """The most consecutive numbers that were lost."""
    longest = run = 0
    for row in rows:
        run = run + 1 if row["delay_ms"] is None else 0
        longest = max(longest, run)
    return longest


def pacing_ms(times: list[float], rate: float) -> float | None:
    """By how much (ms, 95th percentile) datagrams left later than the even pace wanted."""
    late = [max(0.0, (t - times[0]) - i / rate) * 1000 for i, t in enumerate(times)]
    return spread(late, "ms")["p95_ms"]
