"""Ways out of the node for shaped tunnels: what leaves in one must have been released by its Shape.

A Gate can't stand at a tunnel's other end, which is another kernel.  So a filter stands where this one sends packets
to the network between nodes: at every interface that leads to the tunnel's other end, one filter a tunnel.  Its handle
is the tunnel's number, its name says whose the tunnel is.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from errno import EINVAL, ENODEV, ENOENT

from msgspec.structs import replace

from vini.model import AnyObject, Shape, Tunnel, Value, Vxlan, underlay
from vini.node import exit, netns, rtnl_routes, tc
from vini.node.drivers import Failures
from vini.node.netlink import Socket
from vini.node.place import Place

_GONE = frozenset({0, ENOENT, ENODEV, EINVAL})  # EINVAL: no hooks there
Vif = tuple[str, str]  # namespace and interface
Tunnels = Mapping[Vif, Tunnel]


class SeenExit(Value, frozen=True):
    """A filter: at which interface, for which tunnel, and whose that is."""

    index: int
    number: int
    vif: Vif


class Exits:
    """Those of one place.  All is called at home, where the node's own interfaces are."""

    def __init__(self, place: Place):
        self._place = place

    def judged(self, shapes: Iterable[AnyObject], tunnels: Tunnels, namespaces: Collection[str]) -> set[AnyObject]:
        """The same, of these namespaces, but those of tunnels that something may leave by without being released are
        not whole, nor those of vifs whose exits hold another's tunnel; and where a tunnel that its vif has no Shape for
        lets nothing out any more, a Shape that nobody asked for."""
        out = set(shapes)
        shaped = {(s.ns, s.dev): s for s in out if isinstance(s, Shape)}
        for through, carried in _by_carrier(tunnels).items():
            with self._carrier(through) as socket:
                seen = _look(socket, self._place.mark) if socket else []
                whose = {exit.number(o): vif for vif, o in carried.items()}
                amiss = {e.vif for e in seen if whose.get(e.number, e.vif) != e.vif and e.vif[0] in namespaces}
                for vif, o in carried.items():
                    here = {e.index for e in seen if e.vif == vif and e.number == exit.number(o)}
                    held = not socket or here >= _ways(socket, o) if vif in shaped else not here
                    amiss |= set() if held else {vif}
            for vif in amiss:
                seen_shape = shaped.get(vif, Shape(*vif, "element"))
                out.discard(seen_shape)
                out.add(replace(seen_shape, whole=False))
        return out

    def ensure(self, shapes: Collection[Shape], tunnels: Tunnels) -> Failures:
        """From now on nothing else leaves by these tunnels, and by others what these vifs had exits for; shapes of
        others need nothing."""
        numbers = {(s.ns, s.dev): exit.number(tunnels[s.ns, s.dev]) if (s.ns, s.dev) in tunnels else 0 for s in shapes}
        self._remove(lambda e: e.number != numbers.get(e.vif, e.number), {s.ns for s in shapes})
        wanted = {(s.ns, s.dev): s for s in shapes if (s.ns, s.dev) in tunnels}
        failures: Failures = {}
        for through, carried in _by_carrier({vif: tunnels[vif] for vif in wanted}).items():
            with self._carrier(through) as socket:
                if socket is None:  # the tunnels are being made again
                    continue
                for vif, o in carried.items():
                    try:
                        self._put(socket, vif, o)
                    except OSError as e:
                        failures[wanted[vif].key] = f"What leaves by the tunnel {' '.join(vif)} can't be held: {e}."
        return failures

    def _put(self, socket: Socket, vif: Vif, o: Tunnel) -> None:
        name, number = _name(self._place.mark, vif), exit.number(o)
        program = exit.load(o)
        try:
            for index in _ways(socket, o):
                put = tc.set_filter(index, program, name, tc.EGRESS, tc.EXIT_PRIORITY, number)
                for errno in socket.transact([tc.add_clsact(index), put]):
                    if errno:
                        raise OSError(errno, os.strerror(errno))
        finally:
            os.close(program)

    def remove(self, vifs: Collection[Vif]) -> None:
        """Let everything out that leaves by these vifs, wherever their tunnels lead."""
        self._remove(lambda e: e.vif in vifs, {ns for ns, _ in vifs})

    def forget(self, namespaces: Collection[str]) -> None:
        """Of slivers that go: nothing is left of theirs at the node's own interfaces."""
        self._remove(lambda e: e.vif[0] in namespaces, set())

    def _remove(self, chosen: Callable[[SeenExit], bool], namespaces: Collection[str]) -> None:
        for through in {"", *map(underlay, namespaces)}:
            with self._carrier(through) as socket:
                if socket is None:
                    continue
                ours = [e for e in _look(socket, self._place.mark) if chosen(e)]
                socket.transact([tc.delete_filter(e.index, tc.EGRESS, tc.EXIT_PRIORITY, e.number) for e in ours])
                unused = {e.index for e in ours if not tc.is_used(socket, e.index)}
                socket.transact([tc.delete_clsact(index) for index in unused])

    @contextmanager
    def _carrier(self, through: str) -> Iterator[Socket | None]:
        """In the namespace that carries tunnels, "" the node's own; None where there is none."""
        with netns.back_home():
            try:
                if through:
                    netns.enter(self._place.pin(through))
            except OSError:
                yield None
                return
            with Socket() as socket:
                yield socket


def _by_carrier(tunnels: Tunnels) -> dict[str, dict[Vif, Tunnel]]:
    out: dict[str, dict[Vif, Tunnel]] = defaultdict(dict)
    for vif, o in tunnels.items():
        out[o.through if isinstance(o, Vxlan) else ""][vif] = o
    return out


def _ways(socket: Socket, o: Tunnel) -> set[int]:
    """The interfaces by which it may leave: those of all next hops to its other end; none where there is no route."""
    message = socket.ask(rtnl_routes.get_route(o.remote))
    return {hop.index for hop in rtnl_routes.seen_route(message).hops if hop.index} if message else set()


def _look(socket: Socket, mark: str) -> list[SeenExit]:
    """Those of that mark in the namespace of the socket."""
    hooked = [q.index for q in map(tc.seen_qdisc, socket.dump(tc.dump_qdiscs())) if q.kind == "clsact"]
    return [
        SeenExit(index, f.handle, vif)
        for index in hooked
        for f in tc.filters(socket, index)
        if f.priority == tc.EXIT_PRIORITY and (vif := _vif(f.name, mark))
    ]


def _name(mark: str, vif: Vif) -> str:
    return f"{exit.NAME} {mark} {vif[0]} {vif[1]}"


def _vif(name: str, mark: str) -> Vif | None:
    """The inverse; None: not of that mark."""
    words = name.split(" ")
    return (words[2], words[3]) if len(words) == 4 and words[:2] == [exit.NAME, mark] else None
