"""Tunnels to other nodes, whose interfaces are in the namespace that the calling thread is in, and their sockets not.

A tunnel outlives the agent that made it; the kernel takes it away with its namespace, a moment after that is gone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from errno import EEXIST
from pathlib import Path

from vini.model import Vxlan
from vini.node import rtnl, vxlan
from vini.node.drivers import Failures
from vini.node.netlink import Socket
from vini.node.place import GROUP
from vini.node.rtnl import SeenLink
from vini.node.vxlan import Entry

_FALLS_WITHIN_S = 2.0  # the kernel takes a namespace down, and frees its tunnels' numbers
Links = Mapping[int, SeenLink]


def observe(ns: str, socket: Socket, links: Links) -> Iterator[Vxlan]:
    """The tunnels of ours.  One whose socket is in its own namespace is not: it leads nowhere."""
    found = [(link, t) for link in links.values() if is_ours(link) and (t := vxlan.seen(link)) is not None]
    entries = _entries(socket) if found else []
    for link, t in found:
        own = [e for e in entries if e.index == link.index]
        whole = not t.learns and [e.remote for e in own if e.is_default] == [t.remote] and len(own) == 1
        yield Vxlan(ns, link.dev, link.index, link.mac, t.vni, t.local, t.remote, t.port, whole)


def is_ours(link: SeenLink) -> bool:
    """Whether it bears our mark, and is a tunnel from this namespace through another."""
    return link.group == GROUP and link.apart and vxlan.seen(link) is not None


def _entries(socket: Socket) -> list[Entry]:
    return [e for m in socket.dump(vxlan.dump_entries()) if (e := vxlan.seen_entry(m)) is not None]


def ensure(home: Socket, there: Socket, pin: Path, objects: Sequence[Vxlan]) -> Failures:
    """Make those of one namespace, or change what of them is there.  `home` is a socket in the node's own namespace."""
    links = {link.index: link for link in map(rtnl.seen_link, there.dump(rtnl.dump_links()))}
    have = {o.dev: o for o in observe(objects[0].ns, there, links)}
    failures: Failures = {}
    fd = os.open(pin, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for o in objects:
            old = have.get(o.dev)
            if old is not None and _is_same(old, o) and _change(there, o):
                continue
            stale = [x.dev for x in links.values() if x.group == GROUP and (x.dev == o.dev or x.index == o.index)]
            there.transact([rtnl.delete_link(dev) for dev in stale])
            others = {x.dev for x in links.values()} - set(stale)
            if why := _make(home, fd, o, o.dev in others):
                failures[o.key] = f"The kernel refused {' '.join(o.key)}: {why}."
    finally:
        os.close(fd)
    return failures


def _is_same(old: Vxlan, new: Vxlan) -> bool:
    return (old.index, old.mac, old.vni, old.port) == (new.index, new.mac, new.vni, new.port)


def _change(there: Socket, o: Vxlan) -> bool:
    """Lead a tunnel to where it is to lead, and nowhere else; False where the kernel can't."""
    if there.transact([vxlan.change(o)])[0]:
        return False
    own = [e for e in _entries(there) if e.index == o.index]
    wrong = [e for e in own if not e.is_default or e.remote != o.remote]
    return not any(there.transact([*map(vxlan.delete_entry, wrong), vxlan.add_default(o.index, o.remote)]))


def _make(home: Socket, fd: int, o: Vxlan, is_taken: bool) -> str:
    """Why it could not be made; "" where it was."""
    request = vxlan.add(fd, o)
    deadline = time.monotonic() + _FALLS_WITHIN_S
    while (errno := home.transact([request])[0]) == EEXIST and not is_taken and time.monotonic() < deadline:
        time.sleep(0.02)  # its number may be that of one whose namespace is being taken down
    if errno == EEXIST and not is_taken:
        return f"this node has another tunnel with the number {o.vni}"
    return os.strerror(errno) if errno else ""
