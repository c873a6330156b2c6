"""The agent's one memory: the newest spec that it accepted of each slice, on disk."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

from vini.model import Conflict, DriverError, SliceSpec, Stale

log = logging.getLogger("vini.agent")


class Ledger:
    """A file per slice.  What `accept` returned for has reached the disk.

    A file that can't be read is set aside as `<slice>.json.bad`; its slice is in `unreadable`, and is to
    be left as it is until it is sent anew.
    """

    def __init__(self, directory: Path):
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.specs: dict[str, SliceSpec] = {}
        for path in sorted(directory.glob("*.json")):
            try:
                self.specs[path.stem] = _read(path)
            except msgspec.DecodeError as e:
                log.warning("The ledger %s can't be read (%s); slice %s is left alone for now.", path, e, path.stem)
                path.rename(path.with_suffix(".json.bad"))
        self.unreadable = {p.name.removesuffix(".json.bad") for p in directory.glob("*.json.bad")} - self.specs.keys()

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
        self.unreadable.discard(spec.slice)
        return old

    def _write(self, spec: SliceSpec) -> None:
        path = self._directory / f"{spec.slice}.json"
        new = path.with_suffix(".new")
        try:
            with new.open("wb") as f:
                f.write(msgspec.json.encode(spec))
                f.flush()
                os.fsync(f.fileno())
            new.rename(path)
            _sync(self._directory)
        except OSError as e:
            new.unlink(missing_ok=True)
            raise DriverError(f"The ledger {path} can't be written: {e.strerror}; nothing was changed.") from e


def _read(path: Path) -> SliceSpec:
    spec = msgspec.json.decode(path.read_bytes(), type=SliceSpec)
    if spec.slice != path.stem:
        raise msgspec.DecodeError(f"it is about slice {spec.slice}")
    return spec


def _sync(directory: Path) -> None:
    """A new name has reached the disk only when its directory has (fsync(2))."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
