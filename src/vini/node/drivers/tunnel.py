"""Tunnels to other nodes, whose interfaces are in one namespace, and what carries them in another one.

A tunnel outlives the agent that made it; the kernel takes it away with its namespace, a moment after that is gone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from errno import EEXIST
from itertools import groupby
from pathlib import Path

from vini.model import AnyObject, Gretap, Vxlan, underlay
from vini.node import gretap, netns, rtnl, vxlan
from vini.node.drivers import Failures, refused
from vini.node.netlink import Socket
from vini.node.place import GROUP, Place
from vini.node.rtnl import SeenLink
from vini.node.vxlan import Entry

KernelTunnel = Vxlan | Gretap  # what the kernel has an interface of its own for
_NOBODYS = -2
_FALLS_WITHIN_S = 2.0  # the kernel takes a namespace down, and frees its tunnels' numbers
Links = Mapping[int, SeenLink]


class Below:
    """The namespace that carries tunnels: a socket in it, and a file of it."""

    def __init__(self, socket: Socket, fd: int):
        self.socket, self.fd = socket, fd


def observe(ns: str, socket: Socket, links: Links, pin: Path) -> Iterator[KernelTunnel]:
    """The tunnels of ours.  One that is carried by its own namespace is not: it leads nowhere.

    `pin` is that of the slice's encrypted way; a tunnel that is not carried by it is by the node's own namespace.
    """
    ours = [link for link in links.values() if is_ours(link)]
    has_vxlan = any(vxlan.seen(link) for link in ours)
    entries, secure = (_entries(socket), _number_of(socket, pin)) if has_vxlan else ({}, -1)
    for link in ours:
        if (t := vxlan.seen(link)) is not None:
            own = entries.get(link.index, [])
            whole = not t.learns and [e.remote for e in own if e.is_default] == [t.remote] and len(own) == 1
            through = underlay(ns) if link.below == secure else ""
            yield Vxlan(ns, link.dev, link.index, link.mac, t.vni, t.local, t.remote, t.port, whole, through)
        elif (g := gretap.seen(link)) is not None:
            yield Gretap(ns, link.dev, link.index, link.mac, g.gre_key, g.local, g.remote, g.plain)


def _number_of(socket: Socket, pin: Path) -> int:
    """By which the namespace of that socket knows the one of the pin; one that is none's where it doesn't."""
    try:
        with netns.opened(pin) as fd:
            number = rtnl.seen_namespace_number(socket.ask(rtnl.get_namespace_number(fd)))
    except OSError:  # it isn't there, or no namespace is pinned there
        return _NOBODYS
    return number if number >= 0 else _NOBODYS


def is_ours(link: SeenLink) -> bool:
    """Whether it bears our mark, and is a tunnel from this namespace through another."""
    return link.group == GROUP and link.apart and (vxlan.seen(link) is not None or gretap.seen(link) is not None)


def _entries(socket: Socket) -> dict[int, list[Entry]]:
    """By the index of their tunnel."""
    out: dict[int, list[Entry]] = {}
    for message in socket.dump(vxlan.dump_entries()):
        if (entry := vxlan.seen_entry(message)) is not None:
            out.setdefault(entry.index, []).append(entry)
    return out


def ensure(place: Place, objects: Sequence[AnyObject]) -> Failures:
    """Make them, or change what of them is there."""
    failures: Failures = {}
    tunnels = [o for o in objects if isinstance(o, KernelTunnel)]
    home = Path("/proc/thread-self/ns/net")
    tunnels.sort(key=lambda o: (_through(o), o.ns))
    for through, group in groupby(tunnels, key=_through):
        batch = list(group)
        try:
            with _below(place.pin(through) if through else home) as below:
                failures |= _ensure_above(place, below, batch)
        except OSError as e:
            failures.update((o.key, refused(o, e)) for o in batch)
    return failures


def _ensure_above(place: Place, below: Below, tunnels: Sequence[KernelTunnel]) -> Failures:
    """Those that one namespace carries."""
    failures: Failures = {}
    with netns.back_home():
        for ns, group in groupby(tunnels, key=lambda o: o.ns):
            batch, pin = list(group), place.pin(ns)
            try:
                with netns.opened(pin) as here:
                    netns.enter(pin)
                    with Socket() as there:
                        secure = place.pin(underlay(ns))
                        failures |= _ensure_in(below, there, here, batch, secure)
            except OSError as e:
                failures.update((o.key, refused(o, e)) for o in batch)
    return failures


@contextmanager
def _below(path: Path) -> Iterator[Below]:
    """A namespace that carries tunnels."""
    with ExitStack() as stack:
        fd = stack.enter_context(netns.opened(path))
        with netns.inside(path):
            socket = stack.enter_context(Socket())
        yield Below(socket, fd)


def _through(o: KernelTunnel) -> str:
    return o.through if isinstance(o, Vxlan) else ""


def _ensure_in(below: Below, there: Socket, here: int, objects: Sequence[KernelTunnel], pin: Path) -> Failures:
    """Those of one namespace.  `there` is a socket in it, `here` a file of it; `pin` as above."""
    links = {link.index: link for link in rtnl.links(there)}
    named = {link.dev: link for link in links.values()}
    have = {o.dev: o for o in observe(objects[0].ns, there, links, pin)}
    changed = _change(there, [o for o in objects if o.dev in have and _is_same(have[o.dev], o)])
    failures: Failures = {}
    for o in objects:
        if o.dev in changed:
            continue
        stale = {x.dev for x in (named.get(o.dev), links.get(o.index)) if x and x.group == GROUP}
        there.transact([rtnl.delete_link(dev) for dev in sorted(stale)])
        if why := _make(below, there, here, o, o.dev in named and o.dev not in stale):
            failures[o.key] = refused(o, why)
    return failures


def _is_same(old: KernelTunnel, new: KernelTunnel) -> bool:
    """Whether it can become the new one as it is."""
    return (
        type(old) is type(new)
        and not {f for f in new.__struct_fields__ if getattr(old, f) != getattr(new, f)} - new.changeable
    )


def _change(there: Socket, tunnels: Sequence[KernelTunnel]) -> set[str]:
    """Lead tunnels to where they are to lead, and nowhere else; the names of those of which the kernel can do that."""
    errnos = there.transact([gretap.change(o) if isinstance(o, Gretap) else vxlan.change(o) for o in tunnels])
    done = {o.dev for o, errno in zip(tunnels, errnos, strict=True) if not errno}
    led = [o for o in tunnels if isinstance(o, Vxlan) and o.dev in done]
    entries = _entries(there) if led else {}
    for o in led:
        wrong = [e for e in entries.get(o.index, ()) if not e.is_default or e.remote != o.remote]
        if any(there.transact([*map(vxlan.delete_entry, wrong), vxlan.add_default(o.index, o.remote)])):
            done.remove(o.dev)
    return done


def _make(below: Below, there: Socket, here: int, o: KernelTunnel, is_taken: bool) -> str:
    """Why it could not be made; "" where it was."""
    attempt = _attempt(below, there, here, o)
    deadline = time.monotonic() + _FALLS_WITHIN_S
    while (errno := attempt()) == EEXIST and not is_taken and time.monotonic() < deadline:
        time.sleep(0.02)  # its number may be that of one whose namespace is being taken down
    if errno == EEXIST and not is_taken:
        number = o.gre_key if isinstance(o, Gretap) else o.vni
        return f"this node has another tunnel with the number {number}" + _or_name(o)
    return os.strerror(errno) if errno else ""


def _or_name(o: KernelTunnel) -> str:
    """A GRE tunnel is born below, under its name."""
    return f", or an interface of its own with the name {o.dev}" if isinstance(o, Gretap) else ""


def _attempt(below: Below, there: Socket, here: int, o: KernelTunnel) -> Callable[[], int]:
    """To make it; tells the errno."""
    if isinstance(o, Vxlan):
        return lambda: below.socket.transact([vxlan.add(here, o)])[0]
    number = _number(there, below.fd)
    return lambda: there.transact([gretap.add(number, o)])[0]


def _number(there: Socket, fd: int) -> int:
    """By which the namespace of that socket knows another one; it is given one where it has none."""
    number = rtnl.seen_namespace_number(there.ask(rtnl.get_namespace_number(fd)))
    if number < 0:
        there.transact([rtnl.number_namespace(fd)])
        number = rtnl.seen_namespace_number(there.ask(rtnl.get_namespace_number(fd)))
    return number
