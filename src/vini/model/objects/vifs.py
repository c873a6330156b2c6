"""What a sliver's vifs are set to, and the switch that they may be ports of."""

from __future__ import annotations

from typing import ClassVar

from vini.model.objects.base import Object
from vini.model.value import Key


class Interface(Object, frozen=True):
    """The settings of one vif, or of "lo"; it comes and goes with what it belongs to.

    The interface alias carries `wire`, so that one end can be judged without seeing the other.
    """

    in_place: ClassVar[frozenset[str]] = frozenset(
        {
            "mtu", "up", "wire", "whole", "master", "gro", "split", "finished", "arp", "multicast", "forwards",
            "as_born", "crosses",
        }
    )  # fmt: skip
    ns: str
    dev: str
    wire: Key  # the key of what it belongs to: its pair or tunnel, or for "lo" the namespace
    mtu: int = 1500
    up: bool = True
    whole: bool = True  # with what the kernel gave it when it came up: 127.0.0.1 and ::1, or a link-local address
    master: str = ""  # the bridge that it is a port of
    gro: bool = False  # of a pair: takes frames that XDP redirects to the other end (NAPI; ethtool's GRO)
    split: bool = False  # large segments are cut before they leave by it
    finished: bool = False  # checksums are complete before a packet leaves by it: XDP forgets that one isn't
    # What a hand may turn off, and nobody asks to be off.
    arp: bool = True  # finds out neighbours' MAC addresses, also in IPv6
    multicast: bool = True
    forwards: bool = True  # what comes in by it, where its sliver forwards, and only there
    as_born: bool = True  # takes packets back by any way, heeds no redirects, and so on (drivers/births.py)
    crosses: bool = False  # what comes in by it leaves by its twin, untouched, and nothing else does: it has no IPv6

    @property
    def key(self) -> Key:
        return ("interface", self.ns, self.dev)

    @property
    def on(self) -> tuple[Key, ...]:
        return (self.wire, *((("bridge", self.ns, self.master),) if self.master else ()))


class Address(Object, frozen=True):
    """An address of a vif or of "lo", in canonical form with its prefix length."""

    in_place: ClassVar[frozenset[str]] = frozenset({"whole"})
    ns: str
    dev: str
    cidr: str
    whole: bool = True  # with what the kernel gave it: the routes to itself and to its prefix

    @property
    def key(self) -> Key:
        return ("address", self.ns, self.dev, self.cidr)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("interface", self.ns, self.dev),)


class Route(Object, frozen=True):
    """A static route in the main table, with our protocol number.  `to` is a canonical prefix."""

    in_place: ClassVar[frozenset[str]] = frozenset({"via", "dev", "mtu"})
    ns: str
    to: str
    via: str
    dev: str
    mtu: int = 0  # longest packet that is sent by it, where that is less than the interface's; 0: the interface's

    @property
    def key(self) -> Key:
        return ("route", self.ns, self.to)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("interface", self.ns, self.dev),)


BRIDGE = "switch"  # the name of the bridge in a sliver that is a switch


class Bridge(Object, frozen=True):
    """An Ethernet switch in a sliver: a bridge whose ports are Interfaces with it as `master`."""

    in_place: ClassVar[frozenset[str]] = frozenset({"stp", "storm_kpps", "whole"})
    ns: str
    dev: str = BRIDGE
    stp: bool = True  # Spanning Tree Protocol (IEEE 802.1D)
    storm_kpps: int = 10  # 10**3 broadcast, multicast and unknown frames per second that a port takes in
    whole: bool = True  # up, with our timers, and with storm control at every port

    @property
    def key(self) -> Key:
        return ("bridge", self.ns, self.dev)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns),)
