"""ping(8): its command line, and what it prints, understood.  Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from vini.api.inside import Completed, last_lines
from vini.api.results import PingResult

COLUMNS = {"t": "float", "seq": "int", "rtt_ms": "float", "ttl": "int", "why": "str"}
PATIENCE_S = 2  # for the answer to the last request
REPLY = re.compile(r"\[([\d.]+)\] .*icmp_seq=(\d+) (?:ttl|hop limit)=(\d+) time=([\d.]+) ms")
REFUSED = re.compile(r"\[([\d.]+)\] From (\S+?):? icmp_seq=(\d+) (.+)")
SENT = re.compile(r"(\d+) packets transmitted")

Row = dict[str, Any]


def argv(source: str, destination: str, family: int, count: int, every_s: float, size: int) -> Sequence[str]:
    """The command line; source and destination are addresses."""
    how = ["-c", str(count), "-i", f"{every_s:g}", "-s", str(size), "-W", str(PATIENCE_S)]
    return ["ping", f"-{family}", "-D", "-n", *how, "-I", source, destination]


def rows(output: str, every_s: float) -> list[Row]:
    """One row per request, by number: t (sending time, s since the first), seq, rtt_ms (None: lost), ttl, why."""
    found = SENT.search(output)
    sent = int(found[1]) if found else 0
    answers: dict[int, Row] = {}
    for line in output.splitlines():
        if row := _understood(line):
            answers.setdefault(row["seq"], row)  # a duplicate comes later
    # When a lost one was sent is not printed; it is told from the pace and the earliest that is known.
    zero = min((r["t"] - (r["seq"] - 1) * every_s for r in answers.values()), default=0.0)
    lost: Row = {"rtt_ms": None, "ttl": None, "why": "no answer"}
    all_ = [answers.get(seq) or {"t": zero + (seq - 1) * every_s, "seq": seq, **lost} for seq in range(1, sent + 1)]
    return [{**r, "t": r["t"] - zero} for r in all_]


def _understood(line: str) -> Row | None:
    if reply := REPLY.match(line):
        rtt = float(reply[4])
        at = float(reply[1]) - rtt / 1000
        return {"t": at, "seq": int(reply[2]), "rtt_ms": rtt, "ttl": int(reply[3]), "why": ""}
    if said := REFUSED.match(line):
        why = f"{said[2]}: {said[4]}"
        return {"t": float(said[1]), "seq": int(said[3]), "rtt_ms": None, "ttl": None, "why": why}
    return None


def result(source: str, destination: str, done: Completed) -> PingResult:
    """What a ping from one sliver to another found; one that could not even send has sent none, and says why."""
    series = rows(done.stdout, 0.0)
    rtts = tuple(r["rtt_ms"] for r in series if r["rtt_ms"] is not None)
    return PingResult(source, destination, len(series), len(rtts), rtts, last_lines(done.stderr, 1))
