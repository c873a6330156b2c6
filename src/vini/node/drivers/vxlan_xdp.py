"""Tunnels to other nodes whose headers programs of the node put on and take off at XDP.

In what order things are made is what makes a crash at any step harmless: first whose the tunnel is, so that all the
rest is found again; then where its packets go; the programs last.  Taking away goes the other way round.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from errno import EBUSY, EEXIST, ENODEV, EOPNOTSUPP
from pathlib import Path
from socket import if_nametoindex

from vini.model import AnyObject, DriverError, Key, ViniError, VxlanXdp
from vini.names import digest
from vini.node import bpf, libbpf, netns, rtnl, rtnl_addresses, tc, xdp
from vini.node.carrier import Carrier, Entry, Owner
from vini.node.drivers import Failures, refused
from vini.node.netdev import xdp_features
from vini.node.netlink import Socket
from vini.node.place import GROUP, Place
from vini.node.procfs import NetSettings
from vini.node.rtnl import SeenLink
from vini.node.xdp import SeenProgram

MOST_MTU = 3500  # a page, less what XDP and the kernel keep of it (veth_xdp_set in the kernel's veth.c)
_FILTER = "vini_tunnel"  # the name of the filter, for people who look with tc(8)
_FORWARDING = ("ipv4/conf/{}/forwarding", "ipv6/conf/{}/forwarding")  # else the kernel tells a program no way
_GONE = frozenset({0, ENODEV})


class Home:
    """What one call knows of the node's own namespace, and of those of slivers: looked at once, and kept true to what
    the call does.  So a thousand tunnels cost a thousand times as much as one, and no more."""

    def __init__(self, socket: Socket):
        self.socket = socket
        self.links: dict[str, SeenLink] = {}
        self.programs: dict[int, SeenProgram] = {}  # what arrives at an interface goes through first, by its index
        for message in socket.dump(rtnl.dump_links()):
            self._see(message)
        addresses = rtnl_addresses.addresses(socket)
        self.addresses = {a.cidr.partition("/")[0]: a.index for a in addresses}  # index of the interface that has it
        self._within: dict[str, list[SeenLink]] = {}

    def _see(self, message: bytes) -> SeenLink:
        link = rtnl.seen_link(message)
        self.links[link.dev], self.programs[link.index] = link, xdp.seen_any(message)
        return link

    def look_again(self, index: int) -> SeenLink:
        """At one interface that was made or changed."""
        return self._see(self.socket.ask(rtnl.get_link(index)))

    def within(self, ns: str, pin: Path) -> list[SeenLink]:
        """The interfaces of a sliver, as they were when it was first asked for.  OSError where it is gone."""
        if ns not in self._within:
            with netns.inside(pin), Socket() as there:
                self._within[ns] = rtnl.links(there)
        return self._within[ns]


class VxlanXdpDriver:
    """Holds nothing between calls."""

    kinds = (VxlanXdp,)

    def __init__(self, place: Place):
        self._place = place
        self._carrier = Carrier(place)
        self._settings = NetSettings()

    # --- observe ------------------------------------------------------------------------------

    def observe(self, namespaces: Collection[str]) -> frozenset[AnyObject]:
        """What is there; one of which anything is missing, or other than it should be, is not `whole`."""
        if not namespaces:
            return frozenset()
        with Socket() as socket:
            home = Home(socket)
            owners = {owner: vni for vni, owner in self._owned(home)}
            here = {owner: vni for owner, vni in owners.items() if owner.ns in namespaces}
            if not here:
                return frozenset()
            leaving, arriving = self._carrier.leaving(), self._carrier.arriving()
            wanted = {name: self._carrier.program_id(name) for name in ("leave", "arrive", "by_kernel")}
            out: set[AnyObject] = set()
            for owner, vni in here.items():
                outer = home.links.get(self._outer(owner))
                inner = self._inner(home, owner, outer)
                known = leaving.get(outer.index) if outer else None
                back = arriving.get(vni)
                local, remote, port = (known.local, known.remote, known.port) if known else ("", "", 0)
                whole = bool(
                    outer and inner and known and back and self._carrier.is_whole()
                    and back == _back(known, outer.index) and known.vni == vni
                    and _is_as_made(outer) and _runs(home, socket, outer.index, wanted)
                    and home.addresses.get(local) == known.other
                    and home.programs[known.other].id == wanted["arrive"]
                    and known.direct == xdp_features(known.other).takes
                )  # fmt: skip
                index, mac = (inner.index, inner.mac) if inner else (0, "")
                out.add(VxlanXdp(owner.ns, owner.dev, index, mac, vni, local, remote, port, whole))
        return frozenset(out)

    def _owned(self, home: Home) -> Iterator[tuple[int, Owner]]:
        """The number of each tunnel that there is a trace of, and whose it is; 0 where nobody knows its number."""
        known = {owner: vni for vni, owner in self._carrier.owners().items()}
        yield from ((vni, owner) for owner, vni in known.items())
        for link in home.links.values():
            kind, ns, dev = (*link.alias.removeprefix("vini ").split("/"), "", "", "")[:3]
            owner = Owner(ns, dev)
            if kind == "vxlanxdp" and link.group == GROUP and owner not in known and link.dev == self._outer(owner):
                yield 0, owner

    def _outer(self, owner: Owner) -> str:
        """The name of the pair's end in the node's namespace."""
        return f"vini{digest('outer end', self._place.mark, owner.ns, owner.dev) >> 24:010x}"

    def _inner(self, home: Home, owner: Owner, outer: SeenLink | None) -> SeenLink | None:
        """The other end; None where it isn't in its sliver, or is not a pair with this one."""
        if outer is None or outer.group != GROUP:
            return None
        try:
            found = home.within(owner.ns, self._place.pin(owner.ns))
        except OSError:
            return None
        return next((x for x in found if x.dev == owner.dev and _is_pair(x, outer)), None)

    # --- ensure -------------------------------------------------------------------------------

    def ensure(self, objects: Sequence[AnyObject]) -> Failures:
        """Make or change them."""
        with Socket() as socket, netns.back_home():
            home, owners = Home(socket), self._carrier.owners()
            failures = self._each(objects, lambda o: self._ensure(home, owners, o))
            self._tidy(home)
            return failures

    def _ensure(self, home: Home, owners: dict[int, Owner], o: VxlanXdp) -> None:
        with netns.opened(self._place.pin(o.ns)):  # before anything is made that would have to go again
            self._carrier.prepare()
        below = home.addresses.get(o.local)
        if below is None:
            raise DriverError(
                f"No interface of this node has the address {o.local}, by which {o.ns} {o.dev} is to reach {o.remote}; "
                "give it one, or tell the node its address anew."
            )
        self._own(home, owners, o.vni, Owner(o.ns, o.dev))
        self._listen(home, below)
        outer = self._pair(home, o)
        entry = Entry(o.local, o.remote, o.vni, o.port, xdp_features(below).takes, below)
        self._carrier.set_leaving(outer.index, entry)
        self._prepare(home.socket, outer, Owner(o.ns, o.dev))
        self._carrier.set_arriving(o.vni, _back(entry, outer.index))

    def _own(self, home: Home, owners: dict[int, Owner], vni: int, owner: Owner) -> None:
        if (other := owners.get(vni, owner)) != owner and self._outer(other) in home.links:
            raise DriverError(
                f"This node has another tunnel with the number {vni}, of {other.ns} {other.dev}; bring that slice up "
                "once more, or down."
            )
        for old in [number for number, o in owners.items() if o == owner and number != vni]:
            self._carrier.set_arriving(old, None)
            self._carrier.set_owner(old, None)
            del owners[old]
        self._carrier.set_owner(vni, owner)
        owners[vni] = owner

    def _listen(self, home: Home, below: int) -> None:
        """Have what arrives from other nodes go through our program first."""
        there, ours = home.programs[below], self._carrier.program_id("arrive")
        if there.id == ours:
            return
        dev = next(link.dev for link in home.links.values() if link.index == below)
        if there.is_there and not self._is_ours(there.id):
            raise DriverError(
                f"The interface {dev} to other nodes runs an XDP program of somebody else's (number {there.id}, "
                f"{_name(there.id)!r}); take it away with `ip link set dev {dev} xdp off`, or choose `tunnel: vxlan`."
            )
        fd = self._carrier.program("arrive")
        try:
            generic = there.generic or not xdp_features(below).runs
            request = xdp.set_program(below, fd, generic=generic, only_new=not there.is_there)
            (errno,) = home.socket.transact([request])
            if errno and not there.is_there and errno not in (EBUSY, EEXIST) and not generic:  # its MTU, its queues
                (errno,) = home.socket.transact([xdp.set_program(below, fd, generic=True, only_new=True)])
        finally:
            os.close(fd)
        if errno:
            raise DriverError(f"The kernel refused our program at {dev}, the interface to other nodes: {_said(errno)}.")
        home.look_again(below)

    def _is_ours(self, program: int) -> bool:
        return _name(program) == self._carrier.arrive_name

    def _pair(self, home: Home, o: VxlanXdp) -> SeenLink:
        """The end of it in the node's namespace."""
        owner = Owner(o.ns, o.dev)
        name = self._outer(owner)
        outer = home.links.get(name)
        inner = self._inner(home, owner, outer)
        if outer and inner and (inner.index, inner.mac) == (o.index, o.mac):
            return outer
        pin = self._place.pin(o.ns)
        found = home.within(o.ns, pin)
        if stale := [x.dev for x in found if x.group == GROUP and (x.dev == o.dev or x.index == o.index)]:
            with netns.inside(pin), Socket() as there:
                there.transact([rtnl.delete_link(dev) for dev in stale])
        if outer and outer.group == GROUP:
            home.socket.transact([rtnl.delete_link(name)])
        with netns.opened(pin) as inside:
            here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                mac = "02:" + (digest("outer mac", self._place.mark, o.ns, o.dev) >> 24).to_bytes(5, "big").hex(":")
                made = rtnl.add_veth((inside, here), (o.dev, name), (o.index, 0), (o.mac, mac))
                _check(home.socket.transact([made]), f"making {o.dev} of {o.ns}")
            finally:
                os.close(here)
        return home.look_again(if_nametoindex(name))

    def _prepare(self, socket: Socket, outer: SeenLink, owner: Owner) -> None:
        """The end here does nothing but run our programs: it has no addresses, and its kernel says nothing there."""
        self._settings.entered()
        for name, value in (
            ("ipv6/conf/{}/disable_ipv6", "1"), *((f, "1") for f in _FORWARDING)
        ):  # fmt: skip
            self._settings.write(name.format(outer.dev), value)
        alias = f"vini vxlanxdp/{owner.ns}/{owner.dev}"
        requests = [rtnl.set_link(outer.dev, mtu=MOST_MTU, up=True, alias=alias, point_to_point=True)]
        leave, by_kernel = self._carrier.program("leave"), self._carrier.program("by_kernel")
        try:
            requests += [
                rtnl.set_arp(outer.index, False), tc.add_clsact(outer.index),
                tc.set_filter(outer.index, by_kernel, _FILTER, tc.INGRESS, tc.PROGRAM_PRIORITY),
                xdp.set_program(outer.index, leave),
            ]  # fmt: skip
            _check(socket.transact(requests), f"putting our programs at {outer.dev}")
        finally:
            os.close(leave)
            os.close(by_kernel)

    # --- remove -------------------------------------------------------------------------------

    def remove(self, objects: Sequence[AnyObject]) -> Failures:
        """Take them away; with the last one, all that they had in common."""
        with Socket() as socket, netns.back_home():
            home, owners = Home(socket), self._carrier.owners()
            gone: list[int] = []
            failures = self._each(objects, lambda o: gone.extend(self._take_away(home, owners, Owner(o.ns, o.dev))))
            self._let_go(home, gone)
            return failures

    def forget(self, namespaces: Collection[str]) -> None:
        """Take all of those away whose namespaces are about to go, or gone: the node's part falls with no namespace."""
        with Socket() as socket:
            home, owners = Home(socket), self._carrier.owners()
            gone: list[int] = []
            try:
                for _, owner in list(self._owned(home)):
                    if owner.ns in namespaces:
                        gone += self._take_away(home, owners, owner)
            finally:
                self._let_go(home, gone)

    def _take_away(self, home: Home, owners: Mapping[int, Owner], owner: Owner) -> list[int]:
        """The numbers that it had, which are its own until nothing is left of it."""
        numbers = [vni for vni, other in owners.items() if other == owner]
        for vni in numbers:
            self._carrier.set_arriving(vni, None)
        outer = home.links.get(self._outer(owner))
        if outer and outer.group == GROUP:
            _check(home.socket.transact([rtnl.delete_link(outer.dev)]), f"deleting {owner.dev} of {owner.ns}", _GONE)
            self._carrier.set_leaving(outer.index, None)
        return numbers

    def _let_go(self, home: Home, numbers: Collection[int]) -> None:
        """Of what was taken away nothing is left; where that was all, so of what all had in common."""
        self._tidy(home)
        if self._carrier.owners().keys() <= set(numbers):
            self._carrier.remove()
        for vni in numbers:
            self._carrier.set_owner(vni, None)

    def _tidy(self, home: Home) -> None:
        """Forget what is gone; no program of ours stays where no tunnel needs it."""
        now = Home(home.socket)
        leaving = self._carrier.leaving()
        indexes = {link.index for link in now.links.values()}
        for index in leaving.keys() - indexes:
            self._carrier.set_leaving(index, None)
        needed = {entry.other for index, entry in leaving.items() if index in indexes}
        for index, program in now.programs.items():
            if index not in needed and program.is_there and self._is_ours(program.id):
                home.socket.transact([xdp.delete_program(index, generic=program.generic)])

    def _each(self, objects: Sequence[AnyObject], do: Callable[[VxlanXdp], None]) -> Failures:
        failures: dict[Key, str] = {}
        for o in objects:
            assert isinstance(o, VxlanXdp)
            try:
                do(o)
            except ViniError as e:
                failures[o.key] = str(e)
            except OSError as e:
                failures[o.key] = refused(o, e)
        return failures


def _back(entry: Entry, outer: int) -> Entry:
    """What the way back holds of a tunnel whose way out holds that."""
    return Entry(entry.local, entry.remote, entry.vni, entry.port, entry.direct, outer)


def _is_pair(inner: SeenLink, outer: SeenLink) -> bool:
    return inner.group == GROUP and inner.peer == outer.index and outer.peer == inner.index


def _is_as_made(outer: SeenLink) -> bool:
    own = rtnl.family_settings(outer)
    forwards = all(x in ("", "1") for x in (own.ipv4_forwarding, own.ipv6_forwarding))
    return outer.up and outer.mtu == MOST_MTU and not outer.arp and forwards


def _runs(home: Home, socket: Socket, index: int, wanted: Mapping[str, int]) -> bool:
    """Whether our programs are at that end of a pair."""
    filters = tc.filters(socket, index, tc.INGRESS)
    at_tc = [f.program for f in filters if f.priority == tc.PROGRAM_PRIORITY and f.program]
    return home.programs[index].id == wanted["leave"] and at_tc == [wanted["by_kernel"]]


def _name(program: int) -> str:
    """Of a loaded program; "" where it is gone."""
    try:
        fd = bpf.by_id(program)
    except OSError:
        return ""
    try:
        return libbpf.program_record(fd).name
    finally:
        os.close(fd)


def _check(errnos: Sequence[int], doing: str, fine: Collection[int] = frozenset({0})) -> None:
    for errno in errnos:
        if errno not in fine:
            raise DriverError(f"The kernel refused {doing}: {_said(errno)}.")


def _said(errno: int) -> str:
    return "its driver can't" if errno == EOPNOTSUPP else os.strerror(errno)
