"""The names and addresses of a topology, chosen once for all that need them.  Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_interface

from vini import names
from vini.model import Link, Mistake, NotFound, Routing, Sliver, Topology, TopologyError, Value

_Chosen = tuple[tuple[str, str], tuple[str, str]]


class Vif(Value, frozen=True):
    """One vif with everything decided: whose it is, where it leads, and how it is addressed."""

    sliver: str
    dev: str
    peer: str
    peer_dev: str
    link: str
    addresses: tuple[str, ...]
    peer_addresses: tuple[str, ...]
    cost: int
    end: int  # which end of the link: 0 or 1
    index: int  # interface index, unique in its sliver


class Layout(Value, frozen=True):
    """A topology with every name and address filled in."""

    vifs: dict[str, tuple[Vif, ...]]  # sliver -> its vifs, in the order of the links
    loopbacks: dict[str, tuple[str, ...]]  # router -> its loopback addresses; a host has none
    links: dict[str, Link]
    ends: dict[str, tuple[Vif, Vif]]  # link -> its two vifs
    forwarding: frozenset[str]  # the slivers that pass packets on
    router_ids: dict[str, str]  # router -> dotted quad: its IPv4 loopback, else made of its name (RFC 2328, C.1)


def link_name(link: Link) -> str:
    """The name that identifies a link in its slice."""
    return link.name or f"{link.ends[0].sliver}--{link.ends[1].sliver}"


_CARRY = {
    4: frozenset({"ospf", "isis", "rip", "babel", "static"}),
    6: frozenset({"ospf6", "isis", "ripng", "babel", "static"}),
}


def carried(routing: Routing) -> frozenset[int]:
    """The IP versions that a router carries.

    BGP carries those in which the protocols beside it lead from loopback to loopback; alone, both.
    """
    beside = set(routing.protocols) - {"bgp"}
    if not beside:
        return frozenset({4, 6} if routing.protocols else ())
    return frozenset(version for version, protocols in _CARRY.items() if beside & protocols)


def forwards(sliver: Sliver) -> bool:
    """Whether it is a router: it passes packets on and has a loopback address."""
    return sliver.routing is not None if sliver.forward is None else sliver.forward


def layout(topology: Topology) -> Layout:
    """Raises TopologyError where an address that was given is one that another vif has."""
    links = {link_name(link): link for link in topology.links}
    chosen = names.link_addresses(links)
    indexes = _indexes(topology)
    vifs: dict[str, list[Vif]] = {name: [] for name in topology.slivers}
    ends = {}
    for name, link in links.items():
        ends[name] = (_vif(name, link, 0, chosen[name], indexes), _vif(name, link, 1, chosen[name], indexes))
        for vif in ends[name]:
            vifs[vif.sliver].append(vif)
    loopbacks = _loopbacks(topology)
    pass_on = frozenset(name for name, s in topology.slivers.items() if forwards(s))
    out = Layout({s: tuple(v) for s, v in vifs.items()}, loopbacks, links, ends, pass_on, _router_ids(loopbacks))
    _refuse_duplicates(out)
    return out


def _vif(
    name: str, link: Link, i: int, chosen: tuple[tuple[str, str], ...], indexes: dict[tuple[str, str], int]
) -> Vif:
    end, peer = link.ends[i], link.ends[1 - i]
    ours, theirs = (tuple(names.canonical(a) for a in link.ends[k].addresses) or chosen[k] for k in (i, 1 - i))
    return Vif(
        sliver=end.sliver,
        dev=_dev(link, i),
        peer=peer.sliver,
        peer_dev=_dev(link, 1 - i),
        link=name,
        addresses=ours,
        peer_addresses=theirs,
        cost=link.cost if end.cost is None else end.cost,
        end=i,
        index=indexes[end.sliver, _dev(link, i)],
    )


def _indexes(topology: Topology) -> dict[tuple[str, str], int]:
    devs: dict[str, list[str]] = {}
    for link in topology.links:
        for i in (0, 1):
            devs.setdefault(link.ends[i].sliver, []).append(_dev(link, i))
    return {
        (sliver, dev): index
        for sliver, all_ in devs.items()
        for dev, index in names.indexes(all_, topology.name, sliver).items()
    }


def _router_ids(loopbacks: dict[str, tuple[str, ...]]) -> dict[str, str]:
    at = names.place(loopbacks, 1 << 24, lambda n: names.digest("router id", n), first=1)
    out = {}
    for sliver, addresses in loopbacks.items():
        v4 = [a for a in addresses if ":" not in a]
        out[sliver] = v4[0].partition("/")[0] if v4 else str(IPv4Address((10 << 24) + at[sliver]))
    return out


def _dev(link: Link, end: int) -> str:
    return link.ends[end].vif or names.vif(link.ends[1 - end].sliver)


def _loopbacks(topology: Topology) -> dict[str, tuple[str, ...]]:
    routers = {n: s for n, s in topology.slivers.items() if forwards(s) or s.addresses or s.routing}
    chosen = names.loopbacks(routers)
    return {n: tuple(names.canonical(a) for a in s.addresses) or chosen[n] for n, s in routers.items()}


def _refuse_duplicates(made: Layout) -> None:
    owner: dict[str, str] = {}
    mistakes = []
    claims = [(a, f"the loopback of {s}") for s, all_ in made.loopbacks.items() for a in all_]
    claims += [(a, f"{v.dev} of {v.sliver}") for vs in made.vifs.values() for v in vs for a in v.addresses]
    for cidr, what in claims:
        ip = cidr.partition("/")[0]
        if ip in owner:
            clash = f"{what} and {owner[ip]} would both have the address {ip}; give one of them another."
            mistakes.append(Mistake(0, 0, clash))
        owner[ip] = what
    if mistakes:
        raise TopologyError(mistakes)


def address(made: Layout, sliver: str, family: int = 4) -> str:
    """The address that stands for a sliver: a router's loopback, a host's first vif; without prefix length."""
    if sliver not in made.vifs:
        raise NotFound(f"There is no sliver {sliver!r} in this slice; `vini status` lists them.")
    candidates = [*made.loopbacks.get(sliver, ()), *(a for v in made.vifs[sliver] for a in v.addresses)]
    for cidr in candidates:
        if ip_interface(cidr).version == family:
            return cidr.partition("/")[0]
    raise NotFound(f"Sliver {sliver!r} has no IPv{family} address; give one of its vifs one, or use the other family.")


def alive(made: Layout, vif: Vif) -> bool:
    """Whether the link of this vif has a carrier."""
    return made.links[vif.link].fault != "carrier"
