"""Where one agent's things are on its machine, and the mark that says whose they are."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

from vini.model import Value, ViniError
from vini.names import digest

_LONGEST = 88  # bytes of a run directory; leaves room for /frr/ospf6d.vty
_MARK = re.compile(r"[a-z0-9-]{1,16}")
_DIRECTORY = re.compile(r"[\w./+@-]+")
GROUP = 0x56494E49  # "VINI": the interface group of every interface that we make (ip-link(8), group)
OUTSIDE_GROUP = GROUP + 1  # that of the node's ends of slivers' ways to the world
DETOUR_GROUP = GROUP + 2  # that of both ends of what leads slices' packets round by the node before they are encrypted
OURS = frozenset({GROUP, OUTSIDE_GROUP, DETOUR_GROUP})  # groups of interfaces that are no machine's own
ROUTE_PROTOCOL = 86  # "V": the protocol number of every route that we make (ip-route(8), proto)


class Place(Value, frozen=True):
    """Two agents with different places on one machine never see each other's things."""

    mark: str = "vini"  # first part of namespace names, name of the cgroup
    run: Path = Path("/run/vini")  # sockets, logs, files of slivers; gone after a reboot
    state: Path = Path("/var/lib/vini")  # database and ledger; stays

    def netns(self, ns: str) -> Path:
        """The name of the network namespace of `slice.sliver`, for people and programs: it leads to the pin."""
        return _netns(f"{self.mark}.{ns}")

    def pin(self, ns: str) -> Path:
        """Where that network namespace is pinned."""
        return _pin(self.run, ns)

    def sliver(self, ns: str) -> Path:
        """The run directory of `slice.sliver`."""
        return self.run / "slivers" / ns

    def sockets(self, ns: str) -> Path:
        """The same by a path that is short enough for daemons' sockets: unix(7) allows 107 bytes, FRR cuts more off
        without a word.  Where it is another path, it is a symbolic link that is made when a process starts."""
        direct = self.sliver(ns)
        return direct if len(str(direct)) <= _LONGEST else self.run / f"@{digest('run directory', ns):016x}"


@lru_cache(maxsize=1 << 13)
def _netns(name: str) -> Path:
    return Path("/run/netns") / name  # a path takes 10 us to make, and each is asked for in every step of a pass


@lru_cache(maxsize=1 << 13)
def _pin(run: Path, ns: str) -> Path:
    slice_, _, sliver = ns.partition(".")
    return run / "netns" / slice_ / sliver


def from_environment() -> Place:
    """The place that VINI_MARK, VINI_RUN and VINI_STATE name; the defaults are those of `Place`."""
    mark = os.environ.get("VINI_MARK", "vini")
    if not _MARK.fullmatch(mark):
        raise ViniError(f"VINI_MARK is {mark!r}; use a-z, 0-9 and -, at most 16, for example VINI_MARK=mine.")
    default = Place(mark, Path(f"/run/{mark}"), Path(f"/var/lib/{mark}"))
    run, state = (
        Path(os.environ.get(n, d)).resolve() for n, d in (("VINI_RUN", default.run), ("VINI_STATE", default.state))
    )
    for directory in (run, state):
        if not _DIRECTORY.fullmatch(str(directory)):
            raise ViniError(f"The directory {str(directory)!r} can't be mounted; use letters and digits.")
    return Place(mark, run, state)
