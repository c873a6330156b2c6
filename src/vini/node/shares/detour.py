"""Round by the node: what a slice sends by its WireGuard goes by its slivers' classes before it is encrypted.

Afterwards a packet does not say whose it is; before, its tunnel's number does, in a namespace that is nobody's sliver.
But the classes are in the node's own namespace, for all slices together.  So filters lead each packet there and back:

    slice._wireguard                                   the node's own namespace
    wg  <- leaves: aside ───> detour ═══ a pair ═══> comes in: turn ── leaves: whose? which class? ── ifb of ours ─┐
    wg  <───── comes in: back ─ detour <═════════════ what the ifb let through, by the same interface <─────────────┘

Each packet gets as much room as WireGuard and the network between nodes will put around it, so what is counted is what
is on the wire, and large segments are split on the way there, as WireGuard would have split them.  What has none of the
known numbers is dropped: whoever sends from a sliver may choose one, and all that there are have a class.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from errno import EINVAL, ENODEV, ENOENT
from ipaddress import ip_address, ip_network
from pathlib import Path

from vini.model import WIREGUARD, DriverError, Value, WireguardPeer
from vini.names import digest
from vini.node import bpf, netns, rtnl, tc, wireguard
from vini.node.netlink import GENERIC, Socket
from vini.node.place import DETOUR_GROUP, Place
from vini.node.rtnl import SeenLink
from vini.node.shares import aside, classify
from vini.node.shares.classify import Number

INNER = "detour"  # the pair's end beside the WireGuard
_ADDED = {4: 60, 6: 80}  # IP version between nodes -> bytes: its header, UDP's 8, WireGuard's 32
_MTU = 65_535
_FIRST, _LAST = tc.SHARE_PRIORITY, tc.SHARE_PRIORITY + 1
_GONE = frozenset({0, ENOENT, ENODEV, EINVAL})
_ALIAS = "vini detour "
Hook = tuple[int, int, int]  # interface, side (`tc.EGRESS` or `tc.INGRESS`), priority


class Way(Value, frozen=True):
    """Where one slice's packets are to go."""

    numbers: Mapping[Number, int]  # of its tunnels -> their classes
    exempt: tuple[str, ...]  # networks between nodes
    ifb: int  # the interface that has the classes


class _There(Value, frozen=True):
    """What is in the namespace of a WireGuard."""

    encrypts: int  # the WireGuard's index
    inner: SeenLink | None
    peers: tuple[WireguardPeer, ...]
    filters: Mapping[Hook, str]  # names of those that run a program

    @property
    def room(self) -> int:
        """Bytes that will be around what it encrypts."""
        return _ADDED[6 if any(":" in peer.endpoint for peer in self.peers) else 4]

    def exempt(self, networks: Sequence[str]) -> tuple[str, ...]:
        """The addresses inside of those nodes that are in such networks; one may lack either, by somebody's hand."""
        among = [ip_network(n) for n in networks]
        known = [p for p in self.peers if p.address and p.endpoint]
        return tuple(sorted(p.address for p in known if any(ip_address(p.endpoint) in n for n in among)))


def outer_name(mark: str, ns: str) -> str:
    """Of the pair's end in the node's own namespace; `ns` is that of the WireGuard."""
    return f"vini{digest('detour', mark, ns) >> 24:010x}"


def outers(mark: str, links: Sequence[SeenLink]) -> dict[str, SeenLink]:
    """Namespace of a WireGuard -> the node's end of its detour, of the node's interfaces."""
    found = {x.alias.removeprefix(_ALIAS): x for x in links if x.group == DETOUR_GROUP}
    return {ns: x for ns, x in found.items() if x.dev == outer_name(mark, ns)}


class Detours:
    """Those of one place.  All is called in the node's own namespace.  Holds nothing between calls."""

    def __init__(self, place: Place):
        self._place = place

    def is_whole(self, ns: str, way: Way, outer: SeenLink | None) -> bool:
        """Whether what leaves by the WireGuard of that namespace, if there is one, goes by its classes."""
        try:
            there = self._look(ns)
        except OSError:
            return False
        if there is None:
            return True
        inner = there.inner
        if outer is None or inner is None or not (_is_pair(inner, outer) and inner.up and outer.up):
            return False
        with Socket() as socket:
            here = _filters(socket, outer.index)
        return (
            inner.gso_max == rtnl.SPLIT
            and _beside(there, inner).items() <= there.filters.items()
            and self._at_home(there, way, outer).items() <= here.items()
        )

    def make(self, ns: str, way: Way) -> None:
        """From now on it does.  DriverError or OSError where the kernel refuses; then it may be that nothing leaves."""
        there = self._look(ns)
        if there is None:
            return
        inner, outer = self._pair(ns, there)
        with Socket() as home:
            self._put_at_home(home, there, way, outer)
        with netns.inside(self._place.pin(ns)), Socket() as socket:
            away, back = _beside(there, inner).values()
            with _loaded(aside.load_back(there.encrypts, there.room)) as fd:
                _put(socket, inner.index, tc.set_filter(inner.index, fd, back, tc.INGRESS, _FIRST))
            with _loaded(aside.load_aside(inner.index, there.room)) as fd:
                _put(socket, there.encrypts, tc.set_filter(there.encrypts, fd, away, tc.EGRESS, _FIRST))

    def remove(self, ns: str) -> None:
        """What leaves by that WireGuard goes straight again, whatever is left of its detour."""
        try:
            with netns.inside(self._place.pin(ns)), Socket() as socket:
                self._remove_beside(socket)
        except OSError as e:
            if e.errno not in (ENOENT, EINVAL):  # no such namespace, or only the file of a half-made one
                raise
        with Socket() as home:
            _do(home, [rtnl.delete_link(outer_name(self._place.mark, ns))], _GONE)

    def _remove_beside(self, socket: Socket) -> None:
        links = {x.dev: x for x in rtnl.links(socket)}
        if own := links.get(WIREGUARD):
            _do(socket, [tc.delete_filter(own.index, tc.EGRESS, _FIRST)], _GONE)
            if not _filters(socket, own.index):
                socket.transact([tc.delete_clsact(own.index)])
        if (inner := links.get(INNER)) and inner.group == DETOUR_GROUP:
            _do(socket, [rtnl.delete_link(INNER)], _GONE)  # its other end may have another name by now

    # --- look -----------------------------------------------------------------------------------

    def _look(self, ns: str) -> _There | None:
        """None where there is no WireGuard."""
        try:
            with netns.inside(self._place.pin(ns)), Socket() as socket, Socket(GENERIC) as generic:
                links = {x.dev: x for x in rtnl.links(socket)}
                own, inner = links.get(WIREGUARD), links.get(INNER)
                if own is None or not wireguard.is_one(own):
                    return None
                family = wireguard.seen_family(generic.ask(wireguard.get_family()))
                seen = wireguard.seen(generic.dump(wireguard.dump(family, own.dev)))
                filters = _filters(socket, own.index) | (_filters(socket, inner.index) if inner else {})
                return _There(own.index, inner, tuple(p.peer for p in seen.peers), filters)
        except FileNotFoundError:  # no such namespace
            return None

    def _at_home(self, there: _There, way: Way, outer: SeenLink) -> dict[Hook, str]:
        """The filters at the node's end of the pair; their names tell what their programs know."""
        known = f"{sorted(way.numbers.items())} {there.exempt(way.exempt)} {way.ifb} {there.room}"
        return {
            (outer.index, tc.EGRESS, _LAST): bpf.DROP,
            (outer.index, tc.EGRESS, _FIRST): f"{classify.NAME} {self._place.mark} {digest(known):016x}",
            (outer.index, tc.INGRESS, _FIRST): aside.TURN,
        }

    # --- make -----------------------------------------------------------------------------------

    def _pair(self, ns: str, there: _There) -> tuple[SeenLink, SeenLink]:
        """Both ends of it, up; one that is not whole is made anew, and meanwhile nothing leaves."""
        name, pin = outer_name(self._place.mark, ns), self._place.pin(ns)
        with Socket() as home:
            outer = outers(self._place.mark, rtnl.links(home)).get(ns)
            if outer is None or there.inner is None or not _is_pair(there.inner, outer):
                home.transact([rtnl.delete_link(name)])
                with netns.inside(pin), Socket() as socket:  # an end of one whose other end has another name by now
                    socket.transact([rtnl.delete_link(INNER)])
                with netns.opened(pin) as inside, netns.opened(Path("/proc/thread-self/ns/net")) as here:
                    macs = self._mac(ns, INNER), self._mac(ns, name)
                    _do(home, [rtnl.add_veth((inside, here), (INNER, name), (0, 0), macs, DETOUR_GROUP)])
            _raise(home, name, f"{_ALIAS}{ns}")
            outer = _named(home, name)
        with netns.inside(pin), Socket() as socket:
            _raise(socket, INNER, f"{_ALIAS}{ns}")
            return _named(socket, INNER), outer

    def _mac(self, ns: str, dev: str) -> str:
        return "02:" + (digest("detour mac", self._place.mark, ns, dev) >> 24).to_bytes(5, "big").hex(":")

    def _put_at_home(self, home: Socket, there: _There, way: Way, outer: SeenLink) -> None:
        """First what drops, then what chooses classes, then what leads there."""
        dropping, choosing, turning = self._at_home(there, way, outer).values()
        i = outer.index
        with _loaded(bpf.load(bpf.DROP)) as fd:
            _put(home, i, tc.set_filter(i, fd, dropping, tc.EGRESS, _LAST))
        with _loaded(classify.load(way.numbers, there.exempt(way.exempt), there.room)) as fd:
            _put(home, i, tc.set_redirecting_filter(i, fd, choosing, way.ifb, 1))
        with _loaded(aside.load_turn()) as fd:
            _put(home, i, tc.set_filter(i, fd, turning, tc.INGRESS, _FIRST))


def _beside(there: _There, inner: SeenLink) -> dict[Hook, str]:
    """The filters beside the WireGuard: away from it, and back."""
    return {
        (there.encrypts, tc.EGRESS, _FIRST): f"{aside.ASIDE} {inner.index} {there.room}",
        (inner.index, tc.INGRESS, _FIRST): f"{aside.BACK} {there.encrypts} {there.room}",
    }


def _is_pair(inner: SeenLink, outer: SeenLink) -> bool:
    return inner.group == DETOUR_GROUP and (inner.peer, outer.peer) == (outer.index, inner.index)


def _named(socket: Socket, dev: str) -> SeenLink:
    found = next((x for x in rtnl.links(socket) if x.dev == dev), None)
    if found is None:
        raise DriverError(f"Somebody took {dev} away, which leads encrypted tunnels by slivers' classes.")
    return found


def _filters(socket: Socket, index: int) -> dict[Hook, str]:
    sides = (tc.EGRESS, tc.INGRESS)
    return {(index, side, f.priority): f.name for side in sides for f in tc.filters(socket, index, side) if f.name}


def _raise(socket: Socket, dev: str, alias: str) -> None:
    """Up, without a word from the kernel itself; what leaves by it is split."""
    with suppress(FileNotFoundError):  # a kernel without IPv6
        Path(f"/proc/sys/net/ipv6/conf/{dev}/disable_ipv6").write_text("1")
    _do(socket, [rtnl.set_link(dev, mtu=_MTU, up=True, alias=alias, gso_max=rtnl.SPLIT, point_to_point=True)])


def _put(socket: Socket, index: int, request: bytes) -> None:
    _do(socket, [tc.add_clsact(index), request])


def _do(socket: Socket, requests: list[bytes], allowed: frozenset[int] = frozenset({0})) -> None:
    for errno in socket.transact(requests):
        if errno not in allowed:
            raise DriverError(
                f"The kernel refused what leads encrypted tunnels by slivers' classes: {os.strerror(errno)}; see the "
                "line `shares-wireguard` of `vini doctor`."
            )


@contextmanager
def _loaded(program: int) -> Iterator[int]:
    """That descriptor, for as long as the block."""
    try:
        yield program
    finally:
        os.close(program)
