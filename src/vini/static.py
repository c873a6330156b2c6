"""Static routing: shortest paths by link cost, computed once, as kernel routes.  Pure."""

from __future__ import annotations

import heapq
from functools import lru_cache
from ipaddress import ip_interface

from vini.layout import Layout, Vif


def static_routes(made: Layout, source: str) -> dict[str, tuple[str, Vif]]:
    """Prefix -> (next hop, vif) from `source` to every loopback and to every link that a host is on.

    Faults are ignored: static routing does not react, and this is what it is there to show.
    One next hop, also where costs are equal: then that of the source's link which the topology names first.
    So a static way is one that is known before anything runs; who wants equal-cost paths asks for a protocol.
    """
    first = _first_hops(made, source)
    out: dict[str, tuple[str, Vif]] = {}
    for sliver, (vif, neighbor) in sorted(first.items()):
        for cidr in _announced(made, sliver):
            via = next((a for a in neighbor.addresses if (":" in a) == (":" in cidr)), None)
            if via and cidr not in out:
                out[cidr] = (via.partition("/")[0], vif)
    own = {_network(a) for v in made.vifs[source] for a in v.addresses}
    return {to: hop for to, hop in out.items() if to not in own}


def _announced(made: Layout, sliver: str) -> list[str]:
    leaves = [v for v in made.vifs[sliver] if any(n.sliver not in made.forwarding for n in made.neighbors(v))]
    return [*made.loopbacks.get(sliver, ()), *(_network(a) for v in leaves for a in v.addresses)]


@lru_cache(maxsize=1 << 16)
def _network(cidr: str) -> str:
    return str(ip_interface(cidr).network)


def _first_hops(made: Layout, source: str) -> dict[str, tuple[Vif, Vif]]:
    """Dijkstra's algorithm over the routers: sliver -> the vif by which `source` sends to it, and to whose vif."""
    first: dict[str, tuple[Vif, Vif]] = {}
    hops = [(vif, neighbor) for vif in made.vifs[source] for neighbor in made.neighbors(vif)]
    queue = [
        (vif.cost, neighbor.sliver, i) for i, (vif, neighbor) in enumerate(hops) if neighbor.sliver in made.forwarding
    ]
    heapq.heapify(queue)
    done = {source}
    while queue:
        distance, at, hop = heapq.heappop(queue)
        if at in done:
            continue
        done.add(at)
        first[at] = hops[hop]
        for vif in made.vifs[at]:
            for neighbor in made.neighbors(vif):
                if neighbor.sliver not in done and neighbor.sliver in made.forwarding:
                    heapq.heappush(queue, (distance + vif.cost, neighbor.sliver, hop))
    return first
