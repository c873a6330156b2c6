"""Static routing: shortest paths by link cost, computed once, as kernel routes.  Pure."""

from __future__ import annotations

import heapq
from functools import lru_cache
from ipaddress import ip_interface

from vini.layout import Layout, Vif, forwards
from vini.model import Topology


def static_routes(topology: Topology, made: Layout, source: str) -> dict[str, tuple[str, Vif]]:
    """Prefix -> (next hop, vif) from `source` to every loopback and to every link that a host is on.

    Faults are ignored: static routing does not react, and this is what it is there to show.
    One next hop, also where costs are equal: then that of the source's link which the topology names first.
    So a static way is one that is known before anything runs; who wants equal-cost paths asks for a protocol.
    """
    first = _first_hops(topology, made, source)
    out: dict[str, tuple[str, Vif]] = {}
    for sliver, vif in sorted(first.items()):
        for cidr in _announced(topology, made, sliver):
            via = next((a for a in vif.peer_addresses if (":" in a) == (":" in cidr)), None)
            if via and cidr not in out:
                out[cidr] = (via.partition("/")[0], vif)
    own = {_network(a) for v in made.vifs[source] for a in v.addresses}
    return {to: hop for to, hop in out.items() if to not in own}


def _announced(topology: Topology, made: Layout, sliver: str) -> list[str]:
    leaves = [v for v in made.vifs[sliver] if not forwards(topology.slivers[v.peer])]
    return [*made.loopbacks.get(sliver, ()), *(_network(a) for v in leaves for a in v.addresses)]


@lru_cache(maxsize=1 << 16)
def _network(cidr: str) -> str:
    return str(ip_interface(cidr).network)


def _first_hops(topology: Topology, made: Layout, source: str) -> dict[str, Vif]:
    """Dijkstra's algorithm over the routers: sliver -> the vif by which `source` sends to it."""
    first: dict[str, Vif] = {}
    queue: list[tuple[int, str, int]] = [(0, source, -1)]
    vifs = made.vifs[source]
    done: set[str] = set()
    while queue:
        distance, at, hop = heapq.heappop(queue)
        if at in done:
            continue
        done.add(at)
        if hop >= 0:
            first[at] = vifs[hop]
        for i, vif in enumerate(made.vifs[at]):
            if vif.peer not in done and forwards(topology.slivers[vif.peer]):
                heapq.heappush(queue, (distance + vif.cost, vif.peer, i if at == source else hop))
    return first
