"""The names and addresses of a topology, chosen once for all that need them.  Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_interface

from vini import lans, names
from vini.lans import Lan, vif_name
from vini.model import Link, Mistake, NotFound, Routing, Sliver, Topology, TopologyError, Value


class Vif(Value, frozen=True):
    """One vif with everything decided: whose it is, where it leads, and how it is addressed."""

    sliver: str
    dev: str
    peer: str  # at the other end of the link: maybe a switch, and no neighbour
    peer_dev: str
    link: str
    addresses: tuple[str, ...]  # none at a switch
    cost: int
    end: int  # which end of the link: 0 or 1
    index: int  # interface index, unique in its sliver
    mac: str
    lan: str = ""  # the LAN that it is on; "": its link is between two slivers alone, or it is a switch's port


class Layout(Value, frozen=True):
    """A topology with every name and address filled in."""

    vifs: dict[str, tuple[Vif, ...]]  # sliver -> its vifs, in the order of the links
    loopbacks: dict[str, tuple[str, ...]]  # router -> its loopback addresses; a host has none
    links: dict[str, Link]
    ends: dict[str, tuple[Vif, Vif]]  # link -> its two vifs
    forwarding: frozenset[str]  # the slivers that pass packets on
    router_ids: dict[str, str]  # router -> dotted quad: its IPv4 loopback, else made of its name (RFC 2328, C.1)
    switches: frozenset[str]
    lans: dict[str, Lan]
    on_lan: dict[str, tuple[Vif, ...]]  # LAN -> the vifs on it, in the order of the links

    def neighbors(self, vif: Vif) -> tuple[Vif, ...]:
        """The vifs that packets which leave by this one may go to: the link's other end, or the others on the LAN."""
        if vif.lan:
            return tuple(v for v in self.on_lan[vif.lan] if v.sliver != vif.sliver)
        return () if vif.sliver in self.switches else (self.ends[vif.link][1 - vif.end],)


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
    if sliver.forward is not None:
        return sliver.forward
    return sliver.routing is not None or sliver.program is not None


def switches(topology: Topology) -> frozenset[str]:
    """The slivers that are switches."""
    return frozenset(name for name, s in topology.slivers.items() if s.mode == "switch")


def layout(topology: Topology) -> Layout:
    """Raises TopologyError where an address that was given is one that another vif has, or a LAN has no room."""
    links = {link_name(link): link for link in topology.links}
    found = lans.find(switches(topology), links)
    made = _Vifs(topology.name, links, _indexes(topology), found)
    vifs: dict[str, list[Vif]] = {name: [] for name in topology.slivers}
    ends = {}
    for name in links:
        ends[name] = (made.vif(name, 0), made.vif(name, 1))
        for vif in ends[name]:
            vifs[vif.sliver].append(vif)
    loopbacks = _loopbacks(topology)
    pass_on = frozenset(name for name, s in topology.slivers.items() if forwards(s))
    out = Layout(
        {s: tuple(v) for s, v in vifs.items()},
        loopbacks,
        links,
        ends,
        pass_on,
        _router_ids(loopbacks),
        switches(topology),
        {lan.name: lan for lan in found},
        {lan.name: tuple(ends[n][i] for n, i in lan.members) for lan in found},
    )
    _refuse_duplicates(out)
    return out


class _Vifs:
    """What is decided for all vifs together, taken apart vif by vif."""

    def __init__(
        self, slice_: str, links: dict[str, Link], indexes: dict[tuple[str, str], int], found: tuple[Lan, ...]
    ):
        self._slice, self._links, self._indexes = slice_, links, indexes
        self._chosen = names.link_addresses(links)
        self._on_lan = lans.addresses(found, links)
        self._lan = {member: lan.name for lan in found for member in lan.members}
        self._switches = {s for lan in found for s in lan.switches}

    def vif(self, name: str, i: int) -> Vif:
        """The vif at one end of a link."""
        link = self._links[name]
        end, dev = link.ends[i], vif_name(link, i)
        if end.sliver in self._switches:
            addresses: tuple[str, ...] = ()
        elif (name, i) in self._lan:
            addresses = self._on_lan[name, i]
        else:
            addresses = tuple(names.canonical(a) for a in end.addresses) or self._chosen[name][i]
        return Vif(
            sliver=end.sliver,
            dev=dev,
            peer=link.ends[1 - i].sliver,
            peer_dev=vif_name(link, 1 - i),
            link=name,
            addresses=addresses,
            cost=link.cost if end.cost is None else end.cost,
            end=i,
            index=self._indexes[end.sliver, dev],
            mac=names.mac(self._slice, end.sliver, dev),
            lan=self._lan.get((name, i), ""),
        )


def _indexes(topology: Topology) -> dict[tuple[str, str], int]:
    devs: dict[str, list[str]] = {}
    for link in topology.links:
        for i in (0, 1):
            devs.setdefault(link.ends[i].sliver, []).append(vif_name(link, i))
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
    if sliver in made.switches:
        raise NotFound(f"Sliver {sliver!r} is a switch, which has no address; name a sliver that is linked to it.")
    raise NotFound(f"Sliver {sliver!r} has no IPv{family} address; give one of its vifs one, or use the other family.")


def alive(made: Layout, vif: Vif) -> bool:
    """Whether the link of this vif has a carrier."""
    return made.links[vif.link].fault != "carrier"
