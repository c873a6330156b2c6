"""Each of two hosts under measurement by itself: what one machine does for a link whose other end is on another.

Test hosts share processors and memory, so that either both do their part on one processor, or each frame's memory goes
from one processor to the other and back; two machines do neither.  Here one half of the way is measured, and then the
other, on one processor each: from the first vif to where the frames arrive at the second host's end of the cable; and
from there, with the tunnel's headers as the first host makes them, to the last vif.  Two machines carry as much as the
slower of them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from socket import if_nametoindex

from vini.bench.generator import FRAME, Ends, Flow, ethernet, ipv4, put_program, take_off
from vini.bench.slice_path import path_through, tunnel_flow
from vini.bench.two_hosts import CABLE, HOSTS, VNI, still
from vini.model import Topology
from vini.node import bpf, netns, rtnl, xdp
from vini.node.netlink import Socket

_UDP = struct.Struct(">HHHH")  # ports, length, checksum (none: RFC 7348, 4.1)
_VXLAN = struct.Struct(">II")  # flags, VXLAN network identifier
_VNI_FOLLOWS = 0x08000000
_PORT = 4789
_SOURCE_PORT = 0xC000


def first_kpps(topology: Topology, where: Mapping[str, Path], agent: int, seconds: float) -> float:
    """10**3 packets per second through the first host of a slice of `slice_path.line(2)` with programs at XDP.

    `agent` is the second host's process, which stands still meanwhile: it would put its own program back.
    """
    of = path_through(topology, where)
    with netns.inside(of.first):
        made = Ends(if_nametoindex(of.first_dev), of.flow)
    try:
        with still(HOSTS[1], agent), _in_place_of_arrival(made):
            return _run(made, of.first, seconds)
    finally:
        made.close()


def second_kpps(topology: Topology, where: Mapping[str, Path], seconds: float) -> float:
    """The same through the second, of frames that come by the cable."""
    of, here = path_through(topology, where), HOSTS[0].network
    flow = tunnel_flow(topology)
    with netns.inside(here):
        made = Ends(if_nametoindex(CABLE), flow, outer=_outer())
    made.put_sink(of.last, of.last_dev)
    try:
        return _run(made, here, seconds)
    finally:
        take_off(of.last, of.last_dev)
        made.close()


def _run(made: Ends, first: Path, seconds: float) -> float:
    made.run(first, seconds / 10)  # the first packets find the way
    return made.run(first, seconds).arrived_kpps


@contextmanager
def _in_place_of_arrival(made: Ends) -> Iterator[None]:
    """The sink where the second host takes tunnels' packets in; afterwards what was there."""
    before = bpf.by_id(xdp.seen_any(_cable(1)).id)
    try:
        made.put_sink(HOSTS[1].network, CABLE)
        yield
    finally:
        put_program(HOSTS[1].network, CABLE, before)
        os.close(before)


def _outer() -> bytes:
    """The tunnel's headers, as the first host puts them on (dataplane/tunnel/vxlan.c)."""
    one, other = HOSTS
    inner = _VXLAN.pack(_VNI_FOLLOWS, VNI << 8)
    size = _UDP.size + len(inner) + FRAME
    udp = _UDP.pack(_SOURCE_PORT, _PORT, size, 0)
    flow = Flow(rtnl.seen_link(_cable(0)).mac, rtnl.seen_link(_cable(1)).mac, one.address, other.address)
    return ethernet(flow) + ipv4(flow.source, flow.destination, size) + udp + inner


def _cable(host: int) -> bytes:
    """What the kernel says of its end at that host."""
    with netns.inside(HOSTS[host].network), Socket() as socket:
        return socket.ask(rtnl.get_link(if_nametoindex(CABLE)))
