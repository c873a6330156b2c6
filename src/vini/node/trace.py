"""Every trace that slivers leave on this machine, also those of slivers that nobody wants any more."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress

from vini.bus import SliverLoad
from vini.model import AnyObject, Process
from vini.node import netns, rtnl, rtnl_routes
from vini.node.carrier import Carrier
from vini.node.drivers.contents import furnished
from vini.node.drivers.process import ProcessDriver
from vini.node.drivers.share import ShareDriver
from vini.node.loads import loads
from vini.node.netlink import Socket
from vini.node.outside import pair, record
from vini.node.pins import Pins
from vini.node.place import Place
from vini.node.shares import record as shares
from vini.reach import FibEntry, NextHop


class Traces:
    """What the agent asks beyond objects: which slivers there are, their tables, and how their processes are."""

    def __init__(self, place: Place, processes: ProcessDriver):
        self._place, self._pins, self._processes = place, Pins(place), processes
        self._carrier, self._shares = Carrier(place), ShareDriver(place)

    def namespaces(self) -> set[str]:
        """Names (`slice.sliver`) of all that has a namespace, a directory, a pinned root, a cgroup, a tunnel, a share
        or a way to the world of ours."""
        outside = self._outside()
        tunnels = {o.ns for o in self._carrier.owners().values()}
        held = shares.held(self._place).keys()
        return self._pins.names() | furnished(self._place) | outside | tunnels | held

    def outliving(self, namespaces: Collection[str]) -> frozenset[AnyObject]:
        """Of these slivers, which nobody wants, what the node has that does not fall with their namespaces."""
        return frozenset(pair.remnant(ns) for ns in self._outside() & set(namespaces))

    def _outside(self) -> set[str]:
        return record.namespaces(self._place) | pair.strays(self._place.mark)

    def health(self, objects: Iterable[AnyObject]) -> tuple[dict[str, str], dict[str, str]]:
        """Namespace -> why, for what exists but does not work yet, and for what has failed."""
        return self._processes.health([o for o in objects if isinstance(o, Process)])

    def awaited(self, namespaces: Collection[str]) -> bool:
        """Whether some processes of these slivers have not answered yet, and have time left to."""
        return self._processes.awaited(namespaces)

    def being_told(self, namespaces: Collection[str]) -> set[str]:
        """Those of these slivers in which a process is being told of its new configuration."""
        return self._processes.being_told(namespaces)

    def being_asked(self, namespaces: Collection[str]) -> bool:
        """Whether `health` of these slivers will have news, since some of their processes were asked by it."""
        return self._processes.being_asked(namespaces)

    def asking(self) -> bool:
        """Whether any process is being asked; from any thread."""
        return self._processes.asking()

    def close(self) -> None:
        """End what is being asked."""
        self._processes.close()

    def fibs(self, namespaces: Iterable[str]) -> dict[str, tuple[FibEntry, ...]]:
        """The main tables of those namespaces, both families."""
        out = {}
        with netns.back_home():
            for ns in namespaces:
                with suppress(OSError):
                    netns.enter(self._place.pin(ns))
                    with Socket() as socket:
                        out[ns] = fib(socket)
        return out

    def slowed(self) -> dict[str, str]:
        """Namespace -> why, of slivers that have sent what they may in a day."""
        return self._shares.slowed()

    def loads(self, namespaces: Iterable[str]) -> dict[str, SliverLoad]:
        """What those slivers do to the machine, by their namespaces."""
        return loads(self._place, namespaces)


def fib(socket: Socket) -> tuple[FibEntry, ...]:
    """The main tables of the namespace that a socket was made in."""
    dev = {link.index: link.dev for link in rtnl.links(socket)}
    routes = rtnl_routes.routes(socket)
    return tuple(entry for route in routes if (entry := _entry(route, dev)))


def _entry(route: rtnl_routes.SeenRoute, dev: dict[int, str]) -> FibEntry | None:
    """What the kernel forwards by; None of a route whose next hops are all dead.

    Next hops by vif: kernels and daemons list equal ones in an order that means nothing.
    """
    if len(route.hops) == 1:
        hop = route.hops[0]
        return None if hop.dead else FibEntry(route.to, hop.via, dev.get(hop.index, ""))
    alive = sorted((dev.get(h.index, ""), h.via, h.weight) for h in route.hops if not h.dead)
    if not alive:
        return None
    (first, via, weight), *others = alive
    return FibEntry(route.to, via, first, weight, tuple(NextHop(v, d, w) for d, v, w in others))
