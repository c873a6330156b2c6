"""How fast a sliver's disk is read and written: io.max of cgroups version 2, or blkio of version 1.

The device is the sliver's alone.  So with version 1, which charges what is written late to nobody, the whole device is
bounded, in the root group; version 2 knows whose pages they are, and bounds them in the sliver's own.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from vini.model import Disk, Volume
from vini.node import cgroup
from vini.node.container import limits
from vini.node.place import Place

_MB = 10**6
_READ, _WRITE = "blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device"


def ensure(place: Place, o: Disk | Volume, device: int) -> None:
    """Set them, or lift those of whatever had this device before.  OSError where nothing can."""
    if root := limits.tree("blkio"):
        for file, mb in ((_READ, o.read_mb), (_WRITE, o.write_mb)):
            (root / file).write_text(f"{_numbers(device)} {mb * _MB}")
        return
    if not (o.read_mb or o.write_mb) and not _group(place, o.ns).is_file():
        return
    if not limits.delegate(place, "io"):
        raise OSError(
            "its disk's rates can't be bounded: this machine's cgroups have no controller io (version 2) or blkio "
            "(version 1); leave `disk_read` and `disk_write` out"
        )
    cgroup.of(place, o.ns).mkdir(parents=True, exist_ok=True)
    _group(place, o.ns).write_text(f"{_numbers(device)} rbps={_text(o.read_mb)} wbps={_text(o.write_mb)}")


def hold(place: Place, o: Disk | Volume, device: int) -> bool:
    """Whether they are as asked."""
    if root := limits.tree("blkio"):
        return all(
            _listed(root / file, device) == (str(mb * _MB) if mb else "")
            for file, mb in ((_READ, o.read_mb), (_WRITE, o.write_mb))
        )
    words = dict(word.split("=") for word in _listed(_group(place, o.ns), device).split())
    return (words.get("rbps", "max"), words.get("wbps", "max")) == (_text(o.read_mb), _text(o.write_mb))


def lift(device: int) -> None:
    """Before the device is another's; the group of version 2 goes with its sliver."""
    if root := limits.tree("blkio"):
        for file in (_READ, _WRITE):
            with suppress(OSError):
                (root / file).write_text(f"{_numbers(device)} 0")


def _group(place: Place, ns: str) -> Path:
    return cgroup.of(place, ns) / "io.max"


def _listed(file: Path, device: int) -> str:
    """What a file of such lines says of a device; "": nothing."""
    with suppress(OSError):
        for line in file.read_text().splitlines():
            numbers, _, rest = line.partition(" ")
            if numbers == _numbers(device):
                return rest
    return ""


def _numbers(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"


def _text(mb: int) -> str:
    return str(mb * _MB) if mb else "max"
