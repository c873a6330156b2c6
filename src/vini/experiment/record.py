"""The record of one run: a directory that is written once, and then never changes.

<name>-<UTC time>-<seed>/
    summary.json  report.html        what came out
    inputs/  topology.json  experiment.json      what went in: the files as given, and what they were read as
    versions.json  limits.json
    events.parquet|.csv  conditions.parquet|.csv
    probes/<probe>.parquet|.csv
    logs/  captures/
    SHA256SUMS                       of all the other files: `sha256sum -c SHA256SUMS`
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from vini.experiment.statistics import Row
from vini.model import Unsupported, ViniError

PARTIAL = ".partial"
SUMS = "SHA256SUMS"
HINT = "pip install 'vini[run]'"


def arrow() -> ModuleType:
    """pyarrow; it is an extra, since 200 MB are much for those who only want a network."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as e:
        raise Unsupported(f"Experiments need the Python package pyarrow. Install it with: {HINT}") from e
    return pyarrow  # type: ignore[no-any-return]


class Record:
    """A run's directory while it is written, under a name that ends in `.partial` until `seal`.

    Raises ViniError where the directory can't be made.
    """

    def __init__(self, out: Path, name: str, seed: int, started: datetime):
        stamp = started.strftime("%Y%m%dT%H%M%SZ")
        self.final = out / f"{name}-{stamp}-{seed}"
        self.partial = self.final.with_name(self.final.name + PARTIAL)
        if self.final.exists():
            raise ViniError(f"There already is a run {self.final}. Wait a second, or take another seed.")
        try:
            for part in ("inputs", "probes", "logs", "captures"):
                (self.partial / part).mkdir(parents=True)
        except OSError as e:
            why = e.strerror or "unknown error"
            raise ViniError(f"The run's directory {self.partial} can't be made: {why}. Choose another place.") from e

    def text(self, name: str, text: str) -> None:
        """Write a text file; `name` is relative to the run's directory."""
        file = self.partial / name
        try:
            file.write_text(text)
        except OSError as e:
            raise ViniError(f"{file} can't be written: {e.strerror}. What was written until then is kept.") from e

    def json(self, name: str, value: Any) -> None:
        """Write a value as JSON for people: indented, in the order given."""
        self.text(name, json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def table(self, name: str, columns: dict[str, str], rows: Sequence[Row]) -> None:
        """Write a table twice: Parquet for programs (types, null), CSV for everybody (null is empty)."""
        pa = arrow()
        types = {"float": pa.float64(), "int": pa.int64(), "str": pa.string(), "bool": pa.bool_()}
        schema = pa.schema([(column, types[kind]) for column, kind in columns.items()])
        file = self.partial / f"{name}.parquet"
        try:
            pa.parquet.write_table(pa.Table.from_pylist(list(rows), schema=schema), file)
            with file.with_suffix(".csv").open("w", newline="") as out:
                writer = csv.writer(out)
                writer.writerow(columns)
                writer.writerows([row.get(c) for c in columns] for row in rows)
        except OSError as e:
            raise ViniError(f"{file} can't be written: {e.strerror}. What was written until then is kept.") from e

    def seal(self) -> Path:
        """Add the checksums, give the directory its final name, and make all of it read-only."""
        for log in (self.partial / "logs").iterdir():
            if not log.stat().st_size:
                log.unlink()
        for empty in [d for d in self.partial.iterdir() if d.is_dir() and not any(d.iterdir())]:
            empty.rmdir()
        files = sorted(f for f in self.partial.rglob("*") if f.is_file())
        lines = [f"{_sum(f)}  {f.relative_to(self.partial)}\n" for f in files]
        (self.partial / SUMS).write_text("".join(lines))
        self.partial.rename(self.final)
        for folder, _, names in os.walk(self.final, topdown=False):
            for name in names:
                Path(folder, name).chmod(0o444)
            Path(folder).chmod(0o555)
        return self.final

    def discard(self) -> None:
        """Remove a run that never began."""
        for folder, _, names in os.walk(self.partial, topdown=False):
            for name in names:
                Path(folder, name).unlink()
            Path(folder).rmdir()


def changed(run: Path) -> list[str]:
    """The files of a run that are not as they were sealed, or gone, or new; [] for an intact one."""
    lines = (line.split("  ", 1) for line in (run / SUMS).read_text().splitlines())
    sealed = {name: digest for digest, name in lines}
    here = {str(f.relative_to(run)): f for f in run.rglob("*") if f.is_file() and f.name != SUMS}
    return sorted(n for n in sealed.keys() | here.keys() if n not in here or sealed.get(n) != _sum(here[n]))


def _sum(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
