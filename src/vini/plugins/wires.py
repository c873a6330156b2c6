"""What a link is made of: a pair of interfaces on one node, or a tunnel between two; and what fits through.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from ipaddress import ip_address

from vini.layout import Layout, Vif
from vini.model import CapacityError, Node, Unsupported, Value, Veth, VethEnd, Vxlan
from vini.topology import LEAST_MTU_V6

MTU = 1500  # of a link that asks for none
# What a tunnel puts around a packet: inner Ethernet 14, VXLAN 8, UDP 8, and IP 20 or 40.
OVERHEAD = {4: 50, 6: 70}


class Wire(Value, frozen=True):
    """How one link is made; `ends` are what its first and its second vif belong to, of a pair twice the same."""

    ends: tuple[Veth, Veth] | tuple[Vxlan, Vxlan]
    mtu: int

    @property
    def is_tunnel(self) -> bool:
        """Whether its ends are on different nodes."""
        return isinstance(self.ends[0], Vxlan)


def wires(slice_: str, made: Layout, where: Mapping[str, Node], vnis: Mapping[str, int]) -> dict[str, Wire]:
    """Link -> how it is made.  `where` has each sliver's node.

    A link that asks for no MTU has 1500, or what fits into its tunnel, or into those of its LAN: there nobody tells a
    sender that a frame was too long.  Unsupported where nodes can't be joined, or a link's own MTU does not fit.
    """
    rooms = {name: _room(name, made, where) for name in made.links}
    least = {name: rooms[name] for name in made.links}
    for lan in made.lans.values():
        inside = [name for name, link in made.links.items() if any(e.sliver in lan.switches for e in link.ends)]
        least |= dict.fromkeys(inside, min((rooms[name] for name in inside), default=MTU))
    out = {}
    for name, vifs in made.ends.items():
        a, b = (where[vif.sliver] for vif in vifs)
        out[name] = Wire(
            _pair(slice_, vifs) if a.name == b.name else _tunnel(slice_, vifs, (a, b), _vni(name, vnis)),
            _mtu(name, made, rooms[name], least[name], (a, b)),
        )
    return out


def reach(node: Node) -> int:
    """The IP version of the tunnels that a node can have to others of the same; 0: it can have none."""
    return _version(node.address) if node.address and "vxlan" in node.capabilities else 0


@lru_cache(maxsize=1 << 13)
def _version(address: str) -> int:
    return ip_address(address).version  # asked of each node at every change


def most(a: Node, b: Node) -> int:
    """The longest packet that a tunnel between two nodes of the same reach can carry."""
    return min(a.mtu, b.mtu) - OVERHEAD[reach(a)]


def _room(name: str, made: Layout, where: Mapping[str, Node]) -> int:
    """The longest packet that the link can carry."""
    a, b = (where[end.sliver] for end in made.links[name].ends)
    if a.name == b.name:
        return 65535
    for why in _apart(name, a, b):
        raise Unsupported(why)
    return most(a, b)


def _apart(name: str, a: Node, b: Node) -> Iterator[str]:
    """Why no tunnel can lead from one node to the other."""
    what = f"Link {name!r} leads from node {a.name!r} to node {b.name!r}"
    remedy = "or keep its slivers on one node with `node:`."
    for node in (a, b):
        if "vxlan" not in node.capabilities:
            yield f"{what}, but {node.name!r} can't make tunnels; load what it lacks by `modprobe vxlan`, {remedy}"
        if not node.address:
            yield f"{what}, but {node.name!r} has no address by which other nodes reach it; give it one, {remedy}"
    if a.address and b.address and ip_address(a.address).version != ip_address(b.address).version:
        both = f"{a.address} and {b.address}"
        yield f"{what}, whose addresses {both} are of different IP versions; give both one of the same, {remedy}"


def _vni(name: str, vnis: Mapping[str, int]) -> int:
    if name not in vnis:
        raise CapacityError(f"Link {name!r} leads to another node, but has no tunnel number (VNI); try again.")
    return vnis[name]


def _mtu(name: str, made: Layout, room: int, least: int, nodes: tuple[Node, Node]) -> int:
    asked = made.links[name].mtu
    if asked is not None and asked > room:
        raise Unsupported(
            f"Link {name!r} asks for an mtu of {asked}, but between nodes {nodes[0].name!r} and {nodes[1].name!r} "
            f"packets of at most {room} bytes fit: their network carries {min(n.mtu for n in nodes)}, and the tunnel "
            f"takes {min(n.mtu for n in nodes) - room}; write `mtu: {room}` or less, or leave it out."
        )
    mtu = min(MTU, least) if asked is None else asked
    if asked is None and mtu < LEAST_MTU_V6 and any(":" in a for vif in made.ends[name] for a in vif.addresses):
        raise Unsupported(
            f"Link {name!r} carries IPv6, which needs packets of {LEAST_MTU_V6} bytes, but on its way between nodes at "
            f"most {mtu} fit; give the link IPv4 addresses only, or the nodes a network with a larger MTU."
        )
    return mtu


def _pair(slice_: str, vifs: tuple[Vif, Vif]) -> tuple[Veth, Veth]:
    ends = (VethEnd(f"{slice_}.{v.sliver}", v.dev, v.index, v.mac) for v in vifs)
    a, b = sorted(ends, key=lambda e: (e.ns, e.dev))
    return Veth((a, b)), Veth((a, b))


def _tunnel(slice_: str, vifs: tuple[Vif, Vif], nodes: tuple[Node, Node], vni: int) -> tuple[Vxlan, Vxlan]:
    a, b = (str(ip_address(node.address)) for node in nodes)
    one, other = (
        Vxlan(f"{slice_}.{v.sliver}", v.dev, v.index, v.mac, vni, local, remote)
        for v, local, remote in zip(vifs, (a, b), (b, a), strict=True)
    )
    return one, other
