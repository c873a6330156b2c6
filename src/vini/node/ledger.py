"""The agent's one memory: the newest spec that it accepted of each slice, on disk."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

from vini.model import Conflict, DriverError, SliceSpec, Stale, Value

log = logging.getLogger("vini.agent")
_ENDED = ".ended"  # no slice has such a name
KEPT = 100  # ended slices that are still known by name


class Ended(Value, frozen=True):
    """What is left of slices that ended: so little that it may stay for ever."""

    generations: dict[str, int] = {}  # slice -> the generation of its end; the newest last
    forgotten: int = 0  # the highest such generation of those that are not named any more


class Ledger:
    """A file per slice that is asked for, and one for all that ended.  What `accept` returned for has reached the disk.

    No slice goes back to a generation that it had, nor to one before its end.  Of slices that ended the newest KEPT
    are known by name; what a slice that isn't known may begin with is above all that was forgotten.

    A file that can't be read is set aside as `<slice>.json.bad`; its slice is in `unreadable`, and is to
    be left as it is until it is sent anew.
    """

    def __init__(self, directory: Path):
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.ended = self._read_ended()
        self.specs: dict[str, SliceSpec] = {}
        for path in sorted(directory.glob("*.json")):
            try:
                self._take(_read(path))
            except msgspec.DecodeError as e:
                log.warning("The ledger %s can't be read (%s); slice %s is left alone for now.", path, e, path.stem)
                path.rename(path.with_suffix(".json.bad"))
        self.unreadable = {p.name.removesuffix(".json.bad") for p in directory.glob("*.json.bad")} - self.specs.keys()

    def _read_ended(self) -> Ended:
        path = self._directory / _ENDED
        try:
            return msgspec.json.decode(path.read_bytes(), type=Ended)
        except FileNotFoundError:
            return Ended()
        except msgspec.DecodeError as e:
            log.warning("The ledger %s can't be read (%s); which slices ended is not known any more.", path, e)
            path.rename(path.with_suffix(".bad"))
            return Ended()

    def _take(self, spec: SliceSpec) -> None:
        """A file that was read.  One from before its slice's end is what a crash left of it."""
        if spec.generation <= self.ended.generations.get(spec.slice, 0):
            return
        if spec.objects:
            self.specs[spec.slice] = spec
        else:  # as earlier versions told of an end
            self.ended = _with(self.ended, spec)

    def accept(self, spec: SliceSpec) -> SliceSpec | None:
        """Remember it; the one that it replaces, where that has not ended.  Raises Stale for an older generation."""
        old = self.specs.get(spec.slice)
        self._refuse_older(spec, old)
        bad = self._directory / f"{spec.slice}.json.bad"
        if spec.objects:
            self._write(f"{spec.slice}.json", spec)
            self.specs[spec.slice] = spec
            bad.unlink(missing_ok=True)
        else:
            bad.unlink(missing_ok=True)  # first: with neither file the slice isn't wanted, as is asked here
            self._end(spec)
        self.unreadable.discard(spec.slice)
        return old

    def _refuse_older(self, spec: SliceSpec, old: SliceSpec | None) -> None:
        end = None if old else self.ended.generations.get(spec.slice)
        newest = old.generation if old else end if end is not None else self.ended.forgotten
        known = old is not None or end is not None
        if spec.generation < newest or (spec.generation == newest > 0 and not known):
            raise Stale(
                f"Slice {spec.slice!r}: generation {spec.generation} came after generation {newest} "
                "was accepted; look at `vini status` and send your change again."
            )
        if spec.generation == newest and known and (spec != old if old else spec.objects):
            raise Conflict(f"Slice {spec.slice!r}: two different desired states of generation {spec.generation}.")

    def _end(self, spec: SliceSpec) -> None:
        ended = _with(self.ended, spec)
        self._write(_ENDED, ended)
        self.ended = ended
        self.specs.pop(spec.slice, None)
        for path in self._directory.glob("*.json"):  # also what a crash or an earlier version left of others
            if path.stem not in self.specs:
                path.unlink(missing_ok=True)

    def _write(self, name: str, value: SliceSpec | Ended) -> None:
        path = self._directory / name
        new = self._directory / f"{name.removesuffix('.json')}.new"
        try:
            with new.open("wb") as f:
                f.write(msgspec.json.encode(value))
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


def _with(ended: Ended, spec: SliceSpec) -> Ended:
    """One more end."""
    generations = {**ended.generations}
    generations.pop(spec.slice, None)  # its place is at the end now
    generations[spec.slice] = spec.generation
    oldest = list(generations)[:-KEPT]
    return Ended(generations, max([ended.forgotten, *(generations.pop(name) for name in oldest)]))
