"""What is said of a run: `summary.json`.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import to_builtins

from vini.experiment.paths import described, paths_seen, sequence
from vini.experiment.probe import Probe
from vini.experiment.probes import Iperf3, Path, Ping, Udp
from vini.experiment.statistics import Row, median, rounded, within
from vini.model import Value

SETTLED_S = 1.0  # a way that lasted so long is more than a transient
EVENT_COLUMNS = {
    "number": "int", "event": "int", "action": "str", "what": "str", "edits": "bool",
    "planned_s": "float", "t": "float", "done_s": "float", "wall": "float", "monotonic": "float", "outcome": "str",
    "late_ms": "float", "spread_ms": "float",
}  # fmt: skip


class Measured(Value, frozen=True):
    """One probe or traffic of a run, with what it found."""

    probe: Any  # a Probe
    rows: list[Row]
    notes: tuple[str, ...] = ()


def probe_summary(measured: Measured) -> dict[str, Any]:
    """Settings, statistics and notes of one probe."""
    settings = to_builtins(measured.probe)
    kind = settings.pop("kind")
    return {
        "kind": kind,
        "settings": settings,
        "statistics": measured.probe.summarise(measured.rows),
        "notes": list(measured.notes),
    }


def epochs(events: Sequence[Row], all_: dict[str, Measured], end_s: float) -> list[dict[str, Any]]:
    """The stretches between changes of the network, each with the medians measured in it.

    A packet that was on its way when the network was changed is counted in none of them.
    """
    marks = [
        ("start", 0.0),
        *((e["what"], e["t"]) for e in events if e["edits"] and e["t"] is not None and 0 <= e["t"] < end_s),
    ]
    ends = [t for _, t in marks[1:]] + [end_s]
    return [
        {"since": what, "from_s": rounded(a, 3), "to_s": rounded(b, 3), "medians": _medians(all_, a, b)}
        for (what, a), b in zip(marks, ends, strict=True)
    ]


def _medians(all_: dict[str, Measured], from_s: float, to_s: float) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, measured in all_.items():
        if isinstance(measured.probe, Ping | Udp):
            took = "rtt_ms" if isinstance(measured.probe, Ping) else "delay_ms"
            rows = within(measured.rows, from_s, to_s, took)
            out[name] = {took: _median(rows, took), "lost": sum(r[took] is None for r in rows)}
        elif isinstance(measured.probe, Iperf3):
            rows = [r for r in measured.rows if from_s <= r["t"] < to_s and r["side"] == "received"]
            out[name] = {"mbit_s": _median(rows, "mbit_s")}
    return out


def _median(rows: Sequence[Row], column: str) -> float | None:
    return rounded(median(r[column] for r in rows if r[column] is not None), 3)


def paths(all_: dict[str, Measured], end_s: float) -> dict[str, Any]:
    """For each `path` probe: the sequence of distinct ways, and its phases with the round trips of a ping beside it."""
    out: dict[str, Any] = {}
    for name, measured in all_.items():
        if isinstance(measured.probe, Path):
            phases = paths_seen(measured.rows, end_s)
            ping = beside(measured.probe, all_)
            pings = all_[ping].rows if ping else []
            medians = [_medians(all_, p.sure_from_s, p.sure_to_s) for p in phases]
            found = [d | {"medians": m} for d, m in zip(described(phases, pings), medians, strict=True)]
            out[name] = {
                "sequence": sequence(phases),
                "settled_sequence": sequence(phases, SETTLED_S),
                "ping": ping,
                "phases": found,
            }
    return out


def beside(path: Path, all_: dict[str, Measured]) -> str:
    """The ping probe between the same two slivers; "" where there is none."""
    ends = (path.source, path.destination)
    return next((n for n, m in all_.items() if isinstance(m.probe, Ping) and m.probe.slivers() == ends), "")


def failure_kinds(events: Sequence[Row]) -> list[str]:
    """Which kinds of failure happened: "silent" and "carrier" converge very differently."""
    failures = [e["what"] for e in events if e["action"] == "fail" and not e["outcome"]]
    return sorted({"carrier" if what.endswith("(carrier down)") else "silent" for what in failures})


def late_ms(probes: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Probe -> its own lateness, where it knows it."""
    found = {n: p["statistics"].get("late_ms") for n, p in probes.items()}
    return {n: late for n, late in found.items() if late is not None}


def kind(probe: Probe) -> str:
    """The word that files use for a probe."""
    return str(to_builtins(probe)["kind"])
