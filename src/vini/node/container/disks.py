"""Disks of slivers: a file system of each one's own, at its directory, that holds all that it writes."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec

from vini.model import Disk
from vini.node.container import filesystems, io_rates
from vini.node.container.filesystems import FileSystem
from vini.node.place import Place

_OF_THIS_BOOT = ("*.process", "*.status")  # records of processes; after a reboot none of them has run


def image(place: Place, ns: str) -> Path:
    """The file that it is in."""
    return place.state / "disks" / f"{ns}.img"


def _of(place: Place, ns: str) -> FileSystem:
    return FileSystem(place.sliver(ns), image(place, ns), place.run / "disks" / ns, _OF_THIS_BOOT)


def slivers(place: Place) -> set[str]:
    """`slice.sliver` of all that have one, or half of one."""
    homes = [home for home in (place.state / "disks", place.run / "disks") if home.is_dir()]
    return {p.name.rpartition(".")[0] for home in homes for p in home.iterdir()}


def observed(place: Place, ns: str) -> Disk | None:
    """The disk, with the rates that hold; one that is not mounted has rates that nobody wants, so that it is mounted,
    or what it holds is taken out."""
    of = _of(place, ns)
    try:
        o = msgspec.json.decode(of.record.read_bytes(), type=Disk)
        if of.there.is_mount() and io_rates.hold(place, o, of.there.stat().st_dev):
            return o
        return msgspec.structs.replace(o, read_mb=-1) if of.image.exists() else None
    except (OSError, msgspec.DecodeError):
        return None


def ensure(place: Place, o: Disk) -> None:
    """Make it, with what is in the sliver's directory; or mount it again; or change its rates.

    OSError where the machine can't.
    """
    of = _of(place, o.ns)
    filesystems.ensure(of, o)
    io_rates.ensure(place, o, of.there.stat().st_dev)
    filesystems.note(of, o)


def remove(place: Place, ns: str) -> None:
    """Leave what it holds in the sliver's directory, as it would be without a disk."""
    filesystems.take_out(_of(place, ns))
    _last(place)


def forget(place: Place, ns: str) -> None:
    """Take it away with all that it holds, and room for it is free."""
    filesystems.forget(_of(place, ns))
    _last(place)


def _last(place: Place) -> None:
    with suppress(OSError):  # the last one takes it along
        (place.run / "disks").rmdir()
