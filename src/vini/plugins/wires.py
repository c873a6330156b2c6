"""What a link is made of: a pair of interfaces on one node, or a tunnel between two; and what fits through.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import ip_address

from vini.layout import Layout, Vif
from vini.model import (
    AnyObject,
    CapacityError,
    Gretap,
    Node,
    Tunnel,
    Unsupported,
    Value,
    Veth,
    VethEnd,
    Vxlan,
    VxlanXdp,
    underlay,
)
from vini.plugins import beyond, wireguard
from vini.plugins.tunnels import STACKS, TunnelKind, apart, is_ruled_from_inside, reach, within
from vini.topology import LEAST_MTU_V6

MTU = 1500  # of a link that asks for none


class Wire(Value, frozen=True):
    """How one link is made; `ends` are what its first and its second vif belong to, of a pair twice the same.

    Of a tunnel that is beyond its sliver's reach, that is the pair in `pairs`, which leads to it.
    """

    ends: tuple[Veth, Veth] | tuple[Tunnel, Tunnel]
    mtu: int
    pairs: tuple[Veth | None, Veth | None] = (None, None)

    def tunnel(self, end: int) -> Tunnel | None:
        """What carries the packets of that end to another node; None: nothing does."""
        own = self.ends[end]
        return None if isinstance(own, Veth) else own

    @property
    def is_tunnel(self) -> bool:
        """Whether its ends are on different nodes."""
        return isinstance(self.ends[0], Tunnel)

    @property
    def is_at_xdp(self) -> bool:
        """Whether it is a tunnel whose vifs run programs at XDP, and take what XDP sends, as those of pairs do."""
        return isinstance(self.ends[0], VxlanXdp)


def wires(
    slice_: str,
    made: Layout,
    where: Mapping[str, Node],
    vnis: Mapping[str, int],
    kind: TunnelKind = "vxlan",
    contained: Collection[str] = (),
) -> dict[str, Wire]:
    """Link -> how it is made.  `where` has each sliver's node, `vnis` the number of each tunnel; in `contained` are
    those whose root is not the node's.

    A link that asks for no MTU has 1500, or what fits into its tunnel, or into those of its LAN: there nobody tells a
    sender that a frame was too long.  Unsupported where nodes can't be joined, or a link's own MTU does not fit.
    """
    rooms = {name: _room(name, made, where, kind) for name in made.links}
    pairs = {name: _nodes(name, made, where) for name in made.links}
    crossing = {name: (a, b) for name, (a, b) in pairs.items() if a.name != b.name}
    if kind == "wireguard":  # one interface carries all of a node, and pads what is shorter than its MTU
        rooms |= dict.fromkeys(crossing, min((rooms[name] for name in crossing), default=MTU))
    at = _addresses(crossing.values(), kind)
    least = {name: rooms[name] for name in made.links}
    for lan in made.lans.values():
        inside = [name for name, link in made.links.items() if any(e.sliver in lan.switches for e in link.ends)]
        least |= dict.fromkeys(inside, min((rooms[name] for name in inside), default=MTU))
    out = {}
    for name, vifs in made.ends.items():
        nodes = pairs[name]
        mtu = _mtu(name, made, rooms[name], least[name], nodes, kind)
        if name in crossing:
            held = contained if is_ruled_from_inside(kind) else ()
            out[name] = _tunnel(slice_, vifs, nodes, _vni(name, vnis), kind, at, held, mtu)
        else:
            out[name] = Wire(_pair(slice_, vifs), mtu)
    return out


def _nodes(name: str, made: Layout, where: Mapping[str, Node]) -> tuple[Node, Node]:
    a, b = (where[vif.sliver] for vif in made.ends[name])
    return a, b


def _addresses(pairs: Iterable[tuple[Node, Node]], kind: TunnelKind) -> Mapping[str, str]:
    """Node -> the address that its tunnels have."""
    nodes = {node.name: node for pair in pairs for node in pair}
    if kind == "wireguard":
        return wireguard.addresses(nodes.keys())
    return {name: str(ip_address(node.address)) for name, node in nodes.items()}


def _room(name: str, made: Layout, where: Mapping[str, Node], kind: TunnelKind) -> int:
    """The longest packet that the link can carry."""
    a, b = (where[end.sliver] for end in made.links[name].ends)
    if a.name == b.name:
        return 65535
    for why in apart(name, a, b, kind):
        raise Unsupported(why)
    return min(within(a, kind), within(b, kind))


def _vni(name: str, vnis: Mapping[str, int]) -> int:
    if name not in vnis:
        raise CapacityError(f"Link {name!r} leads to another node, but its tunnel has no number; try again.")
    return vnis[name]


def _mtu(name: str, made: Layout, room: int, least: int, nodes: tuple[Node, Node], kind: TunnelKind) -> int:
    asked = made.links[name].mtu
    if asked is not None and asked > room:
        carries, takes = min(n.mtu for n in nodes), STACKS[kind].overhead[reach(nodes[0], kind)]
        why = f"their network carries {carries}, and the tunnel takes {takes}"
        if room < carries - takes:
            why = f"a tunnel of the kind {kind} carries no longer ones"
        raise Unsupported(
            f"Link {name!r} asks for an mtu of {asked}, but between nodes {nodes[0].name!r} and {nodes[1].name!r} "
            f"packets of at most {room} bytes fit: {why}; write `mtu: {room}` or less, or leave it out."
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


def _tunnel(
    slice_: str,
    vifs: tuple[Vif, Vif],
    nodes: tuple[Node, Node],
    number: int,
    kind: TunnelKind,
    at: Mapping[str, str],
    held: Collection[str],
    mtu: int,
) -> Wire:
    """GRE keys are from the same space of numbers as VNIs: each is on one link only, whatever that is made of.  Those
    of slivers in `held` are beyond their reach."""
    out: list[Tunnel] = []
    pairs = [beyond.pair(slice_, v, number) if v.sliver in held else None for v in vifs]
    for v, here, there, pair in zip(vifs, nodes, nodes[::-1], pairs, strict=True):
        place = beyond.place(slice_, number) if pair else (f"{slice_}.{v.sliver}", v.dev, v.index, v.mac)
        common = (*place, number, at[here.name], at[there.name])
        if kind == "gretap":
            out.append(Gretap(*common))
        elif kind == "vxlan-xdp":
            out.append(VxlanXdp(*common))
        else:
            out.append(Vxlan(*common, through=underlay(slice_) if kind == "wireguard" else ""))
    return Wire((out[0], out[1]), mtu, (pairs[0], pairs[1]))


def underlays(
    slice_: str, made: Layout, where: Mapping[str, Node], wired: Mapping[str, Wire], port: int
) -> Iterator[tuple[str, AnyObject]]:
    """What tunnels go by that don't go by their node's own network, each with the node that it is on."""
    through = [name for name, wire in wired.items() if isinstance(wire.ends[0], Vxlan) and wire.ends[0].through]
    pairs = [_nodes(name, made, where) for name in through]
    least = min((within(node, "wireguard") for pair in pairs for node in pair), default=0)
    yield from wireguard.objects(slice_, pairs, port, least + STACKS["vxlan"].overhead[4])
