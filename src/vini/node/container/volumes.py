"""Volumes: directories of slivers that outlive them, until they are removed by name.

    <state>/volumes/<slice>.<sliver>/<name>/      its files
    <state>/volumes/<slice>.<sliver>/<name>.img   where they are if it has a size: mounted there while its sliver is

What is in one is its sliver's: any name in it may lead anywhere, and it may be of any depth, so nobody here follows
one, or recurses.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec.structs import replace

from vini import names
from vini.model import Conflict, Container, NotFound, Value, Volume
from vini.node import trees
from vini.node.container import crun, filesystems, io_rates
from vini.node.container.filesystems import FileSystem
from vini.node.place import Place


class Kept(Value, frozen=True, omit_defaults=False):
    """One of them."""

    sliver: str  # "slice.sliver"
    name: str
    bytes: int  # on the disk
    files: int  # and directories and links
    used: bool  # a container has it
    most: int  # bytes that it may hold; 0: not bounded


def made(place: Place, ns: str, name: str, bounded: bool) -> Path:
    """Its directory; an empty one, where there was none.  One that had a size, and is to have none, holds the same."""
    of = _of(place, ns, name)
    of.there.mkdir(parents=True, exist_ok=True)
    if bounded and not of.there.is_mount():
        raise OSError(f"the volume {name!r} is not mounted")
    if not bounded and (of.image.exists() or of.aside("kept").exists()):
        filesystems.take_out(of)
    return of.there


# --- those of a size --------------------------------------------------------------------------


def slivers(place: Place) -> set[str]:
    """`slice.sliver` of all of which one is mounted."""
    return {ns for ns in kept(place) if any(i.with_suffix("").is_mount() for i in (_home(place) / ns).glob("*.img"))}


def kept(place: Place) -> set[str]:
    """`slice.sliver` of all that ever had a volume which was not removed."""
    with suppress(FileNotFoundError), os.scandir(_home(place)) as entries:
        return {entry.name for entry in entries}
    return set()


def observed(place: Place, ns: str) -> Iterator[Volume]:
    """Those that are mounted, with the rates that hold."""
    for image in (_home(place) / ns).glob("*.img"):
        of = _of(place, ns, image.stem)
        with suppress(OSError, msgspec.DecodeError):
            o = msgspec.json.decode(of.record.read_bytes(), type=Volume)
            if of.there.is_mount():
                yield o if io_rates.hold(place, o, of.there.stat().st_dev) else replace(o, read_mb=-1)


def ensure(place: Place, o: Volume) -> None:
    """Make it, with what is in its directory by now; or mount it; or change its rates.  OSError where that can't be."""
    of = _of(place, o.ns, o.name)
    filesystems.ensure(of, o)
    io_rates.ensure(place, o, of.there.stat().st_dev)
    filesystems.note(of, o)


def release(place: Place, ns: str, name: str = "") -> None:
    """Unmount it, or all of a sliver; what they hold stays in their files."""
    for image in (_home(place) / ns).glob(f"{name or '*'}.img"):
        filesystems.unmount(_of(place, ns, image.stem))


def used(place: Place, ns: str) -> dict[str, tuple[int, int]]:
    """Name -> bytes that are used, and all that it has, of those that are mounted."""
    found = {image.stem: _of(place, ns, image.stem) for image in (_home(place) / ns).glob("*.img")}
    inside = {name: filesystems.held(of) for name, of in found.items() if of.there.is_mount()}
    return {name: (held.bytes, held.most) for name, held in inside.items()}


# --- all --------------------------------------------------------------------------------------


def volumes(place: Place) -> list[Kept]:
    """All of this node."""
    return [_kept(place, *one) for one in _listed(place)]


def remove(place: Place, ns: str, name: str) -> Kept:
    """Delete it, and all that is in it.  Raises NotFound, or Conflict while a container has it."""
    known = [found for of, found in _listed(place) if of == ns]
    if name not in known:
        has = f"it has {', '.join(known)}" if known else "`vini volume list` shows those that are"
        raise NotFound(f"Sliver {ns} has no volume {name!r} on this node; {has}.")
    gone = _kept(place, ns, name)
    if gone.used:
        raise Conflict(
            f"The volume {name!r} is in use; take it out of the file and `vini up`, or end the slice, first."
        )
    of = _of(place, ns, name)
    filesystems.forget(of)
    if of.there.exists():
        trees.remove(of.there)
    if not any((_home(place) / ns).iterdir()):
        (_home(place) / ns).rmdir()
    return gone


def _home(place: Place) -> Path:
    return place.state / "volumes"


def _of(place: Place, ns: str, name: str) -> FileSystem:
    if not names.SLIVER_NAME.fullmatch(name):  # a central may be another one tomorrow
        raise OSError(f"a volume can't be called {name!r}")
    home = _home(place)
    (home / ns).mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)  # a program in one could make any user of the node root
    return FileSystem(home / ns / name, home / ns / f"{name}.img", home / ns / name)


def _listed(place: Place) -> list[tuple[str, str]]:
    """Sliver and name, in order; other names there than a volume's have a dot."""
    found = {(at.parent.name, at.name.partition(".")[0]) for at in _home(place).glob("*/*")}
    return sorted(found)


def _kept(place: Place, ns: str, name: str) -> Kept:
    of, used = _of(place, ns, name), name in _had(place, ns)
    if of.image.exists():
        with suppress(OSError):
            inside = filesystems.held(of)
            return Kept(ns, name, inside.bytes, inside.files, used, inside.most)
    size = files = 0
    with suppress(OSError):  # its sliver moves directories meanwhile: so much there was at least
        for _, fd, directories, others in trees.walk(of.there) if of.there.is_dir() else ():
            for entry in (*directories, *others):
                with suppress(FileNotFoundError):  # deleted meanwhile
                    size += os.stat(entry, dir_fd=fd, follow_symlinks=False).st_blocks * 512
                    files += 1
    return Kept(ns, name, size, files, used, 0)


def _had(place: Place, ns: str) -> set[str]:
    try:
        record = (crun.home(place) / ns / crun.RECORD).read_bytes()
        return {name for name, _ in msgspec.json.decode(record, type=Container).volumes}
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except msgspec.DecodeError:  # another version started it: it may have any of them
        return {name for of, name in _listed(place) if of == ns}
