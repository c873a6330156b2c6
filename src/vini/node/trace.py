"""Every trace that slivers leave on this machine, also those of slivers that nobody wants any more."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from vini.model import AnyObject, Process
from vini.node import cgroup, netns, rtnl
from vini.node.drivers.process import ProcessDriver
from vini.node.netlink import Socket
from vini.node.place import Place
from vini.reach import FibEntry


class Traces:
    """What the agent asks beyond objects: which slivers there are, their tables, and how their processes are."""

    def __init__(self, place: Place, processes: ProcessDriver):
        self._place, self._processes = place, processes

    def namespaces(self) -> set[str]:
        """Names (`slice.sliver`) of all that has a namespace, a directory, a pinned root or a cgroup of ours."""
        mark = self._place.mark + "."
        directory = Path("/run/netns")
        found = {p.name[len(mark) :] for p in directory.glob(mark + "*")} if directory.is_dir() else set()
        for parent in (self._place.run / "slivers", cgroup.of(self._place)):
            with suppress(FileNotFoundError):
                found |= {p.name for p in parent.iterdir() if "." in p.name and p.is_dir()}
        with suppress(FileNotFoundError):
            found |= {p.name.removesuffix(".root") for p in (self._place.run / "mounts").iterdir()}
        return found

    def health(self, objects: Iterable[AnyObject]) -> tuple[dict[str, str], dict[str, str]]:
        """Namespace -> why, for what exists but does not work yet, and for what has failed."""
        return self._processes.health([o for o in objects if isinstance(o, Process)])

    def fibs(self, namespaces: Iterable[str]) -> dict[str, tuple[FibEntry, ...]]:
        """The main tables of those namespaces, both families."""
        out = {}
        with netns.back_home():
            for ns in namespaces:
                with suppress(OSError):
                    netns.enter(self._place.netns(ns))
                    with Socket() as socket:
                        out[ns] = _fib(socket)
        return out


def _fib(socket: Socket) -> tuple[FibEntry, ...]:
    dev = {link.index: link.dev for link in map(rtnl.seen_link, socket.dump(rtnl.dump_links()))}
    routes = [rtnl.seen_route(m) for m in socket.dump(rtnl.dump_routes(0))]
    return tuple(FibEntry(r.to, r.via, dev.get(r.index, "")) for r in routes)
