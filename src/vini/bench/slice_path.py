"""The way of packets through a slice of routers, and what stands at its ends."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from socket import if_nametoindex

from vini import names
from vini.bench import ours
from vini.bench.generator import Ends, Flow, take_off
from vini.bench.native import Path3
from vini.layout import layout
from vini.model import End, Link, Routing, Sliver, Topology, ViniError
from vini.node import netns

LOOKUP = """input -> l :: lookup -> t :: dec-ttl -> out
l[kernel] -> kernel
t[expired] -> kernel
"""
TABLE = """input -> t :: dec-ttl -> r :: route4(routes={{default = {out}}}) -> out
t[expired] -> kernel
r[none] -> kernel
"""


def line(count: int) -> Topology:
    """`a`, then `count` routers, then `c`; the kernel forwards."""
    inner = ["b"] if count == 1 else [f"b{i}" for i in range(count)]
    routers = {n: Sliver(n, routing=Routing(("static",))) for n in inner}
    slivers = {"a": Sliver("a"), **routers, "c": Sliver("c")}
    order = list(slivers)
    links = tuple(Link((End(x), End(y))) for x, y in zip(order, order[1:], strict=False))
    return Topology(ours.SLICE, slivers, links)


def path_through(topology: Topology, where: Mapping[str, Path]) -> Path3:
    """The same; `where` has each sliver's namespace."""
    made = layout(topology)
    first, last = made.vifs["a"][0], made.vifs["c"][0]
    flow = Flow(
        _mac(topology, "a", first.dev), _mac(topology, first.peer, first.peer_dev),
        _ip4(first.addresses), _ip4(last.addresses),
    )  # fmt: skip
    return Path3(where["a"], first.dev, where[first.peer], first.peer_dev, where["c"], last.dev, flow)


def tunnel_flow(topology: Topology) -> Flow:
    """The same packets on the link between the two routers of `line(2)`."""
    vif = next(v for v in layout(topology).vifs["b0"] if v.peer == "b1")
    ends = path_through(topology, dict.fromkeys(topology.slivers, Path())).flow
    macs = _mac(topology, "b0", vif.dev), _mac(topology, "b1", vif.peer_dev)
    return Flow(*macs, ends.source, ends.destination)


def _mac(topology: Topology, sliver: str, dev: str) -> str:
    return names.mac(topology.name, sliver, dev)


def _ip4(addresses: tuple[str, ...]) -> str:
    return next(a.partition("/")[0] for a in addresses if ":" not in a)


@contextmanager
def ends(of: Path3, *, takes_in: bool) -> Iterator[Ends]:
    """A generator at the first vif and a sink at the last; with `takes_in`, the kernel gets what enters the middle."""
    with netns.inside(of.first):
        made = Ends(if_nametoindex(of.first_dev), of.flow)
    made.put_sink(of.last, of.last_dev)
    if takes_in:
        made.take_in(of.middle, of.middle_dev)
    try:
        yield made
    finally:
        take_off(of.last, of.last_dev)
        if takes_in:
            take_off(of.middle, of.middle_dev)
        made.close()


def speak(of: Path3) -> None:
    """A ping, so that every neighbour on the way is known.  ViniError where none is answered within 10 s."""
    argv = ["ping", "-c", "1", "-w", "10", of.flow.destination]
    with netns.inside(of.first):
        if (done := subprocess.run(argv, capture_output=True, text=True)).returncode:
            raise ViniError(
                f"The slice under measurement is up, but no ping of {of.flow.destination} in {of.first} is answered "
                f"({(done.stderr or done.stdout).strip().splitlines()[-1]}); its rates would say nothing."
            )


def kpps(of: Path3, seconds: float, *, takes_in: bool) -> float:
    """10**3 packets per second that arrive."""
    speak(of)
    with ends(of, takes_in=takes_in) as made:
        return made.run(of.first, seconds).arrived_kpps
