"""Slivers that are switches: which they are, what they can't have, and who meets over them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping

from vini import lans
from vini.lans import vif_name
from vini.layout import link_name
from vini.model import BRIDGE, Link
from vini.text.mistakes import Mistakes, quote
from vini.text.schema import Fields, Found
from vini.topology.keys import SLIVER_PROPERTIES
from vini.topology.links import PlacedLink
from vini.topology.merge import inherit, section

NOT_OF_A_SWITCH = ("routing", "routes", "addresses", "forward", "outside", "program")
MOST_PORTS = 1023  # BR_MAX_PORTS less the one that is never used (net/bridge/br_private.h)
Versions = Mapping[str, frozenset[int]]  # neighbour -> IP versions of the way there


def read_switches(root: Fields, slivers: Mapping[str, Found], mistakes: Mistakes) -> frozenset[str]:
    """The names of the switches.  What they inherit of routing from the whole file does not count; what they are
    given themselves, or by their groups, and can't have, is noted."""
    groups, allowed = section(root, "groups"), frozenset(SLIVER_PROPERTIES)
    usual = section(section(root, "defaults"), "sliver").get("mode")
    found = set()
    for name, sliver in slivers.items():
        own = inherit(sliver.value or {}, {}, groups, allowed, Mistakes())  # its mistakes are noted with the slivers
        mode = own.get("mode", usual)
        if mode is None or mode.value != "switch":
            continue
        found.add(name)
        for key in NOT_OF_A_SWITCH:
            if key in own and own[key].value not in (None, ()):
                what = f"{quote(name)} is a switch: it forwards frames, has no address, and can't have '{key}'."
                mistakes.add(own[key].key_at, what, f"remove '{key}', or the 'mode: switch'")
    return frozenset(found)


def check_ports(placed: Iterable[PlacedLink], switches: frozenset[str], mistakes: Mistakes) -> None:
    """A switch's ports have no addresses, leave the bridge its name, and are no more than it can have."""
    ports = Counter[str]()
    for p in placed:
        for i, end in enumerate(p.link.ends):
            fields = p.ends[i].value
            if end.sliver not in switches:
                continue
            ports[end.sliver] += 1
            if ports[end.sliver] == MOST_PORTS + 1:
                what = f"{quote(end.sliver)} has more than {MOST_PORTS} links, the most ports that a switch can have."
                mistakes.add(p.at, what, "link a second switch to it")
            if end.addresses:
                what = f"{quote(end.sliver)} is a switch, whose ports have no addresses."
                mistakes.add(fields["addresses"].key_at, what, "give them to the slivers that are linked to it")
            if vif_name(p.link, i) == BRIDGE:
                what = f"The vif name {quote(BRIDGE)} is that of the bridge in {quote(end.sliver)}."
                mistakes.add(fields["sliver"].at, what, "take another, such as port1")


def neighbors(links: Iterable[Link], switches: frozenset[str], routed: Container[str]) -> dict[str, Versions]:
    """Who can be a next hop of each of the slivers `routed`, and in which IP versions: given addresses tell, chosen
    ones are of both."""
    named = {link_name(link): link for link in links}
    out: dict[str, list[dict[str, frozenset[int]]]] = {}
    for link in named.values():
        if not switches.intersection(end.sliver for end in link.ends):
            for end, peer in (link.ends, link.ends[::-1]):
                versions = frozenset(map(_version, peer.addresses)) or frozenset((4, 6))
                out.setdefault(end.sliver, []).append({peer.sliver: versions})
    for lan in lans.find(switches, named):
        ends = [named[name].ends[i] for name, i in lan.members]
        usual = frozenset(_version(a) for end in ends for a in end.addresses) or frozenset((4, 6))
        there = {end.sliver: frozenset(map(_version, end.addresses)) or usual for end in ends}
        for sliver in there:
            out.setdefault(sliver, []).append(there)
    return {sliver: _together(sliver, all_) for sliver, all_ in out.items() if sliver in routed}


def _together(sliver: str, several: Iterable[dict[str, frozenset[int]]]) -> Versions:
    """Where two ways lead to one neighbour, the versions of both; nobody is his own neighbour."""
    out: dict[str, frozenset[int]] = {}
    for there in several:
        for name, versions in there.items():
            out[name] = out.get(name, frozenset()) | versions
    out.pop(sliver, None)
    return out


def _version(address: str) -> int:
    return 6 if ":" in address else 4
