"""Namespaces, their settings, veth pairs, tunnels, vifs, addresses and static routes of this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing
from errno import ENOENT
from functools import partial
from itertools import groupby

from vini.model import (
    Address,
    AnyObject,
    Bridge,
    Gretap,
    Interface,
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
from vini.node import connected, netns, rtnl, rtnl_addresses, rtnl_routes
from vini.node.container import limits, users
from vini.node.drivers import GONE, Failures, addresses, bridge, clamp, crossing, refused, tunnel, vif
from vini.node.drivers.births import Births
from vini.node.drivers.contents import forget_sliver, furnished
from vini.node.drivers.exits import Exits
from vini.node.drivers.look import forwarding, indexes, look
from vini.node.drivers.pairs import Pairs, paired
from vini.node.drivers.share import ShareDriver
from vini.node.drivers.vxlan_xdp import VxlanXdpDriver
from vini.node.listeners import Patience, Unread, look_again
from vini.node.netlink import Socket
from vini.node.pins import Pins
from vini.node.place import GROUP, ROUTE_PROTOCOL, Place
from vini.node.procfs import NetSettings


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
        self._pairs = Pairs(place, self.observe)
        self._deaf: dict[str, Unread] = {}
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
        out.update(paired(ends))
        return frozenset(out)

    def _observe_one(self, ns: str, out: set[AnyObject], ends: list[tuple[VethEnd, int]]) -> None:
        look_again(ns, self._deaf)
        out.add(Netns(ns, self._pins.is_named(ns), users.is_tenant(self._place.pin(ns))))
        with Socket() as socket:
            forwards, filters = forwarding(socket)
            out.add(Sysctl(ns, forwards, self._births.are_kept(ns, filters)))
            seen = look(socket)
            ours = {}
            for link in seen.links.values():
                is_tunnel = tunnel.is_ours(link)
                if link.index != 1 and not is_tunnel and (link.group != GROUP or not link.peer):
                    continue
                try:
                    out.add(vif.observed(ns, link, seen, socket, forwards))
                except OSError:  # it vanished meanwhile, as its other end was taken down with a namespace
                    continue
                ours[link.index] = link.dev
                if link.index != 1 and not is_tunnel:
                    ends.append((VethEnd(ns, link.dev, link.index, link.mac), link.peer))
            out.update(tunnel.observe(ns, socket, seen.links, self._place.pin(underlay(ns))))
            out.update(bridge.observe(ns, socket, seen.links))
            for a in (a for index in ours for a in seen.addresses.get(index, ())):
                if self._is_ours(a.cidr, a.mark):
                    out.add(Address(ns, ours[a.index], a.cidr, connected.is_whole(a, seen)))
            for route in rtnl_routes.routes(socket, protocol=ROUTE_PROTOCOL):
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
            return self._pairs.make(objects)
        if kind in (Vxlan, Gretap):
            return tunnel.ensure(self._place, objects)
        if kind is Bridge:
            return self._each(objects, self._ensure_bridge)
        failures = self._requests(objects, partial(self._ensuring, Patience(self._deaf)))
        if taking_in := [o for o in objects if isinstance(o, Interface) and o.gro and o.key not in failures]:
            failures |= self._requests(taking_in, vif.taking_in)
        return failures

    def remove(self, objects: Sequence[AnyObject]) -> Failures:
        """Take objects of one kind away."""
        kind = type(objects[0])
        if kind is Netns:
            return self._delete_netns(objects)
        if kind is Veth:
            return self._pairs.remove(objects)
        if kind is Bridge:
            return self._each(objects, self._delete_bridge)
        if kind in (Sysctl, Interface):  # settings go with what they are settings of
            return {}
        if kind in (Vxlan, Gretap):  # the Shape falls with the interface, and the next one may have the same number
            Exits(self._place).remove({(o.ns, o.dev) for o in objects if isinstance(o, Vxlan | Gretap)})
        return self._requests(objects, _removing, gone=GONE)

    def _each(self, objects: Iterable[AnyObject], act: Callable[[str, AnyObject], None]) -> Failures:
        failures: Failures = {}
        with netns.back_home():
            for o in objects:
                try:
                    act(o.slivers[0], o)
                except OSError as e:
                    failures[o.key] = refused(o, e)
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
        if inhabited:
            limits.settle(self._place)
        for o in objects:
            self._births.forget(o.slivers[0])
        Exits(self._place).forget({o.slivers[0] for o in objects})
        try:
            ShareDriver(self._place).forget({o.slivers[0] for o in objects})
        except (ViniError, OSError) as e:
            failures.update((o.key, f"What {o.slivers[0]} may send can't be set free: {e}") for o in objects)
        gone = [o.slivers[0] for o in objects if o.key not in failures]
        self._at_xdp.forget(gone)
        for ns in gone:
            self._deaf.pop(ns, None)
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

    # --- vifs, addresses, routes: a batch per namespace -----------------------------------------

    def _ensuring(
        self, patience: Patience, socket: Socket, batch: Sequence[AnyObject]
    ) -> Iterator[tuple[AnyObject, bytes]]:
        """The requests that make or change objects of one kind in one namespace, and mend what of them is there."""
        match batch[0]:
            case Interface(ns):
                vifs = [o for o in batch if isinstance(o, Interface)]
                if not is_sliver(ns):
                    self._join(socket, vifs)
                return vif.ensuring(socket, vifs, self._settings, self._clamp, patience)
            case Address():
                return addresses.ensuring(socket, [o for o in batch if isinstance(o, Address)], self._settings)
        index = indexes(batch)
        return ((o, rtnl_routes.add_route(o.to, o.via, index[o.dev], o.mtu)) for o in batch if isinstance(o, Route))

    def _join(self, socket: Socket, vifs: Sequence[Interface]) -> None:
        """Before any of them comes up."""
        index = indexes(vifs)
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
                        failures.update((o.key, refused(o, e)) for o in batch)
                        continue
                    errnos = socket.transact([request for _, request in requests])
                failures.update(
                    (o.key, refused(o, e)) for (o, _), e in zip(requests, errnos, strict=True) if e and e not in gone
                )
        return failures


def _removing(_: Socket, batch: Sequence[AnyObject]) -> Iterator[tuple[AnyObject, bytes]]:
    """The requests that take objects of one kind in one namespace away."""
    index = indexes(batch)
    for o in batch:
        match o:
            case Address(_, dev, cidr):
                yield o, rtnl_addresses.delete_address(index[dev], cidr)
            case Vxlan(_, dev) | Gretap(_, dev):
                yield o, rtnl.delete_link(dev)
            case Route(_, to, via, dev):
                yield o, rtnl_routes.delete_route(to, via, index[dev])


def _kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdigit()))
