"""The agent's one memory: the newest spec that it accepted of each slice, on disk."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from vini.model import Conflict, SliceSpec, Stale


class Ledger:
    """A file per slice.  What `accept` returned for has reached the disk."""

    def __init__(self, directory: Path):
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.specs: dict[str, SliceSpec] = {}
        for path in sorted(directory.glob("*.json")):
            spec = msgspec.json.decode(path.read_bytes(), type=SliceSpec)
            self.specs[spec.slice] = spec

    def accept(self, spec: SliceSpec) -> SliceSpec | None:
        """Remember it; the one that it replaces.  Raises Stale for an older generation."""
        old = self.specs.get(spec.slice)
        if old and spec.generation < old.generation:
            raise Stale(
                f"Slice {spec.slice!r}: generation {spec.generation} came after generation {old.generation} "
                "was accepted; look at `vini status` and send your change again."
            )
        if old and spec.generation == old.generation and spec != old:
            raise Conflict(f"Slice {spec.slice!r}: two different desired states of generation {spec.generation}.")
        self._write(spec)
        self.specs[spec.slice] = spec
        return old

    def _write(self, spec: SliceSpec) -> None:
        path = self._directory / f"{spec.slice}.json"
        new = path.with_suffix(".new")
        with new.open("wb") as f:
            f.write(msgspec.json.encode(spec))
            f.flush()
            os.fsync(f.fileno())
        new.rename(path)
