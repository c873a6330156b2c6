"""`ping`: round-trip times as a series, each lost echo with its time."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from vini.experiment.probe import Probe, Stage
from vini.experiment.probes import numbered
from vini.experiment.process import Program, last_words
from vini.experiment.statistics import Row, lateness_ms, outages, rounded, spread

SCRIPT = Path(numbered.__file__)
UNDECIDED_S = 1.0  # an echo unanswered for less than this at the end is neither lost nor answered


class Ping(Probe, frozen=True):
    """Echo requests (RFC 792) between two slivers' loopbacks, at a fixed interval kept against the clock.

    `t` is the sending time.  `rtt_ms` null: lost; `why` then says what the sender's kernel or a
    router replied, "" when nobody said anything.  `ttl` tells how many routers the *reply* crossed.
    """

    source: str
    destination: str
    every_s: float = 0.2
    size: int = 56  # bytes of payload, 16 at least

    columns: ClassVar[dict[str, str]] = {"t": "float", "seq": "int", "rtt_ms": "float", "ttl": "int", "why": "str"}

    def slivers(self) -> tuple[str, ...]:
        return (self.source, self.destination)

    async def measure(self, stage: Stage) -> None:
        ends = [stage.address(self.source), stage.address(self.destination)]
        argv = [*stage.network.script(SCRIPT), "echo", *ends, f"{self.every_s:g}", str(self.size)]
        lines: list[str] = []
        async with Program(stage.enter(self.source, argv), stage.log) as program:
            async for _, line in program.lines(stage.stop):
                lines.append(line)
        if not stage.stop.is_set():
            stage.note(f"The echo series ended by itself: {last_words(stage.log)}")
        end = stage.now() if stage.stop.is_set() else float("inf")
        rows = understand(lines, stage.zero_at(self.source, moment(lines)))
        stage.rows += [r for r in rows if r["rtt_ms"] is not None or r["why"] or r["t"] < end - UNDECIDED_S]

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


def moment(lines: Iterable[str]) -> tuple[int, int] | None:
    """What both clocks of `numbered.py` showed when it began, ns; None where it did not get so far."""
    found = next((line.split() for line in lines if line.startswith("c ")), None)
    return (int(found[1]), int(found[2])) if found else None


def understand(lines: Iterable[str], zero: float) -> list[Row]:
    """One row for each echo that `numbered.py` sent, or was refused to send; the first reply counts.  Pure."""
    rows: dict[int, Row] = {}
    for line in lines:
        what, number, ns, *rest = line.split(" ")
        seq, at = int(number), int(ns) / 1e9 - zero
        if what in ("s", "x"):
            rows[seq] = {"t": at, "seq": seq, "rtt_ms": None, "ttl": None, "why": rest[0] if rest else ""}
        elif seq in rows and rows[seq]["rtt_ms"] is None:
            if what == "r":
                rows[seq] |= {"rtt_ms": (at - rows[seq]["t"]) * 1000, "ttl": int(rest[0]), "why": ""}
            else:
                rows[seq]["why"] = f"unreachable, says {rest[0]}"
    return [rows[seq] for seq in sorted(rows)]
