"""The agent's one memory: the newest spec that it accepted of each slice, on disk.

And those that it accepted for a later time (`not_before`), until then.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from vini import durable
from vini.model import Conflict, DriverError, SliceSpec, Stale, Value

log = logging.getLogger("vini.agent")
_ENDED = ".ended"  # no slice has such a name
KEPT = 100  # ended slices that are still known by name
Change = tuple[SliceSpec | None, SliceSpec]  # what was wanted of a slice, and what is wanted now


class Ended(Value, frozen=True):
    """What is left of slices that ended: so little that it may stay for ever."""

    generations: dict[str, int] = {}  # slice -> the generation of its end; the newest last
    forgotten: int = 0  # the highest such generation of those that are not named any more


class Ledger:
    """A file per slice that is asked for, and one for all that ended.  What `accept` returned for has reached the disk.

    `specs` is what is in force; of one that is not to be yet, the slice's `.later` file tells.  A spec that has expired
    stays, and is not wanted: by the clock as it is at each moment, so that a clock that was wrong does no lasting harm.

    No slice goes back to a generation that it had, nor to one before its end.  Of slices that ended the newest KEPT
    are known by name; what a slice that isn't known may begin with is above all that was forgotten.

    A file that can't be read is set aside as `<slice>.json.bad`; its slice is in `unreadable`, and is to
    be left as it is until it is sent anew.
    """

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time):
        self._directory, self.clock = directory, clock
        self._expired: set[str] = set()  # of which `advance` has told
        self._unwritten: dict[str, SliceSpec] = {}  # in force; the disk has them as those for later
        directory.mkdir(parents=True, exist_ok=True)
        self.ended = self._read_ended()
        self.specs: dict[str, SliceSpec] = {}
        for path in sorted(directory.glob("*.json")):
            try:
                self._take(_read(path))
            except msgspec.DecodeError as e:
                log.warning("The ledger %s can't be read (%s); slice %s is left alone for now.", path, e, path.stem)
                path.rename(path.with_suffix(".json.bad"))
        self.later = {p.stem: later for p in sorted(directory.glob("*.later")) if (later := self._read_later(p))}
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

    def _read_later(self, path: Path) -> tuple[SliceSpec, ...]:
        """Those that have not been overtaken: a crash may have come between two files."""
        try:
            specs = msgspec.json.decode(path.read_bytes(), type=tuple[SliceSpec, ...])
        except msgspec.DecodeError as e:
            log.warning("The ledger %s can't be read (%s); what was to come later has to be sent again.", path, e)
            path.rename(path.with_suffix(".later.bad"))
            return ()
        newest = self.in_force(path.stem)
        return tuple(s for s in specs if s.slice == path.stem and s.generation > newest)

    def accept(self, spec: SliceSpec) -> SliceSpec | None:
        """Remember it; the one that was in force, where its slice had not ended.  Raises Stale for an older generation.

        One for a later time is in force only when `advance` says so; of those that waited already, it replaces
        those that were to come after it.  The time that what is in force had is not waited for again, though the clock
        was set back.
        """
        self.settle()
        old = self.specs.get(spec.slice)
        waiting = self.later.get(spec.slice, ())
        self._refuse_older(spec, waiting[-1] if waiting else old)
        if waiting and spec.generation == waiting[-1].generation:
            return old
        if spec.not_before > self.clock() and not (old and _is_in_force(spec, old)):
            self._wait(spec.slice, (*(s for s in waiting if s.not_before < spec.not_before), spec))
        else:
            self._hold(spec)
        return old

    def advance(self) -> list[Change]:
        """Put in force what was accepted for a time that has come, and tell of what has expired since the last call.

        Nothing is written, since nodes act together in that moment, and disks take their time: what the disk has for
        later is in force by its time after a restart, too.  `settle` is to follow.
        """
        now = self.clock()
        changes: list[Change] = []
        for old, new in self.coming(now):
            changes.append((old, new))
            self._enforce(new, [s for s in self.later[new.slice] if s.generation > new.generation])
        expired = set(self.expired())
        for slice_ in expired - self._expired:
            spec = self.specs[slice_]
            changes.append((spec, replace(spec, objects=frozenset())))
        for slice_ in self._expired - expired & self.specs.keys():  # renewed, or the clock was set back
            changes.append((None, self.specs[slice_]))
        self._expired = expired
        return changes

    def coming(self, at: float) -> list[Change]:
        """What is put in force by that time, of what was accepted for later."""
        due = [[s for s in waiting if s.not_before <= at] for waiting in list(self.later.values())]
        return [(self.specs.get(some[-1].slice), some[-1]) for some in due if some]

    def _enforce(self, spec: SliceSpec, left: Sequence[SliceSpec]) -> None:
        if spec.objects:
            self.specs[spec.slice] = spec
        else:
            self.ended = _with(self.ended, spec)
            self.specs.pop(spec.slice, None)
        self.later.pop(spec.slice)
        if left:
            self.later[spec.slice] = tuple(left)
        self._unwritten[spec.slice] = spec
        self.unreadable.discard(spec.slice)

    def settle(self) -> None:
        """Write down what `advance` put in force; of what has expired, what is too much goes.

        Raises DriverError where the disk does not take it; then it is to be tried again.
        """
        for spec in list(self._unwritten.values()):
            self._hold(spec)
        for slice_ in sorted(self._expired & self.specs.keys(), key=lambda n: self.specs[n].expires)[:-KEPT]:
            self._end(replace(self.specs[slice_], objects=frozenset()))
        self._expired &= self.specs.keys()

    def moment(self) -> float:
        """When `advance` will have something to do, in s from now; 0 where it has, infinite where nothing will come."""
        if self._expired != set(self.expired()):
            return 0.0
        now = self.clock()
        times = [w[0].not_before for w in list(self.later.values())]
        times += [s.expires for s in list(self.specs.values()) if s.expires > now]
        return max(0.0, min(times, default=math.inf) - now)

    def wanted(self) -> dict[str, SliceSpec]:
        """What is in force now: all `specs` but for those that have expired."""
        now = self.clock()
        return {n: s for n, s in list(self.specs.items()) if not 0 < s.expires <= now}

    def expired(self) -> dict[str, int]:
        """Slice -> generation, of those that are not wanted any more since their time is over."""
        now = self.clock()
        return {n: s.generation for n, s in list(self.specs.items()) if 0 < s.expires <= now}

    def accepted(self, slice_: str) -> int:
        """The newest generation on disk, whether in force or not; 0: none that is known."""
        waiting = self.later.get(slice_)
        return waiting[-1].generation if waiting else self.in_force(slice_)

    def in_force(self, slice_: str) -> int:
        """The generation of what is asked for, or of the end."""
        spec = self.specs.get(slice_)
        return spec.generation if spec else self.ended.generations.get(slice_, 0)

    def clear(self) -> None:
        """Forget all, as if nothing had ever been asked for."""
        for path in self._directory.iterdir():
            path.unlink()
        self.ended, self.specs, self.later, self.unreadable = Ended(), {}, {}, set()
        self._unwritten = {}

    def _wait(self, slice_: str, specs: Sequence[SliceSpec]) -> None:
        path = self._directory / f"{slice_}.later"
        if specs:
            self._write(path.name, tuple(specs))
            self.later[slice_] = tuple(specs)
        else:
            _remove(path)
            self.later.pop(slice_, None)

    def _hold(self, spec: SliceSpec) -> None:
        bad = self._directory / f"{spec.slice}.json.bad"
        if spec.objects:
            self._write(f"{spec.slice}.json", spec)
            self.specs[spec.slice] = spec
            _remove(bad)
        else:
            _remove(bad)  # first: with neither file the slice isn't wanted, as is asked here
            self._end(spec)
        self.unreadable.discard(spec.slice)
        waiting = self.later.get(spec.slice, ())
        if waiting or spec.slice in self._unwritten:  # last: until then, the generations tell that they were overtaken
            self._wait(spec.slice, [s for s in waiting if s.generation > spec.generation])
        self._unwritten.pop(spec.slice, None)

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
                _remove(path)

    def _write(self, name: str, value: SliceSpec | Ended | tuple[SliceSpec, ...]) -> None:
        path = self._directory / name
        try:
            durable.write(path, msgspec.json.encode(value))
        except OSError as e:
            raise DriverError(f"The ledger {path} can't be written: {e.strerror}; nothing was changed.") from e


def _remove(path: Path) -> None:
    """Where it is there.  A disk that takes nothing says so of what is not there, too."""
    try:
        path.unlink(missing_ok=True)
    except OSError as e:
        raise DriverError(f"The ledger {path} can't be removed: {e.strerror}; it will be tried again.") from e


def _is_in_force(spec: SliceSpec, old: SliceSpec) -> bool:
    return old.generation == spec.generation or old.not_before == spec.not_before


def _read(path: Path) -> SliceSpec:
    spec = msgspec.json.decode(path.read_bytes(), type=SliceSpec)
    if spec.slice != path.stem:
        raise msgspec.DecodeError(f"it is about slice {spec.slice}")
    return spec


def _with(ended: Ended, spec: SliceSpec) -> Ended:
    """One more end."""
    generations = {**ended.generations}
    generations.pop(spec.slice, None)  # its place is at the end now
    generations[spec.slice] = spec.generation
    oldest = list(generations)[:-KEPT]
    return Ended(generations, max([ended.forgotten, *(generations.pop(name) for name in oldest)]))
