"""Where packets of slivers leave the node: filters at its interfaces lead them through one place of ours, in which they
share what the uplink carries, and back.  What is to be encrypted before it leaves takes its detour (`detour`).

That place is an ifb, an interface that gives what it let through back to the one that it was taken from.  So whatever
somebody has at the node's own interfaces stays as it is, their queues too.  All is called in the node's own namespace.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Mapping
from errno import EINVAL, ENODEV, ENOENT

from vini.model import DriverError, Value, ViniError
from vini.names import digest
from vini.node import htb, rtnl, rtnl_addresses, tc
from vini.node.htb import SeenClass
from vini.node.netlink import Socket
from vini.node.outside import rules
from vini.node.place import GROUP, OURS, Place
from vini.node.rtnl import SeenLink
from vini.node.shares import classify, detour
from vini.node.shares.classify import BY_INTERFACE, EXEMPT, NONE, Number
from vini.node.shares.detour import Detours, Way
from vini.node.shares.record import Held
from vini.node.shares.settings import UplinkSettings
from vini.node.shares.tree import MAJOR, Class

_GONE = frozenset({0, ENOENT, ENODEV, EINVAL})  # EINVAL: no hooks there
Astray = Mapping[str, str]  # namespace of a WireGuard -> why what leaves by it could not be led, without a full stop


class Seen(Value, frozen=True):
    """What is there."""

    index: int  # of our ifb; 0: there is none
    up: bool = False
    has_root: bool = False
    classes: dict[int, SeenClass] = {}
    queues: dict[int, int] = {}  # class -> bytes that may wait
    filters: dict[int, str] = {}  # interface -> name of ours there, "" where it should have one
    by_dev: dict[str, int] = {}
    detours: dict[str, SeenLink] = {}  # namespace of a WireGuard -> the end here of its detour


class Uplink:
    """That of one place.  Holds nothing between calls."""

    def __init__(self, place: Place):
        self._place = place
        self._dev = f"vini{digest('shares', place.mark) >> 24:010x}"
        self._handle = digest("shares", place.mark) >> 33  # of the filter: another place has another
        self._detours = Detours(place)

    # --- look ---------------------------------------------------------------------------------

    def look(self) -> Seen:
        """All of it; little where there is none."""
        with Socket() as socket:
            links = rtnl.links(socket)
            by_dev = {link.dev: link.index for link in links}
            detours = detour.outers(self._place.mark, links)
            ours = next((x for x in links if x.dev == self._dev and x.group == GROUP), None)
            qdiscs = [tc.seen_qdisc(m) for m in socket.dump(tc.dump_qdiscs())]
            filters = self._filters(socket, links, {q.index for q in qdiscs if q.kind == "clsact"})
            if ours is None:
                return Seen(0, filters=filters, by_dev=by_dev, detours=detours)
            own = [q for q in qdiscs if q.index == ours.index]
            root = any(q.handle == MAJOR and q.parent == tc.ROOT and q.kind == "htb" for q in own)
            queues = {q.parent: struct.unpack_from("=I", q.options)[0] for q in own if q.kind == "bfifo"}
            seen = map(htb.seen_class, socket.dump(htb.dump_classes(ours.index))) if root else ()
            classes = {c.handle: c for c in seen}
            return Seen(ours.index, ours.up, root, classes, queues, filters, by_dev, detours)

    def _filters(self, socket: Socket, links: list[SeenLink], hooked: set[int]) -> dict[int, str]:
        """At all interfaces by which packets leave the node: those that have addresses."""
        addressed = {address.index for address in rtnl_addresses.addresses(socket) if _leads(address)}
        out: dict[int, str] = {}
        for link in links:
            name = self._filter(socket, link.index) if link.index in hooked else ""
            if name or (link.index in addressed and link.group not in OURS):
                out[link.index] = name
        return out

    def _filter(self, socket: Socket, index: int) -> str:
        found = tc.filters(socket, index)
        return next((f.name for f in found if f.priority == tc.SHARE_PRIORITY and f.handle == self._handle), "")

    def numbers(self, held: Mapping[str, Held], seen: Seen) -> dict[Number, int]:
        """By what a packet's class is told.  What comes by a way to the world of a sliver without a Share has none,
        though another one's number be in it."""
        ways = {index for dev, index in seen.by_dev.items() if dev.startswith(rules.PREFIX)}
        out: dict[Number, int] = {(BY_INTERFACE, index): NONE for index in ways}
        for ns, one in sorted(held.items()):
            if not one.object.through:
                out.update(dict.fromkeys(one.object.tunnels, MAJOR | one.slot))
            if one.object.outside and (index := seen.by_dev.get(rules.dev_name(self._place.mark, ns), 0)):
                out[BY_INTERFACE, index] = MAJOR | one.slot
        return out

    def name(self, numbers: Mapping[Number, int], settings: UplinkSettings, ifb: int) -> str:
        """Of the filter for them: it tells what its program knows."""
        known = f"{sorted(numbers.items())} {settings.exempt} {ifb}"
        return f"{classify.NAME} {self._place.mark} {digest(known):016x}"

    def ways(self, held: Mapping[str, Held], settings: UplinkSettings, ifb: int) -> dict[str, Way]:
        """Namespace of a WireGuard -> where packets are to go before it encrypts them."""
        numbers: dict[str, dict[Number, int]] = {}
        for _, one in sorted(held.items()):
            if one.object.through:
                numbers.setdefault(one.object.through, {}).update(dict.fromkeys(one.object.tunnels, MAJOR | one.slot))
        return {ns: Way(of, settings.exempt, ifb) for ns, of in numbers.items()}

    def round_(self, ways: Mapping[str, Way], seen: Seen) -> frozenset[str]:
        """Those of these namespaces from which all takes its detour."""
        return frozenset(ns for ns, w in ways.items() if self._detours.is_whole(ns, w, seen.detours.get(ns)))

    # --- change -------------------------------------------------------------------------------

    def make(self, classes: Mapping[int, Class], seen: Seen) -> Seen:
        """From now on these classes are there; packets in those that were there stay.  Raises DriverError."""
        with Socket() as socket:
            if not seen.index:
                _do(socket, "an ifb", [rtnl.add_ifb(self._dev)])
                seen = self.look()
            index = seen.index
            steps = [rtnl.set_link(self._dev, mtu=65535, up=True, alias=f"vini shares {self._place.mark}")]
            if not seen.has_root:
                steps.append(htb.set_root(index, MAJOR))
            for handle, one in classes.items():
                old = seen.classes.get(handle)
                if old is None or (old.wish, old.parent) != (one.wish, _parent(one)):
                    steps.append(htb.set_class(index, handle, one.parent, one.wish))
                if one.queue and seen.queues.get(handle) != one.queue:
                    size = struct.pack("=I", one.queue)
                    steps.append(tc.set_qdisc(index, (handle & 0xFFFF) << 16, handle, "bfifo", size))
            _do(socket, "the classes of slivers", steps)
        return self.look()

    def lead(self, numbers: Mapping[Number, int], settings: UplinkSettings, seen: Seen) -> None:
        """From now on what is known by these numbers goes by its class, at all interfaces.  Raises DriverError."""
        name = self.name(numbers, settings, seen.index)
        lacking = [index for index, known in seen.filters.items() if known != name]
        if not lacking:
            return
        try:
            program = classify.load(numbers, settings.exempt)
        except OSError as e:
            raise DriverError(f"The kernel refused the program that tells slivers' packets apart: {e}.") from e
        try:
            with Socket() as socket:
                for index in lacking:
                    put = tc.set_redirecting_filter(index, program, name, seen.index, self._handle)
                    *_, errno = socket.transact([tc.add_clsact(index), put])
                    if errno and errno != ENODEV:
                        _refused("what leads slivers' packets to their classes", errno)
        finally:
            os.close(program)

    def lead_round(self, ways: Mapping[str, Way], seen: Seen) -> Astray:
        """From now on these take their detours, and no others.  One that fails holds up nobody else's."""
        astray = self.lead_straight(seen.detours.keys() - ways.keys())
        for ns in ways.keys() - self.round_(ways, seen):
            try:
                self._detours.make(ns, ways[ns])
            except (ViniError, OSError) as e:
                astray[ns] = str(e).rstrip(".")
        return astray

    def lead_straight(self, namespaces: Collection[str]) -> dict[str, str]:
        """From now on none of these takes one, whatever is left of it; where not, why."""
        astray: dict[str, str] = {}
        for ns in namespaces:
            try:
                self._detours.remove(ns)
            except (ViniError, OSError) as e:
                astray[ns] = str(e).rstrip(".")
        return astray

    def drop(self, slots: list[int], seen: Seen) -> None:
        """These classes go; nothing leads to them any more."""
        handles = [MAJOR | base | slot for slot in slots for base in (0, EXEMPT)]
        with Socket() as socket:
            socket.transact([htb.delete_class(seen.index, h) for h in handles if h in seen.classes])

    def remove(self, seen: Seen) -> None:
        """All of it goes; what others have at the same interfaces stays."""
        with Socket() as socket:
            ours = [index for index, name in seen.filters.items() if name]
            socket.transact([tc.delete_filter(i, tc.EGRESS, tc.SHARE_PRIORITY, self._handle) for i in ours])
            socket.transact([tc.delete_clsact(i) for i in ours if not tc.is_used(socket, i)])
            socket.transact([rtnl.delete_link(self._dev)] if seen.index else [])


def _leads(address: rtnl_addresses.SeenAddress) -> bool:
    return not address.cidr.startswith(("127.", "fe80:")) and address.cidr != "::1/128"


def _parent(one: Class) -> int:
    """As the kernel tells it."""
    return tc.ROOT if one.parent == MAJOR else one.parent


def _do(socket: Socket, what: str, steps: list[bytes]) -> None:
    for errno in socket.transact(steps):
        if errno:
            _refused(what, errno)


def _refused(what: str, errno: int) -> None:
    raise DriverError(f"The kernel refused {what}: {os.strerror(errno)}; `modprobe -a ifb sch_htb act_mirred cls_bpf`.")
