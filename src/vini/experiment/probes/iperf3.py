"""`iperf3`: the goodput of one TCP connection, as its receiver counts it."""

from __future__ import annotations

import asyncio
import re
from typing import Any, ClassVar

from vini.experiment.probe import Probe, Stage
from vini.experiment.process import Program, last_words
from vini.experiment.statistics import Row, rounded, spread

RECEIVED = re.compile(r"\[ *\d+\] +([\d.]+)-([\d.]+) +sec +[\d.]+ \w?Bytes +([\d.]+) Kbits/sec *$")
SENT = re.compile(
    r"\[ *\d+\] +([\d.]+)-([\d.]+) +sec +[\d.]+ \w?Bytes +[\d.]+ Kbits/sec +(\d+) +([\d.]+) (\w?)Bytes *$"
)
FACTOR = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50, "E": 1 << 60}
WIDEST = 1 << 30  # bytes: no window of TCP is wider (RFC 7323, section 2.2)
LISTENING = "Server listening"


class Iperf3(Probe, frozen=True):
    """One TCP connection that sends all it can, between two slivers' loopbacks.

    The receiver's intervals are the record: bytes that arrived, not bytes handed to a socket.
    Text output is read as it comes (a cut path can't take it away, as it would iperf3's JSON).

    `window` is iperf3's `-w`: both ends' socket buffers.  Linux doubles the number (socket(7))
    and keeps a part for its own bookkeeping, so the window on the wire differs from it; the
    kernel's share changes with segment size and version.  So the summary says what was achieved.
    """

    source: str
    destination: str
    window: int = 0  # bytes asked of setsockopt(SO_SNDBUF, SO_RCVBUF); 0: the kernel's own tuning
    every_s: float = 0.5
    rate_mbit: float = 0.0  # 0: all that TCP gets

    columns: ClassVar[dict[str, str]] = {
        "t": "float", "seconds": "float", "mbit_s": "float", "side": "str", "retransmits": "int", "cwnd": "int",
    }  # fmt: skip
    tools: ClassVar[tuple[tuple[str, str], ...]] = (("iperf3", "iperf3"),)

    def slivers(self) -> tuple[str, ...]:
        return (self.source, self.destination)

    async def measure(self, stage: Stage) -> None:
        async with Program(stage.enter(self.destination, self._server(stage)), stage.log) as server:
            ready = asyncio.Event()
            reading = asyncio.create_task(self._read_server(server, stage, ready))
            await asyncio.wait({reading, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
            while not stage.stop.is_set() and not reading.done():
                async with Program(stage.enter(self.source, self._client(stage)), stage.log) as client:
                    async for at, line in client.lines(stage.stop):
                        if row := sent(line, at - stage.zero):
                            stage.rows.append(row)
                if not stage.stop.is_set():  # the path was cut before the connection, or for too long
                    stage.note(f"iperf3 ended by itself and was started again: {last_words(stage.log)}")
                    await stage.pause(1.0)
            if reading.done() and not stage.stop.is_set():
                stage.note(f"The iperf3 server ended by itself: {last_words(stage.log)}")
            await reading

    async def _read_server(self, server: Program, stage: Stage, ready: asyncio.Event) -> None:
        async for at, line in server.lines(stage.stop):
            if LISTENING in line:
                ready.set()
            elif row := received(line, at - stage.zero):
                stage.rows.append(row)

    def _server(self, stage: Stage) -> list[str]:
        reporting = ["-i", f"{self.every_s:g}", "-f", "k", "--forceflush"]
        return ["iperf3", "-s", "-B", stage.address(self.destination), "-p", str(stage.port), *reporting]

    def _client(self, stage: Stage) -> list[str]:
        ends = ["-c", stage.address(self.destination), "-B", stage.address(self.source), "-p", str(stage.port)]
        window = ["-w", str(self.window)] if self.window else []
        rate = ["-b", f"{self.rate_mbit:g}M"] if self.rate_mbit else []
        reporting = ["-t", "86400", "-i", f"{self.every_s:g}", "-f", "k", "--forceflush", "--connect-timeout", "3000"]
        return ["iperf3", *ends, *reporting, *window, *rate]

    def summarise(self, rows: list[Row]) -> dict[str, Any]:
        got = [r for r in rows if r["side"] == "received"]
        seconds = sum(r["seconds"] for r in got)
        stalled = sum(r["seconds"] for r in got if r["mbit_s"] == 0)
        return {
            "intervals": len(got),
            **spread([r["mbit_s"] for r in got], "mbit_s"),
            "goodput_mbit_s": rounded(sum(r["mbit_s"] * r["seconds"] for r in got) / seconds) if seconds else None,
            "stalled_s": rounded(stalled, 3),
            "retransmits": sum(r["retransmits"] or 0 for r in rows if r["side"] == "sent"),
        }


def received(line: str, at: float) -> Row | None:
    """An interval line of the server; `at` is when it was printed, the end of the interval."""
    found = RECEIVED.match(line)
    if not found:
        return None
    seconds = float(found[2]) - float(found[1])
    return _row(at - seconds, seconds, float(found[3]) / 1000, "received") if seconds > 0 else None


def sent(line: str, at: float) -> Row | None:
    """An interval line of the client: it also knows retransmissions and the congestion window (bytes)."""
    found = SENT.match(line)
    if not found:
        return None
    seconds = float(found[2]) - float(found[1])
    mbit = float(line.split("Bytes", 1)[1].split()[0]) / 1000
    row = _row(at - seconds, seconds, mbit, "sent")
    window = int(float(found[4]) * FACTOR[found[5]])
    # iperf3 sometimes reads its last interval of a connection that is closed: both are leftovers of memory then.
    return row if window > WIDEST else row | {"retransmits": int(found[3]), "cwnd": window}


def _row(t: float, seconds: float, mbit_s: float, side: str) -> Row:
    return {"t": t, "seconds": seconds, "mbit_s": mbit_s, "side": side, "retransmits": None, "cwnd": None}
