"""`ping`: round-trip times as a series, each lost echo with its time."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from vini.experiment.probe import Probe, Stage
from vini.experiment.process import Program, last_words
from vini.experiment.statistics import Row, lateness_ms, outages, rounded, spread

REPLY = re.compile(r"\[(?P<at>[\d.]+)\] .*icmp_seq=(?P<seq>\d+) ttl=(?P<ttl>\d+) time=(?P<rtt>[\d.]+) ms")
SILENT = re.compile(r"\[(?P<at>[\d.]+)\] no answer yet for icmp_seq=(?P<seq>\d+)")
REFUSED = re.compile(r"\[(?P<at>[\d.]+)\] From (?P<by>\S+) icmp_seq=(?P<seq>\d+) (?P<why>.+)")
UNDECIDED_S = 1.0  # an echo unanswered for less than this when ping ends is neither lost nor answered


class Ping(Probe, frozen=True):
    """Echo requests (RFC 792) between two slivers' loopbacks, at a fixed interval.

    `t` is the sending time: exact (kernel's receive stamp less the round-trip time) for answered
    ones, within an interval for lost ones.  `rtt_ms` null: lost; `why` says what a router
    replied instead.  `ttl` tells how many routers the *reply* crossed.
    """

    source: str
    destination: str
    every_s: float = 0.2
    size: int = 56  # bytes of payload

    columns: ClassVar[dict[str, str]] = {"t": "float", "seq": "int", "rtt_ms": "float", "ttl": "int", "why": "str"}
    tools: ClassVar[tuple[tuple[str, str], ...]] = (("ping", "iputils-ping"),)

    def slivers(self) -> tuple[str, ...]:
        return (self.source, self.destination)

    async def measure(self, stage: Stage) -> None:
        first = 0
        while not stage.stop.is_set():
            echoes = Echoes(stage.zero_wall, self.every_s, first)
            async with Program(stage.enter(self.source, self._argv(stage)), stage.log) as ping:
                async for _, line in ping.lines(stage.stop):
                    echoes.feed(line)
                end = stage.now()
            stage.rows += [r for r in echoes.rows() if r["rtt_ms"] is not None or r["t"] < end - UNDECIDED_S]
            first = echoes.last
            if not stage.stop.is_set():  # no route at the start, say: the series has a hole, and goes on
                stage.note(f"ping ended by itself and was started again: {last_words(stage.log)}")
                await stage.pause(max(self.every_s, 0.2))

    def _argv(self, stage: Stage) -> list[str]:
        addresses = ["-I", stage.address(self.source), stage.address(self.destination)]
        return ["ping", "-D", "-O", "-n", "-i", f"{self.every_s:g}", "-s", str(self.size), *addresses]

    def summarise(self, rows: list[Row]) -> dict[str, Any]:
        rtts = [r["rtt_ms"] for r in rows if r["rtt_ms"] is not None]
        gaps = outages(rows, "rtt_ms")
        return {
            "sent": len(rows),
            "lost": len(rows) - len(rtts),
            "loss": rounded(1 - len(rtts) / len(rows), 6) if rows else None,
            **spread(rtts, "ms"),
            "longest_outage_s": rounded(max((b - a for a, b, _ in gaps), default=0.0), 3),
            "outages": [{"from_s": rounded(a, 3), "to_s": rounded(b, 3), "lost": n} for a, b, n in gaps],
            "late_ms": lateness_ms([r["t"] for r in rows], self.every_s),
        }


class Echoes:
    """The output of `ping -D -O`, understood line by line.  Pure but for what it was fed."""

    def __init__(self, zero_wall: float, every_s: float, first: int = 0):
        self.zero_wall, self.every_s, self.first = zero_wall, every_s, first
        self.last = first  # the highest sequence number seen
        self._rows: dict[int, Row] = {}

    def feed(self, line: str) -> None:
        """Take one line; lines that say nothing of an echo are passed over."""
        if found := REPLY.match(line):
            rtt = float(found["rtt"])
            seq, at = self._seq(found["seq"]), float(found["at"]) - self.zero_wall - rtt / 1000
            if self._rows.get(seq, {}).get("rtt_ms") is None:
                self._rows[seq] = {"t": at, "seq": seq, "rtt_ms": rtt, "ttl": int(found["ttl"]), "why": ""}
        elif found := SILENT.match(line):  # said when the next one is sent
            self._lost(self._seq(found["seq"]), float(found["at"]) - self.zero_wall - self.every_s, "no answer")
        elif found := REFUSED.match(line):
            at = float(found["at"]) - self.zero_wall
            self._lost(self._seq(found["seq"]), at, f"{found['by']}: {found['why']}")

    def rows(self) -> list[Row]:
        """What is known so far, by sequence number."""
        return [self._rows[seq] for seq in sorted(self._rows)]

    def _lost(self, seq: int, at: float, why: str) -> None:
        row = self._rows.setdefault(seq, {"t": at, "seq": seq, "rtt_ms": None, "ttl": None, "why": why})
        if row["rtt_ms"] is None and why != "no answer":
            row["why"] = why

    def _seq(self, text: str) -> int:
        """The 16 bits on the wire, unwrapped, and counted on over restarts of ping."""
        seq = self.first + int(text)
        seq += round((self.last - seq) / 65536) * 65536
        self.last = max(self.last, seq)
        return seq
