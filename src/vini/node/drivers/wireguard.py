"""The encrypted ways of slices to other nodes: each a WireGuard interface in a namespace of its own.

Its UDP socket is in the node's own namespace.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from errno import EADDRINUSE, ENODEV, EOPNOTSUPP

from vini.model import AnyObject, ViniError, Wireguard, underlay
from vini.node import netns, rtnl, rtnl_addresses, wireguard, wireguard_key
from vini.node.drivers import Failures, refused
from vini.node.drivers.share import ShareDriver
from vini.node.netlink import GENERIC, Socket
from vini.node.place import GROUP, Place
from vini.node.rtnl import SeenLink


class _Refused(Exception):
    """The message says why, without a full stop."""


class WireguardDriver:
    """Holds nothing between calls."""

    kinds = (Wireguard,)

    def __init__(self, place: Place):
        self._place = place

    def observe(self, namespaces: Collection[str]) -> frozenset[AnyObject]:
        """What is there in those namespaces."""
        out: set[AnyObject] = set()
        with netns.back_home():
            for ns in namespaces:
                if ns != underlay(ns):
                    continue
                try:
                    netns.enter(self._place.pin(ns))
                    with Socket() as socket:
                        out.update(_observed(ns, socket, rtnl.links(socket)))
                except OSError:  # never made, or taken down meanwhile
                    continue
        return frozenset(out)

    def ensure(self, objects: Sequence[AnyObject]) -> Failures:
        """Make or change them.  Before anything goes by one, what each sliver may send by it is known."""
        failures: Failures = {}
        led, unknown = [], set()
        with Socket() as home:
            for o in objects:
                assert isinstance(o, Wireguard)
                try:
                    if not self._make(home, o):
                        unknown.add(o.ns)
                    led.append(o)
                except (OSError, _Refused, ViniError) as e:
                    failures[o.key] = refused(o, e)
        astray = self._learn(unknown) if unknown else {}
        for o in led:
            try:
                if o.ns in astray:
                    raise _Refused(astray[o.ns])
                with netns.inside(self._place.pin(o.ns)), Socket() as there:
                    _raise(there, o)
            except (OSError, _Refused) as e:
                failures[o.key] = refused(o, e)
        return failures

    def _learn(self, unknown: Collection[str]) -> Mapping[str, str]:
        """Those that must not come up, and why."""
        try:
            astray = ShareDriver(self._place).learn()
        except (ViniError, OSError) as e:
            return dict.fromkeys(unknown, str(e))
        return {ns: why for ns, why in astray.items() if ns in unknown}

    def _make(self, home: Socket, o: Wireguard) -> bool:
        """All but that it is up; whether it is up already, with the same peers."""
        key = wireguard_key.private(self._place.state)
        if wireguard_key.public(key) != o.public_key:
            raise _Refused("this node has another key than its central knows; bring the slice up once more (`vini up`)")
        pin = self._place.pin(o.ns)
        with netns.inside(pin), Socket() as there:
            links = rtnl.links(there)
            stale = [x.dev for x in links if x.group == GROUP and wireguard.is_one(x) and x.dev != o.dev]
            there.transact([rtnl.delete_link(dev) for dev in stale])
        if not any(x.dev == o.dev and wireguard.is_one(x) for x in links):
            with netns.opened(pin) as fd:
                _check(home.transact([wireguard.add(fd, o.dev)]))
        with netns.inside(pin), Socket(GENERIC) as generic:
            changed = _configure(generic, o, key)
        return not changed and any(x.dev == o.dev and x.up for x in links)

    def remove(self, objects: Sequence[AnyObject]) -> Failures:
        """Take them away; no error when they are gone."""
        failures: Failures = {}
        with netns.back_home():
            for o in objects:
                assert isinstance(o, Wireguard)
                try:
                    netns.enter(self._place.pin(o.ns))
                except OSError:  # its namespace is gone, and it with that
                    continue
                with Socket() as there:
                    (errno,) = there.transact([rtnl.delete_link(o.dev)])
                if errno not in (0, ENODEV):
                    failures[o.key] = refused(o, errno)
        return failures


def _family(generic: Socket) -> int:
    family = wireguard.seen_family(generic.ask(wireguard.get_family()))
    if not family:
        raise _Refused("it has no WireGuard; load it by `modprobe wireguard`")
    return family


def _observed(ns: str, socket: Socket, links: Sequence[SeenLink]) -> Iterator[Wireguard]:
    ours = [link for link in links if link.group == GROUP and wireguard.is_one(link)]
    if not ours:
        return
    addresses = rtnl_addresses.addresses(socket)
    with Socket(GENERIC) as generic:
        family = _family(generic)
        for link in ours:
            seen = wireguard.seen(generic.dump(wireguard.dump(family, link.dev)))
            own = [a.cidr for a in addresses if a.index == link.index]
            peers = tuple(p.peer for p in seen.peers)
            cidr = next(iter(own), "")
            whole = link.up and all(p.plain and p.port == seen.port for p in seen.peers) and len(own) == 1
            yield Wireguard(ns, link.dev, seen.public_key, seen.port, cidr, link.mtu, peers, whole)


def _configure(generic: Socket, o: Wireguard, key: bytes) -> bool:
    """The keys before it comes up, so that it never answers anybody else.  Whether its peers are others now."""
    family = _family(generic)
    seen = wireguard.seen(generic.dump(wireguard.dump(family, o.dev)))
    same = {p.peer for p in seen.peers if p.plain and p.port == o.port}
    gone = sorted({p.peer.public_key for p in seen.peers} - {peer.public_key for peer in o.peers})
    new = [p for p in o.peers if p not in same]
    _check(generic.transact(wireguard.change(family, o.dev, key, o.port, new, gone)))
    return bool(new or gone)


def _raise(there: Socket, o: Wireguard) -> None:
    """Up, with its address and no other."""
    (index,) = (link.index for link in rtnl.links(there) if link.dev == o.dev)
    addresses = rtnl_addresses.addresses(there)
    wrong = [a.cidr for a in addresses if a.index == index and a.cidr != o.cidr]
    requests = [rtnl_addresses.delete_address(index, cidr) for cidr in wrong]
    requests.append(rtnl.set_link(o.dev, mtu=o.mtu, up=True, alias="vini", point_to_point=True))
    _check(there.transact([*requests, rtnl_addresses.add_address(index, o.cidr)]))


def _check(errnos: Sequence[int]) -> None:
    """Raises the first that is none."""
    for errno in errnos:
        if errno == EOPNOTSUPP:
            raise _Refused("it has no WireGuard; load it by `modprobe wireguard`")
        if errno == EADDRINUSE:
            raise _Refused("its UDP port is in use on this node")
        if errno:
            raise _Refused(os.strerror(errno))
