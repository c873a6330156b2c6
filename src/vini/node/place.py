"""Where one agent's things are on its machine, and the mark that says whose they are."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from vini.model import Value

GROUP = 0x56494E49  # "VINI": the interface group of every interface that we make (ip-link(8), group)
ROUTE_PROTOCOL = 86  # "V": the protocol number of every route that we make (ip-route(8), proto)


class Place(Value, frozen=True):
    """Two agents with different places on one machine never see each other's things."""

    mark: str = "vini"  # first part of namespace names, name of the cgroup
    run: Path = Path("/run/vini")  # sockets, logs, files of slivers; gone after a reboot
    state: Path = Path("/var/lib/vini")  # database and ledger; stays

    def netns(self, ns: str) -> Path:
        """The pinned network namespace of `slice.sliver`."""
        return _netns(f"{self.mark}.{ns}")

    def sliver(self, ns: str) -> Path:
        """The run directory of `slice.sliver`."""
        return self.run / ns


@lru_cache(maxsize=1 << 13)
def _netns(name: str) -> Path:
    return Path("/run/netns") / name  # a path takes 10 us to make, and each is asked for in every step of a pass


def from_environment() -> Place:
    """The place that VINI_MARK, VINI_RUN and VINI_STATE name; the defaults are those of `Place`."""
    mark = os.environ.get("VINI_MARK", "vini")
    default = Place(mark, Path(f"/run/{mark}"), Path(f"/var/lib/{mark}"))
    return Place(
        mark,
        Path(os.environ.get("VINI_RUN", default.run)),
        Path(os.environ.get("VINI_STATE", default.state)),
    )
