"""Bridges in the namespace that the calling thread is in, and storm control at their ports.

A port is policed before it becomes one, and until after it has ceased to be one: a loop has no moment to begin in.
The bridge's alias has the rate that is wanted, the filters' names the one that there is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from errno import EINVAL, ENODEV, ENOENT

from vini import names
from vini.model import Bridge
from vini.node import bpf, rtnl, storm, tc
from vini.node.netlink import Socket
from vini.node.place import GROUP
from vini.node.rtnl import SeenLink

_GONE = frozenset({0, ENOENT, ENODEV, EINVAL})  # EINVAL: no hooks there
_ALIAS = "vini storm "
Links = Mapping[int, SeenLink]


def observe(ns: str, socket: Socket, links: Links) -> Iterator[Bridge]:
    """The bridges of ours; one lacks wholeness also where a port is not policed at the rate that it tells."""
    for link in links.values():
        seen = rtnl.seen_bridge(link) if link.group == GROUP and not link.peer else None
        if seen is None:
            continue
        kpps = _kpps(link)
        ports = [x.index for x in links.values() if x.master == link.index]
        policed = all(_policed(socket, port) == storm.name(kpps) for port in ports)
        whole = link.up and policed and not seen.snoops and seen.timers == rtnl.BRIDGE_TIMERS
        yield Bridge(ns, link.dev, seen.stp, kpps, whole)


def _kpps(bridge: SeenLink) -> int:
    number = bridge.alias.removeprefix(_ALIAS)
    return int(number) if bridge.alias.startswith(_ALIAS) and number.isdecimal() else 0


def _policed(socket: Socket, port: int) -> str:
    """The name of the storm control at a port; "" where there is none."""
    return next((f.name for f in _filters(socket, port)), "")


def _filters(socket: Socket, port: int) -> list[tc.SeenFilter]:
    found = tc.filters(socket, port, tc.INGRESS)
    return [f for f in found if f.priority == tc.STORM_PRIORITY and f.name.startswith(storm.NAME)]


def ensure(socket: Socket, o: Bridge) -> None:
    """Make it, or mend what of it is there.  OSError where the kernel refuses."""
    links = _look(socket)
    old = next((x for x in links.values() if x.dev == o.dev), None)
    if old is None:
        slice_, _, sliver = o.ns.partition(".")
        socket.insist([rtnl.add_bridge(o.dev, names.mac(slice_, sliver, o.dev))])
    ports = [x.index for x in links.values() if old and x.master == old.index]
    police(socket, ports, o.storm_kpps)
    socket.insist([rtnl.set_bridge(o.dev, stp=o.stp, alias=f"{_ALIAS}{o.storm_kpps}")])


def police_ports(socket: Socket, bridge: SeenLink, links: Links, joining: Iterable[int]) -> None:
    """Storm control, at the bridge's rate, for those that are about to become its ports."""
    police(socket, [*(x.index for x in links.values() if x.master == bridge.index), *joining], _kpps(bridge))


def police(socket: Socket, ports: Sequence[int], kpps: int) -> None:
    """Storm control for all ports of one switch, which share what they know of stations."""
    found = {port: _filters(socket, port) for port in ports}
    right = [f[0].program for f in found.values() if f and f[0].name == storm.name(kpps)]
    lacking = [port for port, f in found.items() if not f or f[0].name != storm.name(kpps)]
    if not lacking:
        return
    program = bpf.by_id(right[0]) if right else storm.load(kpps)
    try:
        for port in lacking:
            filter_ = tc.set_filter(port, program, storm.name(kpps), tc.INGRESS, tc.STORM_PRIORITY)
            socket.insist([tc.add_clsact(port), filter_])
    finally:
        os.close(program)


def leave(socket: Socket, links: Iterable[SeenLink]) -> None:
    """Those are no ports any more, and no longer policed."""
    for link in links:
        out = rtnl.set_master(link.index, 0)
        socket.insist([out, tc.delete_filter(link.index, tc.INGRESS, tc.STORM_PRIORITY)], allowed=_GONE)


def remove(socket: Socket, o: Bridge) -> None:
    """Take it away, and storm control from all that were its ports; no error when it is gone."""
    links = _look(socket)
    leave(socket, [x for x in links.values() if x.peer and x.group == GROUP])
    if any(x.dev == o.dev and rtnl.seen_bridge(x) for x in links.values()):
        socket.insist([rtnl.delete_link(o.dev)], allowed=_GONE)


def _look(socket: Socket) -> Links:
    return {link.index: link for link in rtnl.links(socket)}
