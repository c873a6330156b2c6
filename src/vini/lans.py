"""LANs: which vifs share a network through switches, and how they are addressed.  Pure.

A LAN is named after the first of its switches in the order of names.  Its network is a hash of that
name and a member's place in it a hash of the member's own, so that nobody is renumbered when somebody
else joins, but in the rare collision, or where a LAN outgrows its network.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_interface, ip_network

from vini import names
from vini.model import Link, Mistake, TopologyError, Value

Member = tuple[str, int]  # the name of a link, and which of its ends is no switch


class Lan(Value, frozen=True):
    """Switches that are linked to each other, and the vifs that are on them, in the order of the links."""

    switches: tuple[str, ...]
    members: tuple[Member, ...] = ()

    @property
    def name(self) -> str:
        """That of the first switch."""
        return self.switches[0]


def vif_name(link: Link, i: int) -> str:
    """The vif's name at end `i`: its own, or the one derived from the peer."""
    return link.ends[i].vif or names.vif(link.ends[1 - i].sliver)


class Parts:
    """Things that are joined two by two: which of them hang together (a disjoint-set forest, Tarjan 1975)."""

    def __init__(self) -> None:
        self._above: dict[Hashable, Hashable] = {}

    def join(self, a: Hashable, b: Hashable) -> None:
        """From now on they hang together."""
        self._above[self.part(a)] = self.part(b)

    def part(self, thing: Hashable) -> Hashable:
        """The same one for all that hang together."""
        while (above := self._above.setdefault(thing, thing)) != thing:
            self._above[thing] = self._above[above]
            thing = above
        return thing


def find(switches: Collection[str], links: Mapping[str, Link]) -> tuple[Lan, ...]:
    """The LANs that links make of switches."""
    parts = Parts()
    for link in links.values():
        a, b = (end.sliver for end in link.ends)
        if a in switches and b in switches:
            parts.join(a, b)
    together: dict[Hashable, list[str]] = defaultdict(list)
    for switch in sorted(switches):
        together[parts.part(switch)].append(switch)
    members: dict[Hashable, list[Member]] = defaultdict(list)
    for name, link in links.items() if switches else ():
        for i in (0, 1):
            if link.ends[1 - i].sliver in switches and link.ends[i].sliver not in switches:
                members[parts.part(link.ends[1 - i].sliver)].append((name, i))
    return tuple(Lan(tuple(all_), tuple(members[part])) for part, all_ in together.items())


def has_loop(lan: Lan, links: Mapping[str, Link]) -> bool:
    """Whether a frame could come round: more links between the switches than a tree has."""
    inside = sum(all(end.sliver in lan.switches for end in link.ends) for link in links.values())
    return inside >= len(lan.switches)


# --- addresses --------------------------------------------------------------------------------


def addresses(lans: Sequence[Lan], links: Mapping[str, Link]) -> dict[Member, tuple[str, ...]]:
    """Each member's addresses: those that it was given, else one of each IP version that its LAN has.

    The LAN has the networks of the addresses that members were given; where none was, one of each version.
    Raises TopologyError where members were given different networks, or there is no room for all.
    """
    chosen = names.lan_networks({lan.name: len(lan.members) for lan in lans})
    out: dict[Member, tuple[str, ...]] = {}
    mistakes: list[Mistake] = []
    for lan in lans:
        given = {(n, i): tuple(map(names.canonical, links[n].ends[i].addresses)) for n, i in lan.members}
        own = [a for all_ in given.values() for a in all_]
        networks = list(dict.fromkeys(str(ip_interface(a).network) for a in own)) or list(chosen.get(lan.name, ()))
        try:
            _check_networks(lan, networks)
            by_network = [_numbered(lan, network, given, links) for network in networks]
        except ValueError as e:
            mistakes.append(Mistake(0, 0, str(e)))
            continue
        out |= {m: given[m] or tuple(numbered[m] for numbered in by_network) for m in lan.members}
    if mistakes:
        raise TopologyError(mistakes)
    return out


def _check_networks(lan: Lan, networks: Sequence[str]) -> None:
    if not networks and lan.members:
        raise ValueError(f"There is no room for the LAN of {lan.name}: 10.128.0.0/10 is full; give it addresses.")
    versions = [ip_network(n).version for n in networks]
    if len(set(versions)) < len(versions):
        raise ValueError(
            f"The slivers on the LAN of {lan.name} have addresses of several networks, {', '.join(networks)}; "
            "give them one of each IP version."
        )


def _numbered(
    lan: Lan, text: str, given: Mapping[Member, Sequence[str]], links: Mapping[str, Link]
) -> dict[Member, str]:
    """An address in that network for each member that was given none."""
    network = ip_network(text)
    taken = {int(ip_interface(a).ip) - int(network.network_address) for all_ in given.values() for a in all_}
    first, last = _room(network, len(lan.members))
    labels = {_label(links[n], i): (n, i) for (n, i), own in given.items() if not own}
    if len(labels) > last - first + 1 - sum(first <= t <= last for t in taken):
        raise ValueError(
            f"The network {text} of the LAN of {lan.name} is too small for the {len(lan.members)} vifs on it; "
            "take a larger one."
        )
    at = names.place(labels, last + 1, lambda label: names.digest("on a LAN", label), first, taken)
    return {labels[label]: f"{network.network_address + number}/{network.prefixlen}" for label, number in at.items()}


def _room(network: IPv4Network | IPv6Network, members: int) -> tuple[int, int]:
    """The first and the last number in a network that a member may get; not those of the network and of broadcasts."""
    if network.num_addresses <= 2:
        return 0, network.num_addresses - 1
    return 1, min(network.num_addresses, names.lan_span(members)) - 2


def _label(link: Link, i: int) -> str:
    return f"{link.ends[i].sliver} {vif_name(link, i)}"
