"""What a sliver may have of its node's uplink: a way to the world, and a share of what leaves."""

from __future__ import annotations

from typing import ClassVar

from vini.model.objects.base import Object
from vini.model.value import Key, Value

OUTSIDE = "outside"  # the name of a sliver's vif to the world


class OutsideGrant(Value, frozen=True):
    """What an operator lets a slice do in the world; budgets are of all its slivers on one node together.

    `to` has IPv4 and IPv6 prefixes.  One that is in the private ranges, or another that the public Internet does not
    have, is meant as it stands; of any other only what the public Internet has: so "0.0.0.0/0" leads to no site's own
    network, nor does "::/0" to a network that the node is in itself.
    """

    to: tuple[str, ...]
    allow: tuple[str, ...] = ("tcp", "udp", "icmp")  # "tcp", "udp/53", "tcp/8000-8999"; "icmp" is echo requests
    rate_kbit: int = 10_000  # each way, of Ethernet frames
    packets_per_s: int = 2000  # each way
    flows: int = 1000  # at a time
    new_flows_per_s: int = 100
    daily_mb: int = 1000  # 10**6 bytes that leave in a day of UTC; 0: not bounded

    @property
    def versions(self) -> frozenset[int]:
        """The IP versions that it lets out."""
        return frozenset(6 if ":" in prefix else 4 for prefix in self.to)


class Outside(Object, frozen=True):
    """A sliver's vif to the world, by way of its node, which translates addresses and lets out what is granted.

    Its address is the node's to choose.  Nothing else leaves: see `node/outside/rules.py`.
    """

    in_place: ClassVar[frozenset[str]] = frozenset({"grant", "never", "whole"})
    falls: ClassVar[bool] = False  # what the node has of it stays
    ns: str
    mac: str
    index: int  # interface index, unique inside its namespace
    grant: OutsideGrant
    never: tuple[str, ...] = ()  # addresses of other nodes, to which nothing goes whatever is granted
    whole: bool = True  # both ends, and the rules at the node's, are as we make them; always wanted so

    @property
    def key(self) -> Key:
        return ("outside", self.ns)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns),)


class Share(Object, frozen=True):
    """What a sliver may send by its node's uplink, to other nodes and to the world.

    It acts where packets leave the node, so nothing in the sliver changes it (docs/explanation/shares.md).
    """

    in_place: ClassVar[frozenset[str]] = frozenset(
        {"min_kbit", "max_kbit", "weight", "daily_mb", "tunnels", "outside", "through", "whole"}
    )
    falls: ClassVar[bool] = False  # it is in the node's own namespace
    ns: str
    min_kbit: int = 0  # 10**3 bits of Ethernet frame per second that are its own; 0: none
    max_kbit: int = 0  # at most; 0: what the uplink carries
    weight: int = 100  # its part of what is left
    daily_mb: int = 0  # 10**6 bytes in a day of UTC, beyond which it is slowed to their average rate; 0: not bounded
    tunnels: tuple[tuple[int, int], ...] = ()  # sorted: UDP port and number of a VXLAN one, 0 and key of a GRE one
    outside: bool = False  # whether it has a way to the world
    through: str = ""  # the namespace of the Wireguard by which its tunnels go; "": the node's own
    whole: bool = True  # all that keeps it to this is there, also where packets leave; always wanted so

    @property
    def key(self) -> Key:
        return ("share", self.ns)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns),)
