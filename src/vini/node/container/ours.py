"""Sockets that the node's own programs have in slivers' networks, such as those by which links are measured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vini.node.place import Place

_SOCKET = "socket:["


def sockets(place: Place) -> frozenset[int]:
    """Inodes of the sockets of all processes that are in no sliver, but of none that one in a sliver has too: it could
    have it from the other, or have given it away."""
    own: set[int] = set()
    theirs: set[int] = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ends this moment
            (theirs if _in_sliver(place, process) else own).update(_of(process))
    return frozenset(own - theirs)


def _in_sliver(place: Place, process: Path) -> bool:
    """Whether its group is below the agent's (cgroups(7)): there are slivers, of this place."""
    rows = (process / "cgroup").read_text().splitlines()
    return any(row.startswith("0::") and f"/{place.mark}/" in row for row in rows)


def _of(process: Path) -> Iterator[int]:
    for fd in os.scandir(process / "fd"):
        with suppress(OSError):
            if (there := str(Path(fd.path).readlink())).startswith(_SOCKET):
                yield int(there[len(_SOCKET) : -1])
