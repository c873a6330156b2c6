"""Volumes: directories of slivers that outlive them, until they are removed by name.

    <state>/volumes/<slice>.<sliver>/<name>/

What is in one is its sliver's: any name in it may lead anywhere, so nobody here follows one.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import msgspec

from vini import names
from vini.model import Conflict, Container, NotFound, Value
from vini.node.container import crun
from vini.node.place import Place


class Volume(Value, frozen=True, omit_defaults=False):
    """One of them."""

    sliver: str  # "slice.sliver"
    name: str
    bytes: int  # on the disk
    files: int  # and directories and links
    used: bool  # a container has it


def made(place: Place, ns: str, name: str) -> Path:
    """Its directory; an empty one, where there was none."""
    if not names.SLIVER_NAME.fullmatch(name):  # a central may be another one tomorrow
        raise OSError(f"a volume can't be called {name!r}")
    home = _home(place)
    (home / ns / name).mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)  # a program in one could make any user of the node root
    return home / ns / name


def volumes(place: Place) -> list[Volume]:
    """All of this node."""
    return [_volume(place, at) for at in sorted(_home(place).glob("*/*"))]


def remove(place: Place, ns: str, name: str) -> Volume:
    """Delete it, and all that is in it.  Raises NotFound, or Conflict while a container has it."""
    there = {at.name: _volume(place, at) for at in sorted((_home(place) / ns).glob("*"))}
    if name not in there:
        known = f"it has {', '.join(there)}" if there else "`vini volume list` shows those that are"
        raise NotFound(f"Sliver {ns} has no volume {name!r} on this node; {known}.")
    if there[name].used:
        raise Conflict(
            f"The volume {name!r} is in use; take it out of the file and `vini up`, or end the slice, first."
        )
    shutil.rmtree(_home(place) / ns / name)  # by descriptors, without following a link
    if not any((_home(place) / ns).iterdir()):
        (_home(place) / ns).rmdir()
    return there[name]


def _home(place: Place) -> Path:
    return place.state / "volumes"


def _volume(place: Place, at: Path) -> Volume:
    size = files = 0
    for _, directories, plain, fd in os.fwalk(at, follow_symlinks=False):
        for name in (*directories, *plain):
            with suppress(FileNotFoundError):  # deleted meanwhile
                size += os.stat(name, dir_fd=fd, follow_symlinks=False).st_blocks * 512
                files += 1
    return Volume(at.parent.name, at.name, size, files, at.name in _had(place, at.parent.name))


def _had(place: Place, ns: str) -> set[str]:
    try:
        record = (crun.home(place) / ns / crun.RECORD).read_bytes()
        return {name for name, _ in msgspec.json.decode(record, type=Container).volumes}
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except msgspec.DecodeError:  # another version started it: it may have any of them
        return {at.name for at in (_home(place) / ns).glob("*")}
