"""Where the programs and maps of slivers are pinned, so that they outlive the agent, and what says that they are whole.

One bpf file system of a place's own, `<run>/bpf`, that only root may enter:

    <slice>/_budget                     the slice's budget
    <slice>/<sliver>/                   sliver_budget, shares, calls_tc, calls_xdp: what dispatcher.c works with
    <slice>/<sliver>/hooks/             the dispatchers, <slot>_<hook>_<direction>_<vif>
    <slice>/<sliver>/<n>/{maps,programs}/   the user's, of the n-th loading
    <slice>/<sliver>/whole              a map with one value: the `Record` of what is loaded

The record is renamed into place, in the same file system: it can't outlive what it tells of, nor be half-written.
Names can't have dots there; those of vifs are written with %.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from vini.model import Bpf, Value
from vini.node import libbpf, netns
from vini.node.place import Place

OWN_MAPS = ("sliver_budget", "shares", "calls_tc", "calls_xdp")
SLOTS = 128  # of dispatcher.c
_ONLY = bytes(4)  # the key of the one entry of an array


class Record(Value, frozen=True):
    """What was asked, what came of it, and the directory of its pins."""

    asked: Bpf
    generation: str
    maps: tuple[str, ...]
    programs: tuple[str, ...]


class HookPin(Value, frozen=True):
    """A dispatcher, as the name of its pin tells."""

    slot: int
    hook: Literal["tc", "xdp"]
    direction: Literal["input", "output"]
    dev: str

    @property
    def name(self) -> str:
        """The pin's name."""
        return f"{self.slot}_{self.hook}_{self.direction}_{self.dev.replace('.', '%')}"


class Shelf:
    """The pins of one sliver."""

    def __init__(self, place: Place, ns: str):
        self.ns = ns
        slice_, _, sliver = ns.partition(".")
        self.root = place.run / "bpf"
        self.slice = self.root / slice_
        self.at = self.slice / sliver
        self.budget = self.slice / "_budget"

    def prepare(self) -> None:
        """Make the file system and the sliver's directories where they aren't there."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.path.ismount(self.root):
            netns.mount_programs(self.root)
        (self.at / "hooks").mkdir(parents=True, exist_ok=True)

    def exists(self) -> bool:
        """Whether there is any trace of programs of this sliver."""
        return self.at.is_dir()

    def record(self) -> Record | None:
        """What is loaded; None unless every pin that belongs to it is there, and no other."""
        record = self.last_record()
        if record is None:
            return None
        generation = self.at / record.generation
        expected = {"hooks", "whole", record.generation, *OWN_MAPS}
        whole = (
            set(_listed(self.at)) == expected
            and set(_listed(generation / "maps")) == set(record.maps)
            and set(_listed(generation / "programs")) == set(record.programs)
            and self.budget.exists()
        )
        return record if whole else None

    def last_record(self) -> Record | None:
        """What was loaded whole last, though parts of it may be missing now."""
        fd = opened(self.at / "whole")
        if fd is None:
            return None
        try:
            head = libbpf.map_record(fd)
            found = libbpf.lookup(fd, head, _ONLY)
            return msgspec.json.decode(found[0], type=Record) if found else None
        except (msgspec.DecodeError, OSError):  # of another version
            return None
        finally:
            os.close(fd)

    def write_record(self, record: Record) -> None:
        """From now on this is what is loaded."""
        new = self.at / "new"
        new.unlink(missing_ok=True)
        fd = libbpf.make_array("vini_record", msgspec.json.encode(record))
        try:
            libbpf.pin(fd, new)
        finally:
            os.close(fd)
        new.rename(self.at / "whole")

    def next_generation(self) -> str:
        """A name that no generation has."""
        return str(max((int(n) for n in _listed(self.at) if n.isdecimal()), default=0) + 1)

    def make_generation(self, name: str) -> Path:
        """Its directory, empty."""
        for part in ("maps", "programs"):
            (self.at / name / part).mkdir(parents=True)
        return self.at / name

    def remove_generations(self, but: str = "") -> None:
        """Take away the pins of all loadings but one; what is in use lives on until it isn't."""
        for name in _listed(self.at):
            if name.isdecimal() and name != but:
                _remove(self.at / name)

    def hooks(self) -> list[HookPin]:
        """The dispatchers that are pinned, by slot."""
        out = []
        for name in _listed(self.at / "hooks"):
            slot, hook, direction, dev = name.split("_", 3)
            pin = {"slot": int(slot), "hook": hook, "direction": direction, "dev": dev.replace("%", ".")}
            out.append(msgspec.convert(pin, HookPin))
        return sorted(out, key=lambda h: h.slot)

    def hook(self, pin: HookPin) -> Path:
        """Where a dispatcher is pinned."""
        return self.at / "hooks" / pin.name

    def calls(self, hook: str) -> Path:
        """Where the map is pinned by which dispatchers of that hook find the user's programs."""
        return self.at / f"calls_{hook}"

    def remove(self) -> None:
        """Take all of the sliver away; with the last one of a slice, or of all, what they had in common."""
        _remove(self.at)
        if not [n for n in _listed(self.slice) if not n.startswith("_")]:
            _remove(self.slice)
        if self.root.is_dir() and not _listed(self.root):
            netns.unmount(self.root)
            self.root.rmdir()


def slivers(place: Place) -> set[str]:
    """`slice.sliver` of all that there is a trace of programs of."""
    root = place.run / "bpf"
    return {f"{s}.{sliver}" for s in _listed(root) for sliver in _listed(root / s) if not sliver.startswith("_")}


def opened(path: Path) -> int | None:
    """A descriptor of what is pinned there, the caller's to close; None where nothing is."""
    try:
        return libbpf.pinned(path)
    except FileNotFoundError:
        return None


def program_id(path: Path) -> int:
    """The kernel's number of the program that is pinned there; 0 where none is."""
    fd = opened(path)
    if fd is None:
        return 0
    try:
        return libbpf.program_record(fd).id
    finally:
        os.close(fd)


def programs(generation: Path) -> Iterator[tuple[str, Path]]:
    """The names of a loading's programs, and where they are pinned."""
    return ((name, generation / "programs" / name) for name in _listed(generation / "programs"))


def _listed(directory: Path) -> list[str]:
    """Our pins: names with dots are the kernel's own (maps.debug)."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return sorted(p.name for p in directory.iterdir() if "." not in p.name)
    return []


def _remove(directory: Path) -> None:
    """Deepest first; shutil.rmtree would do, but stops at the first thing that goes away meanwhile."""
    for name in _listed(directory):
        path = directory / name
        if path.is_dir() and not path.is_symlink():
            _remove(path)
        else:
            path.unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        directory.rmdir()
