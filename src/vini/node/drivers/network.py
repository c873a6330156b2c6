"""Namespaces, their settings, veth pairs, vifs, addresses and static routes of this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from errno import EEXIST, ENODEV, ENOENT, ESRCH
from itertools import groupby
from pathlib import Path
from socket import if_nametoindex

from vini.model import SYSCTLS, Address, AnyObject, Interface, Key, Netns, Route, Sysctl, Veth, VethEnd
from vini.node import netns, rtnl
from vini.node.drivers import Failures
from vini.node.drivers.contents import forget_sliver
from vini.node.netlink import Socket
from vini.node.place import GROUP, ROUTE_PROTOCOL, Place
from vini.node.procfs import NetSettings

_GONE = frozenset({ENODEV, ENOENT, ESRCH, 99})  # 99: EADDRNOTAVAIL
# Set once in a new namespace. No duplicate address detection: it would keep addresses tentative for a second.
# IPv6 addresses stay when a link fails, as IPv4 ones do. Packets may come back by another way than they went.
_BIRTH = {
    "ipv6/conf/all/accept_dad": "0",
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/all/keep_addr_on_down": "1",
    "ipv6/conf/default/keep_addr_on_down": "1",
    "ipv6/conf/default/accept_ra": "0",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv4/fib_multipath_hash_policy": "1",
    "ipv4/ping_group_range": "0 2147483647",
}


class NetworkDriver:
    """Holds nothing between calls: entering a namespace costs 4 us, a socket 7 us."""

    kinds = (Netns, Sysctl, Veth, Interface, Address, Route)

    def __init__(self, place: Place):
        self._place = place
        self._settings = NetSettings()
        self._marks_addresses = _kernel() >= (5, 18)  # IFA_PROTO: Linux 5.18

    # --- observe ------------------------------------------------------------------------------

    def namespaces(self) -> list[str]:
        """Names of all namespaces that bear our mark."""
        return netns.pinned(Path("/run/netns"), self._place.mark + ".")

    def observe(self, namespaces: Collection[str]) -> frozenset[AnyObject]:
        """What is there in those namespaces."""
        out: set[AnyObject] = set()
        ends: list[tuple[VethEnd, int]] = []
        with netns.back_home():
            for ns in namespaces:
                try:
                    netns.enter(self._place.netns(ns))
                except OSError:  # never made, deleted meanwhile, or only the file of a half-made one: it isn't there
                    continue
                self._observe_one(ns, out, ends)
        out.update(_pairs(ends))
        return frozenset(out)

    def _observe_one(self, ns: str, out: set[AnyObject], ends: list[tuple[VethEnd, int]]) -> None:
        out.add(Netns(ns))
        with Socket() as socket:
            out.add(Sysctl(ns, _forwarding(socket)))
            ours = {}
            for link in map(rtnl.seen_link, socket.dump(rtnl.dump_links())):
                if link.index != 1 and (link.group != GROUP or not link.peer):
                    continue
                ours[link.index] = link.dev
                out.add(Interface(ns, link.dev, _wire(ns, link), link.mtu, link.up))
                if link.index != 1:
                    ends.append((VethEnd(ns, link.dev, link.index, link.mac), link.peer))
            for message in socket.dump(rtnl.dump_addresses()):
                index, cidr, mark = rtnl.seen_address(message)
                if index in ours and self._is_ours(cidr, mark):
                    out.add(Address(ns, ours[index], cidr))
            for message in socket.dump(rtnl.dump_routes(0, ROUTE_PROTOCOL)):
                route = rtnl.seen_route(message)
                if route.protocol == ROUTE_PROTOCOL:
                    out.add(Route(ns, route.to, route.via, ours.get(route.index, f"#{route.index}")))

    def _is_ours(self, cidr: str, mark: int | None) -> bool:
        if self._marks_addresses:
            return mark == ROUTE_PROTOCOL
        return not cidr.startswith(("fe80:", "127.", "::1/"))

    # --- change -------------------------------------------------------------------------------

    def ensure(self, objects: Sequence[AnyObject]) -> Failures:
        """Make or change objects of one kind."""
        kind = type(objects[0])
        if kind is Netns:
            _share(self._place.netns("").parent)
            return self._each(objects, self._make_netns)
        if kind is Sysctl:
            return self._each(objects, self._write_sysctls)
        if kind is Veth:
            return self._make_pairs(objects)
        return self._requests(objects, self._ensure_request)

    def remove(self, objects: Sequence[AnyObject]) -> Failures:
        """Take objects of one kind away."""
        kind = type(objects[0])
        if kind is Netns:
            return self._delete_netns(objects)
        if kind is Veth:
            return self._delete_pairs(objects)
        if kind in (Sysctl, Interface):  # settings go with what they are settings of
            return {}
        return self._requests(objects, self._remove_request, gone=_GONE)

    def _each(self, objects: Iterable[AnyObject], act: Callable[[str, AnyObject], None]) -> Failures:
        failures: Failures = {}
        with netns.back_home():
            for o in objects:
                try:
                    act(o.slivers[0], o)
                except OSError as e:
                    failures[o.key] = f"The kernel refused {' '.join(o.key)}: {e}."
        return failures

    def _make_netns(self, ns: str, _: AnyObject) -> None:
        netns.create(self._place.netns(ns), self._prepare)

    def _prepare(self) -> None:
        self._settings.entered()
        for name, value in _BIRTH.items():
            self._settings.write(name, value)

    def _delete_netns(self, objects: Sequence[AnyObject]) -> Failures:
        failures = self._each(objects, lambda ns, _: forget_sliver(self._place, ns))
        netns.delete_all([self._place.netns(o.slivers[0]) for o in objects if o.key not in failures])
        return failures

    def _write_sysctls(self, ns: str, o: AnyObject) -> None:
        assert isinstance(o, Sysctl)
        netns.enter(self._place.netns(ns))
        self._settings.entered()
        for name, value in o.settings:
            self._settings.write(name, value)

    # --- pairs: one socket makes all, each end is born in its namespace ------------------------

    def _make_pairs(self, objects: Sequence[AnyObject]) -> Failures:
        failures: Failures = {}
        pairs = [o for o in objects if isinstance(o, Veth)]
        with Socket() as socket:
            for chunk in _chunks(pairs, 200):  # a file is open per end
                with self._open(chunk) as (fds, requests):
                    for o, errno in zip(fds, socket.transact(requests), strict=True):
                        if errno == EEXIST:
                            errno = self._make_again(socket, o, requests[fds.index(o)])
                        if errno:
                            failures[o.key] = _refused(o, errno)
                for o in chunk:
                    if o not in fds:
                        failures[o.key] = _refused(o, ENOENT)
        return failures

    @contextmanager
    def _open(self, pairs: Sequence[Veth]) -> Iterator[tuple[list[Veth], list[bytes]]]:
        opened: dict[str, int] = {}
        able, requests = [], []
        try:
            for o in pairs:
                try:
                    for end in o.ends:
                        if end.ns not in opened:
                            opened[end.ns] = os.open(self._place.netns(end.ns), os.O_RDONLY | os.O_CLOEXEC)
                except FileNotFoundError:
                    continue
                a, b = o.ends
                able.append(o)
                fds = (opened[a.ns], opened[b.ns])
                requests.append(rtnl.add_veth(fds, (a.dev, b.dev), (a.index, b.index), (a.mac, b.mac)))
            yield able, requests
        finally:
            for fd in opened.values():
                os.close(fd)

    def _make_again(self, socket: Socket, o: Veth, request: bytes) -> int:
        """Something has the name: this very pair, half of one that lost its other end, or somebody else's.

        Only what is ours gives way.
        """
        if o in self.observe({end.ns for end in o.ends}):
            return 0
        for end in o.ends:
            with netns.inside(self._place.netns(end.ns)), Socket() as there:
                links = [rtnl.seen_link(m) for m in there.dump(rtnl.dump_links())]
                stale = [x.dev for x in links if x.group == GROUP and (x.dev == end.dev or x.index == end.index)]
                there.transact([rtnl.delete_link(dev) for dev in stale])
        return socket.transact([request])[0]

    def _delete_pairs(self, objects: Sequence[AnyObject]) -> Failures:
        failures: Failures = {}
        for o in objects:
            assert isinstance(o, Veth)
            for end in o.ends:
                try:
                    with netns.inside(self._place.netns(end.ns)), Socket() as socket:
                        errno = socket.transact([rtnl.delete_link(end.dev)])[0]
                except OSError:  # that namespace is gone; the pair goes with it
                    continue
                if errno and errno not in _GONE:
                    failures[o.key] = _refused(o, errno)
                break
        return failures

    # --- vifs, addresses, routes: a batch per namespace -----------------------------------------

    def _requests(
        self,
        objects: Sequence[AnyObject],
        make: Callable[[AnyObject, dict[str, int]], bytes],
        gone: Collection[int] = (),
    ) -> Failures:
        failures: Failures = {}
        with netns.back_home():
            for ns, group in groupby(objects, key=lambda o: o.slivers[0]):
                batch = list(group)
                try:
                    netns.enter(self._place.netns(ns))
                except OSError as e:
                    if ENOENT not in gone:
                        failures.update((o.key, f"Sliver {ns} has no network namespace: {e}.") for o in batch)
                    continue
                with Socket() as socket:
                    index = _indexes(batch)
                    errnos = socket.transact([make(o, index) for o in batch])
                failures.update(
                    (o.key, _refused(o, e)) for o, e in zip(batch, errnos, strict=True) if e and e not in gone
                )
        return failures

    def _ensure_request(self, o: AnyObject, index: dict[str, int]) -> bytes:
        match o:
            case Interface(_, dev, wire, mtu, up):
                return rtnl.set_link(dev, mtu=mtu, up=up, alias="vini " + "/".join(wire))
            case Address(_, dev, cidr):
                return rtnl.add_address(index[dev], cidr)
            case Route(_, to, via, dev):
                return rtnl.add_route(to, via, index[dev])
        raise TypeError(f"not a kind of this driver: {o}")

    def _remove_request(self, o: AnyObject, index: dict[str, int]) -> bytes:
        match o:
            case Address(_, dev, cidr):
                return rtnl.delete_address(index[dev], cidr)
            case Route(_, to, via, dev):
                return rtnl.delete_route(to, via, index[dev])
        raise TypeError(f"not a kind of this driver: {o}")


def _forwarding(socket: Socket) -> tuple[tuple[str, str], ...]:
    """The settings of SYSCTLS, asked of the socket that is open anyway: 0.01 ms where /proc takes 0.1."""
    families = {"ipv4/ip_forward": 2, "ipv6/conf/all/forwarding": 10}
    return tuple((name, rtnl.seen_forwarding(socket.ask(rtnl.get_forwarding(families[name])))) for name in SYSCTLS)


def _pairs(ends: Iterable[tuple[VethEnd, int]]) -> Iterator[Veth]:
    """Ends that name each other by index are a pair; an end whose other end wasn't looked at is none."""
    waiting: dict[tuple[int, int], list[VethEnd]] = {}
    for end, peer in ends:
        others = waiting.get((peer, end.index), [])
        if others:
            a, b = sorted((others.pop(), end), key=lambda e: (e.ns, e.dev))
            yield Veth((a, b))
        else:
            waiting.setdefault((end.index, peer), []).append(end)


def _wire(ns: str, link: rtnl.SeenLink) -> Key:
    if link.index == 1:
        return ("netns", ns)
    kind, _, rest = link.alias.partition(" ")
    return tuple(rest.split("/")) if kind == "vini" else ()


def _indexes(batch: Sequence[AnyObject]) -> dict[str, int]:
    """Interface name -> index here; 0, which the kernel refuses, where it is missing."""
    out = {}
    for o in batch:
        dev = getattr(o, "dev", "")
        if isinstance(o, Address | Route) and dev not in out:
            try:
                out[dev] = if_nametoindex(dev)
            except OSError:
                out[dev] = 0
    return out


def _refused(o: AnyObject, errno: int) -> str:
    return f"The kernel refused {' '.join(o.key)}: {os.strerror(errno)}."


def _chunks(items: Sequence[Veth], size: int) -> Iterator[Sequence[Veth]]:
    for at in range(0, len(items), size):
        yield items[at : at + size]


def _kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdigit()))


def _share(directory: Path) -> None:
    """Make /run/netns a shared mount as ip-netns(8) does, so that both see and delete each other's alike."""
    if not netns.is_mounted(directory):
        directory.mkdir(parents=True, exist_ok=True)
        netns.make_shared(directory)
