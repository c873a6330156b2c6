"""Namespaces, their settings, veth pairs, tunnels, vifs, addresses and static routes of this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from errno import EACCES, EEXIST, ENODEV, ENOENT, ESRCH
from functools import partial
from itertools import groupby
from pathlib import Path
from socket import if_nametoindex

from vini.model import (
    SYSCTLS,
    Address,
    AnyObject,
    Bridge,
    Gretap,
    Interface,
    Key,
    Netns,
    Route,
    Sysctl,
    Veth,
    VethEnd,
    ViniError,
    Vxlan,
    is_sliver,
    underlay,
)
from vini.node import connected, ethtool, netns, rtnl
from vini.node.container import users
from vini.node.drivers import Failures, bridge, clamp, crossing, tunnel
from vini.node.drivers.births import Births, mend_vif, vif_is_right
from vini.node.drivers.contents import forget_sliver, furnished
from vini.node.drivers.exits import Exits
from vini.node.drivers.share import ShareDriver
from vini.node.drivers.tunnel import KernelTunnel
from vini.node.drivers.vxlan_xdp import VxlanXdpDriver
from vini.node.netlink import Socket
from vini.node.pins import Pins
from vini.node.place import GROUP, ROUTE_PROTOCOL, Place
from vini.node.procfs import NetSettings

Settings = tuple[tuple[str, str], ...]  # as a Sysctl has them
_PAIR_TO_NODE = ("vxlanxdp",)  # a vif of such a tunnel is one end of a pair, whose other end is in no sliver
_GONE = frozenset({ENODEV, ENOENT, ESRCH, 99})  # 99: EADDRNOTAVAIL


class NetworkDriver:
    """Holds no sockets between calls: entering a namespace costs 4 us, a socket 7 us."""

    kinds = (Netns, Sysctl, Veth, Vxlan, Gretap, Bridge, Interface, Address, Route)

    def __init__(self, place: Place):
        self._place = place
        self._pins = Pins(place)
        self._settings = NetSettings()
        self._births = Births(self._settings)
        self._clamp = clamp.Clamp()
        self._crossing = crossing.Crossing(self._settings)
        self._at_xdp = VxlanXdpDriver(place)
        self._marks_addresses = _kernel() >= (5, 18)  # IFA_PROTO: Linux 5.18

    # --- observe ------------------------------------------------------------------------------

    def observe(self, namespaces: Collection[str]) -> frozenset[AnyObject]:
        """What is there in those namespaces."""
        out: set[AnyObject] = set()
        ends: list[tuple[VethEnd, int]] = []
        self._births.begin_look(namespaces)
        with netns.back_home():
            for ns in namespaces:
                try:
                    netns.enter(self._place.pin(ns))
                except OSError:  # never made, deleted meanwhile, or only the file of a half-made one: it isn't there
                    continue
                self._observe_one(ns, out, ends)
        out.update(_pairs(ends))
        return frozenset(out)

    def _observe_one(self, ns: str, out: set[AnyObject], ends: list[tuple[VethEnd, int]]) -> None:
        out.add(Netns(ns, self._pins.is_named(ns), users.is_tenant(self._place.pin(ns))))
        with Socket() as socket:
            forwarding, filters = _forwarding(socket)
            out.add(Sysctl(ns, forwarding, self._births.are_kept(ns, filters)))
            seen = _look(socket)
            ours = {}
            for link in seen.links.values():
                is_tunnel = tunnel.is_ours(link)
                if link.index != 1 and not is_tunnel and (link.group != GROUP or not link.peer):
                    continue
                try:
                    out.add(_interface(ns, link, seen, socket, forwarding))
                except OSError:  # it vanished meanwhile, as its other end was taken down with a namespace
                    continue
                ours[link.index] = link.dev
                if link.index != 1 and not is_tunnel:
                    ends.append((VethEnd(ns, link.dev, link.index, link.mac), link.peer))
            out.update(tunnel.observe(ns, socket, seen.links, self._place.pin(underlay(ns))))
            out.update(bridge.observe(ns, socket, seen.links))
            for a in seen.addresses:
                if a.index in ours and self._is_ours(a.cidr, a.mark):
                    out.add(Address(ns, ours[a.index], a.cidr, connected.is_whole(a, seen)))
            for message in socket.dump(rtnl.dump_routes(0, ROUTE_PROTOCOL)):
                route = rtnl.seen_route(message)
                if route.protocol == ROUTE_PROTOCOL:
                    out.add(Route(ns, route.to, route.via, ours.get(route.index, f"#{route.index}"), route.mtu))

    def _is_ours(self, cidr: str, mark: int | None) -> bool:
        if self._marks_addresses:
            return mark == ROUTE_PROTOCOL
        return not cidr.startswith(("fe80:", "127.", "::1/"))

    # --- change -------------------------------------------------------------------------------

    def ensure(self, objects: Sequence[AnyObject]) -> Failures:
        """Make or change objects of one kind."""
        kind = type(objects[0])
        if kind is Netns:
            self._pins.prepare([o.slivers[0] for o in objects])
            return self._make_namespaces(objects)
        if kind is Sysctl:
            return self._each(objects, self._write_sysctls)
        if kind is Veth:
            return self._make_pairs(objects)
        if kind in (Vxlan, Gretap):
            return self._make_tunnels(objects)
        if kind is Bridge:
            return self._each(objects, self._ensure_bridge)
        failures = self._requests(objects, self._ensuring)
        if taking_in := [o for o in objects if isinstance(o, Interface) and o.gro and o.key not in failures]:
            failures |= self._requests(taking_in, _taking_in)
        return failures

    def remove(self, objects: Sequence[AnyObject]) -> Failures:
        """Take objects of one kind away."""
        kind = type(objects[0])
        if kind is Netns:
            return self._delete_netns(objects)
        if kind is Veth:
            return self._delete_pairs(objects)
        if kind is Bridge:
            return self._each(objects, self._delete_bridge)
        if kind in (Sysctl, Interface):  # settings go with what they are settings of
            return {}
        return self._requests(objects, _removing, gone=_GONE)

    def _each(self, objects: Iterable[AnyObject], act: Callable[[str, AnyObject], None]) -> Failures:
        failures: Failures = {}
        with netns.back_home():
            for o in objects:
                try:
                    act(o.slivers[0], o)
                except OSError as e:
                    failures[o.key] = f"The kernel refused {' '.join(o.key)}: {e}."
        return failures

    def _make_namespaces(self, objects: Sequence[AnyObject]) -> Failures:
        with closing(users.NewNetworks(sum(isinstance(o, Netns) and o.tenant for o in objects))) as tenants:

            def make(ns: str, o: AnyObject) -> None:
                assert isinstance(o, Netns)
                new = partial(tenants.enter, ns) if o.tenant else netns.enter_new
                self._pins.make(ns, partial(self._prepare, ns), new)

            return self._each(objects, make)

    def _prepare(self, ns: str) -> None:
        self._settings.entered()
        self._births.give(ns)

    def _delete_netns(self, objects: Sequence[AnyObject]) -> Failures:
        inhabited = furnished(self._place)
        failures = self._each(
            [o for o in objects if o.slivers[0] in inhabited], lambda ns, _: forget_sliver(self._place, ns)
        )
        for o in objects:
            self._births.forget(o.slivers[0])
        Exits(self._place).forget({o.slivers[0] for o in objects})
        try:
            ShareDriver(self._place).forget({o.slivers[0] for o in objects})
        except (ViniError, OSError) as e:
            failures.update((o.key, f"What {o.slivers[0]} may send can't be set free: {e}") for o in objects)
        gone = [o.slivers[0] for o in objects if o.key not in failures]
        self._at_xdp.forget(gone)
        self._pins.remove(gone)
        return failures

    def _write_sysctls(self, ns: str, o: AnyObject) -> None:
        assert isinstance(o, Sysctl)
        netns.enter(self._place.pin(ns))
        self._settings.entered()
        self._births.mend(ns)
        for name, value in o.settings:
            self._settings.write(name, value)

    def _ensure_bridge(self, ns: str, o: AnyObject) -> None:
        assert isinstance(o, Bridge)
        netns.enter(self._place.pin(ns))
        with Socket() as socket:
            bridge.ensure(socket, o)

    def _delete_bridge(self, ns: str, o: AnyObject) -> None:
        assert isinstance(o, Bridge)
        try:
            netns.enter(self._place.pin(ns))
        except OSError:  # that namespace is gone, with all that was in it
            return
        with Socket() as socket:
            bridge.remove(socket, o)

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
                            opened[end.ns] = os.open(self._place.pin(end.ns), os.O_RDONLY | os.O_CLOEXEC)
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
            with netns.inside(self._place.pin(end.ns)), Socket() as there:
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
                    with netns.inside(self._place.pin(end.ns)), Socket() as socket:
                        errno = socket.transact([rtnl.delete_link(end.dev)])[0]
                except OSError:  # that namespace is gone; the pair goes with it
                    continue
                if errno and errno not in _GONE:
                    failures[o.key] = _refused(o, errno)
                break
        return failures

    def _make_tunnels(self, objects: Sequence[AnyObject]) -> Failures:
        failures: Failures = {}
        tunnels = [o for o in objects if isinstance(o, KernelTunnel)]
        home = Path("/proc/thread-self/ns/net")
        tunnels.sort(key=lambda o: (_through(o), o.ns))
        for through, group in groupby(tunnels, key=_through):
            batch = list(group)
            try:
                with self._below(self._place.pin(through) if through else home) as below:
                    failures |= self._make_above(below, batch)
            except OSError as e:
                failures.update((o.key, f"The kernel refused {' '.join(o.key)}: {e}.") for o in batch)
        return failures

    def _make_above(self, below: tunnel.Below, tunnels: Sequence[KernelTunnel]) -> Failures:
        """Those that one namespace carries."""
        failures: Failures = {}
        with netns.back_home():
            for ns, group in groupby(tunnels, key=lambda o: o.ns):
                batch, pin = list(group), self._place.pin(ns)
                try:
                    with netns.opened(pin) as here:
                        netns.enter(pin)
                        with Socket() as there:
                            secure = self._place.pin(underlay(ns))
                            failures |= tunnel.ensure(below, there, here, batch, secure)
                except OSError as e:
                    failures.update((o.key, f"The kernel refused {' '.join(o.key)}: {e}.") for o in batch)
        return failures

    @staticmethod
    @contextmanager
    def _below(path: Path) -> Iterator[tunnel.Below]:
        """A namespace that carries tunnels."""
        with ExitStack() as stack:
            fd = stack.enter_context(netns.opened(path))
            with netns.inside(path):
                socket = stack.enter_context(Socket())
            yield tunnel.Below(socket, fd)

    # --- vifs, addresses, routes: a batch per namespace -----------------------------------------

    def _ensuring(self, socket: Socket, batch: Sequence[AnyObject]) -> Iterator[tuple[AnyObject, bytes]]:
        """The requests that make or change objects of one kind in one namespace, and mend what of them is there."""
        match batch[0]:
            case Interface(ns):
                vifs = [o for o in batch if isinstance(o, Interface)]
                if not is_sliver(ns):
                    self._join(socket, vifs)
                return _ensuring_interfaces(socket, vifs, self._settings, self._clamp)
            case Address():
                return _ensuring_addresses(socket, [o for o in batch if isinstance(o, Address)], self._settings)
        index = _indexes(batch)
        return ((o, rtnl.add_route(o.to, o.via, index[o.dev], o.mtu)) for o in batch if isinstance(o, Route))

    def _join(self, socket: Socket, vifs: Sequence[Interface]) -> None:
        """Before any of them comes up."""
        index = _indexes(vifs)
        for o in vifs:
            if index[o.dev] > 1:
                (self._crossing.ensure if o.crosses else self._crossing.end)(socket, o, index[o.dev])

    def _requests(
        self,
        objects: Sequence[AnyObject],
        make: Callable[[Socket, Sequence[AnyObject]], Iterator[tuple[AnyObject, bytes]]],
        gone: Collection[int] = (),
    ) -> Failures:
        failures: Failures = {}
        with netns.back_home():
            for ns, group in groupby(objects, key=lambda o: o.slivers[0]):
                batch = list(group)
                try:
                    netns.enter(self._place.pin(ns))
                except OSError as e:
                    if ENOENT not in gone:
                        failures.update((o.key, f"Sliver {ns} has no network namespace: {e}.") for o in batch)
                    continue
                with Socket() as socket:
                    try:
                        requests = list(make(socket, batch))
                    except OSError as e:
                        failures.update((o.key, f"The kernel refused {' '.join(o.key)}: {e}.") for o in batch)
                        continue
                    errnos = socket.transact([request for _, request in requests])
                failures.update(
                    (o.key, _refused(o, e)) for (o, _), e in zip(requests, errnos, strict=True) if e and e not in gone
                )
        return failures


def _taking_in(socket: Socket, batch: Sequence[AnyObject]) -> Iterator[tuple[AnyObject, bytes]]:
    """Let vifs take the frames that XDP redirects to them.

    That makes the *other* end a target of redirects (veth_set_features in the kernel's veth.c), but only while both
    ends are up: an end that comes up afterwards forgets it.  So it is done anew, once all ends are up.
    """
    for o in batch:
        if isinstance(o, Interface) and o.gro:
            ethtool.set_gro(socket.fileno(), o.dev, False)
            ethtool.set_gro(socket.fileno(), o.dev, True)
    yield from ()


def _ensuring_interfaces(
    socket: Socket, batch: Sequence[Interface], settings: NetSettings, clamps: clamp.Clamp
) -> Iterator[tuple[AnyObject, bytes]]:
    seen = _look(socket) if any(o.master for o in batch) or not _is_new(socket) else None
    links = {link.dev: link for link in seen.links.values()} if seen else {}
    if seen:
        _bridge_ports(socket, batch, links, seen.links)
        _mend_settings([links[o.dev] for o in batch if o.dev in links], _forwarding(socket)[0], settings)
    leading = [o for o in batch if _is_of_tunnel(o) or o.wire[:1] == _PAIR_TO_NODE]
    index = _indexes(leading)
    clamps.ensure(socket, {index[o.dev]: o.mtu for o in leading if index[o.dev]})
    for o in batch:
        old = links.get(o.dev)
        if o.dev != "lo" and (old is not None or seen is None):
            _set_offloads(socket.fileno(), o, is_new=old is None)
        alias, master = "vini " + "/".join(o.wire), links[o.master].index if o.master in links else None
        yield o, rtnl.set_link(o.dev, mtu=o.mtu, up=o.up, alias=alias, master=master, gso_max=_gso_max(o, old))
        if seen and o.up and o.dev in links:
            yield from ((o, request) for request in connected.mend_link(links[o.dev], seen))


def _set_offloads(socket: int, o: Interface, is_new: bool) -> None:
    """What of ethtool's settings differs; a new veth has neither.  GRO is turned on later, once all is up.  A tunnel
    always has it."""
    if not is_new and not o.gro and not _is_of_tunnel(o) and ethtool.has_gro(socket, o.dev):
        ethtool.set_gro(socket, o.dev, False)
    if o.finished != (not is_new and ethtool.finishes_checksums(socket, o.dev)):
        ethtool.set_finishing_checksums(socket, o.dev, o.finished)


def _through(o: KernelTunnel) -> str:
    return o.through if isinstance(o, Vxlan) else ""


def _is_of_tunnel(o: Interface) -> bool:
    return o.wire[:1] in (("vxlan",), ("gretap",))


def _bridge_ports(
    socket: Socket, batch: Sequence[Interface], links: Mapping[str, rtnl.SeenLink], seen: bridge.Links
) -> None:
    """Police those that are to be ports, before; take those off that are not."""
    for master in {o.master for o in batch} & links.keys():
        joining = [links[o.dev].index for o in batch if o.master == master and o.dev in links]
        bridge.police_ports(socket, links[master], seen, joining)
    bridge.leave(socket, [links[o.dev] for o in batch if not o.master and o.dev in links and links[o.dev].master])


def _mend_settings(links: Sequence[rtnl.SeenLink], forwarding: Settings, settings: NetSettings) -> None:
    """Have each vif forward as its sliver does, and what it was born with."""
    settings.entered()
    for link in links:
        own = rtnl.family_settings(link)
        for family, has, (_, due) in zip(("ipv4", "ipv6"), own[:2], forwarding, strict=True):
            if has not in ("", due):
                settings.write(f"{family}/conf/{link.dev}/forwarding", due)
        if link.index != 1 and not vif_is_right(own):
            mend_vif(link.dev, settings)


def _forwards(own: rtnl.FamilySettings, forwarding: Settings) -> bool:
    return all(has in ("", due) for has, (_, due) in zip(own[:2], forwarding, strict=True))


def _splits(link: rtnl.SeenLink) -> bool:
    return link.gso_max == rtnl.SPLIT


def _gso_max(o: Interface, old: rtnl.SeenLink | None) -> int | None:
    """What is to be set; None where it is so."""
    if o.split == (old is not None and _splits(old)):
        return None
    return rtnl.SPLIT if o.split else rtnl.WHOLE


def _interface(ns: str, link: rtnl.SeenLink, seen: connected.Seen, socket: Socket, forwarding: Settings) -> Interface:
    master = seen.links.get(link.master)
    own = rtnl.family_settings(link)
    is_tunnel = tunnel.is_ours(link)
    clamps = is_tunnel or _wire(ns, link)[:1] == _PAIR_TO_NODE
    return Interface(
        ns,
        link.dev,
        _wire(ns, link),
        link.mtu,
        link.up,
        connected.is_complete(link, seen) and (not clamps or clamp.is_right(socket, link.index, link.mtu)),
        master.dev if master else f"#{link.master}" if link.master else "",
        link.index != 1 and not is_tunnel and ethtool.has_gro(socket.fileno(), link.dev),
        _splits(link),
        link.index != 1 and ethtool.finishes_checksums(socket.fileno(), link.dev),
        link.index == 1 or link.arp,
        link.index == 1 or link.multicast,
        _forwards(own, forwarding),
        link.index == 1 or vif_is_right(own),  # lo is older than what vifs inherit
        link.index != 1 and not is_sliver(ns) and crossing.is_there(socket, link),
    )


def _is_new(socket: Socket) -> bool:
    """Whether lo is down: so a namespace is born, and nothing in it can lack what the kernel gives.  One look at
    all would cost more than all the rest."""
    return not rtnl.is_up(socket.ask(rtnl.get_link(1)))


def _ensuring_addresses(
    socket: Socket, batch: Sequence[Address], settings: NetSettings
) -> Iterator[tuple[AnyObject, bytes]]:
    """Nothing for those that are new, which are made at once.  Where one is due, IPv6 is turned on if it is off."""
    index = _indexes(batch)
    errnos = socket.transact([rtnl.add_address(index[o.dev], o.cidr, only_new=True) for o in batch])
    if old := [o for o, errno in zip(batch, errnos, strict=True) if errno]:  # it is there, or refused for good
        _turn_ipv6_on({o.dev for o, errno in zip(batch, errnos, strict=True) if errno == EACCES}, settings)
        seen = _look(socket)
        sent: set[bytes] = set()
        for o in old:
            requests = connected.mend_address(index[o.dev], o.cidr, ROUTE_PROTOCOL, seen)
            yield from ((o, request) for request in requests if request not in sent)
            sent.update(requests)  # two addresses of one prefix share its route


def _turn_ipv6_on(devs: Collection[str], settings: NetSettings) -> None:
    settings.entered()
    for which in (*devs, "all", "default") if devs else ():
        settings.write(f"ipv6/conf/{which}/disable_ipv6", "0")


def _removing(_: Socket, batch: Sequence[AnyObject]) -> Iterator[tuple[AnyObject, bytes]]:
    """The requests that take objects of one kind in one namespace away."""
    index = _indexes(batch)
    for o in batch:
        match o:
            case Address(_, dev, cidr):
                yield o, rtnl.delete_address(index[dev], cidr)
            case Vxlan(_, dev) | Gretap(_, dev):
                yield o, rtnl.delete_link(dev)
            case Route(_, to, via, dev):
                yield o, rtnl.delete_route(to, via, index[dev])


def _look(socket: Socket) -> connected.Seen:
    """The links, addresses and routes of the kernel's own in the namespace of that socket."""
    links = {link.index: link for link in map(rtnl.seen_link, socket.dump(rtnl.dump_links()))}
    addresses = tuple(map(rtnl.seen_address, socket.dump(rtnl.dump_addresses())))
    routes = frozenset(rtnl.seen_kernel_route(m[16:]) for m in socket.dump(rtnl.dump_kernel_routes()))
    return connected.Seen(links, addresses, routes, now_cs=int(time.monotonic() * 100))


def _forwarding(socket: Socket) -> tuple[Settings, bool]:
    """The settings of SYSCTLS, asked of the socket that is open anyway: 0.01 ms where /proc takes 0.1.  And whether
    packets are filtered by where they come from (rp_filter), which comes with them."""
    families = {"ipv4/ip_forward": 2, "ipv6/conf/all/forwarding": 10}
    told = [rtnl.seen_forwarding(socket.ask(rtnl.get_forwarding(families[name]))) for name in SYSCTLS]
    settings = tuple((name, forwards) for name, (forwards, _) in zip(SYSCTLS, told, strict=True))
    return settings, any(filters for _, filters in told)


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
    out = {"lo": 1}
    for o in batch:
        dev = getattr(o, "dev", "")
        if dev not in out:
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
