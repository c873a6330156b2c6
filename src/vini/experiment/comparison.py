"""Two runs beside each other: what went in differently, and what came out differently."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vini.experiment.paths import told
from vini.experiment.record import SUMS, changed
from vini.experiment.summary import SETTLED_S
from vini.model import NotFound, Value, ViniError

WORTH = 0.05  # a statistic that differs by less than this share is called the same


class Difference(Value, frozen=True):
    """One thing that is not the same in both runs; None: it is only in the other."""

    what: str
    a: Any
    b: Any

    def __str__(self) -> str:
        change = ""
        if _number(self.a) and _number(self.b) and self.a:
            change = f"  ({(self.b - self.a) / abs(self.a):+.1%})"
        return f"{self.what}: {_shown(self.a)} | {_shown(self.b)}{change}"


class Comparison(Value, frozen=True):
    """`inputs`, `versions` and `conditions` may explain what `results` shows."""

    a: str
    b: str
    trust: tuple[str, ...]  # why one of the two is not to be trusted
    inputs: tuple[Difference, ...]
    versions: tuple[Difference, ...]
    conditions: tuple[Difference, ...]
    results: tuple[Difference, ...]

    def __str__(self) -> str:
        parts = [f"a: {self.a}\nb: {self.b}", *(["\n".join(self.trust)] if self.trust else [])]
        for title in ("inputs", "versions", "conditions", "results"):
            found = getattr(self, title)
            lines = [f"  {d}" for d in found] or ["  the same"]
            parts.append("\n".join([f"{title.capitalize()} (a | b)", *lines]))
        return "\n\n".join(parts)


def compare(run_a: Path, run_b: Path) -> Comparison:
    """Raises NotFound where a directory is no run, and ViniError where a run was altered after it was sealed."""
    a, b = _load(run_a), _load(run_b)
    return Comparison(
        a=run_a.name,
        b=run_b.name,
        trust=(*_distrust("a", a), *_distrust("b", b)),
        inputs=tuple(differences(a["inputs"], b["inputs"])),
        versions=tuple(differences(a["versions"], b["versions"])),
        conditions=tuple(differences(a["summary"]["conditions"], b["summary"]["conditions"], WORTH)),
        results=tuple(differences(_results(a["summary"]), _results(b["summary"]), WORTH)),
    )


def describe(found: Comparison) -> str:
    """A comparison as text for a terminal."""
    return str(found)


def differences(a: Any, b: Any, worth: float = 0.0, what: str = "") -> Iterator[Difference]:
    """The leaves in which two JSON values differ; numbers by more than the share `worth`.  Pure."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in [*a, *(k for k in b if k not in a)]:
            yield from differences(a.get(key), b.get(key), worth, f"{what}.{key}" if what else str(key))
    elif _number(a) and _number(b):
        if abs(a - b) > worth * max(abs(a), abs(b)):
            yield Difference(what, a, b)
    elif a != b:
        yield Difference(what, a, b)


def _distrust(name: str, run: dict[str, Any]) -> list[str]:
    return [f"{name} is not trustworthy: {reason}" for reason in run["summary"]["reasons"]]


def _results(summary: dict[str, Any]) -> dict[str, Any]:
    """What was measured: each probe's statistics, and the sequence of paths with their levels."""
    return {
        "failure_kinds": ", ".join(summary["failure_kinds"]) or "none",
        "paths": {name: _path_results(found) for name, found in summary["paths"].items()},
        **{name: probe["statistics"] for name, probe in summary["probes"].items()},
    }


def _path_results(found: dict[str, Any]) -> dict[str, Any]:
    arriving = [p for p in found["phases"] if p["arrives"] and p["to_s"] - p["from_s"] >= SETTLED_S]
    levels = {f"{i}: {told(p['path'])}": p["median_rtt_ms"] for i, p in enumerate(arriving)}
    return {"sequence": [told(way) for way in found["sequence"]], "median_rtt_ms": levels}


def _load(run: Path) -> dict[str, Any]:
    if not (run / SUMS).is_file():
        raise NotFound(f"{run} is not a finished run: it has no {SUMS}. Give a directory that `vini run` made.")
    if altered := changed(run):
        raise ViniError(f"{run} was altered after it was sealed: {', '.join(altered[:5])}. It can't be compared.")
    found = {name: json.loads((run / f"{name}.json").read_text()) for name in ("summary", "versions", "experiment")}
    return found | {"inputs": _inputs(run, found["experiment"])}


def _inputs(run: Path, experiment: dict[str, Any]) -> dict[str, Any]:
    """The experiment as it was read, and a digest of each file as it was given."""
    files = {
        f"file {f.name}": hashlib.sha256(f.read_bytes()).hexdigest()[:12] for f in sorted((run / "inputs").glob("*"))
    }
    return {k: v for k, v in experiment.items() if k != "inputs"} | files


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (dict, list)):
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= 200 else text[:197] + "..."
    return "–" if value is None else str(value)
