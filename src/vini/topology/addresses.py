"""Checks on the addresses that the user gives: both ends in one subnet, and no overlap anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

from msgspec import Struct

from vini import lans, names
from vini.layout import link_name
from vini.model import Link, TopologyError
from vini.text.mistakes import Mark, Mistakes, quote
from vini.text.schema import Found
from vini.topology.links import PlacedLink

Interface = IPv4Interface | IPv6Interface
Given = tuple[Interface, Mark]

LEAST_MTU_V6 = 1280  # RFC 8200, 5
FREE_RANGES = "take one of 172.16.0.0/12, 192.168.0.0/16 or fd00::/16"


class Block(Struct, frozen=True):
    """A range of addresses that belongs to a link or to a sliver; `at` is None where VINI chose it."""

    version: int
    first: int
    last: int
    text: str
    owner: str
    at: Mark | None


def check_addresses(
    placed: list[PlacedLink], slivers: dict[str, Found], switches: frozenset[str], mistakes: Mistakes
) -> None:
    """Note what is wrong with given addresses; those that VINI would choose only count against them."""
    blocks = [*_loopbacks(slivers)]
    for p in placed:
        if switches.intersection(end.sliver for end in p.link.ends):
            continue
        given = (_given(p.ends[0]), _given(p.ends[1]))
        _check_twice([*given[0], *given[1]], mistakes)
        _check_same_subnet(p, given, mistakes)
        _check_mtu(p, given, mistakes)
        blocks += _networks(p, given)
    on_lans = _check_lans(placed, switches, mistakes)
    blocks += (b for b in on_lans if b.at)
    if blocks:
        blocks += (b for b in on_lans if not b.at)
        _check_overlap(blocks + _chosen(placed, slivers, switches), mistakes)


def _given(end: Found) -> list[Given]:
    found = end.value.get("addresses")
    return [(ip_interface(f.value), f.at) for f in found.value] if found else []


def _check_twice(given: list[Given], mistakes: Mistakes) -> None:
    seen: dict[object, Mark] = {}
    for interface, at in given:
        if (first := seen.setdefault(interface.ip, at)) is not at:
            what = f"The address {interface.ip} is already used on line {first[0]}."
            mistakes.add(at, what, "give each end its own")


def _check_same_subnet(p: PlacedLink, given: tuple[list[Given], list[Given]], mistakes: Mistakes) -> None:
    for i, (mine, theirs) in enumerate((given, given[::-1])):
        peer = p.link.ends[1 - i]
        for interface, at in mine:
            same = [other for other, _ in theirs if other.version == interface.version]
            if not same:
                what = f"The address {interface} has no IPv{interface.version} counterpart in {quote(peer.sliver)}."
                mistakes.add(at, what, f"give both ends one, {_partner(interface)}")
            elif all(other.network != interface.network for other in same) and i == 1:
                what = f"The addresses {interface} and {same[0]} are not in the same subnet."
                mistakes.add(at, what, _partner(same[0]))


def _partner(interface: Interface) -> str:
    """An address for the other end."""
    first = interface.network.network_address + (interface.network.num_addresses > 2)
    free = first if first != interface.ip else first + 1
    return f"for example {free}/{interface.network.prefixlen}" if free in interface.network else ""


def _check_mtu(p: PlacedLink, given: tuple[list[Given], list[Given]], mistakes: Mistakes) -> None:
    addresses, mtu = [*given[0], *given[1]], p.link.mtu
    if mtu is not None and mtu < LEAST_MTU_V6 and (not addresses or any(i.version == 6 for i, _ in addresses)):
        what = f"The mtu {mtu} is too small for IPv6, which this link carries."
        mistakes.add(p.at, what, f"write {LEAST_MTU_V6} or more, or give the link IPv4 addresses only")


# --- LANs -------------------------------------------------------------------------------------


def _check_lans(placed: list[PlacedLink], switches: frozenset[str], mistakes: Mistakes) -> list[Block]:
    """Note where the members of a LAN don't fit together; the networks of all LANs."""
    by_name = {link_name(p.link): p for p in placed}
    links = {name: p.link for name, p in by_name.items()}
    blocks = []
    found = lans.find(switches, links)
    chosen = names.lan_networks({lan.name: len(lan.members) for lan in found})
    for lan in found:
        given = [g for name, i in lan.members for g in _given(by_name[name].ends[i])]
        owner = f"the LAN of {quote(lan.name)}"
        if given:
            once = {interface.network: at for interface, at in given[::-1]}
            blocks += [_block(str(network), owner, at) for network, at in once.items()]
        else:
            blocks += [_block(text, owner, None) for text in chosen.get(lan.name, ())]
        _check_twice(given, mistakes)
        _check_mtus(lan, by_name, given, mistakes)
        if len({interface.ip for interface, _ in given}) == len(given):
            _check_fit(lan, links, given, by_name, mistakes)
    return blocks


def _check_fit(
    lan: lans.Lan, links: dict[str, Link], given: list[Given], by_name: dict[str, PlacedLink], mistakes: Mistakes
) -> None:
    try:
        lans.addresses([lan], links)
    except TopologyError as e:
        at = given[-1][1] if given else by_name[lan.members[0][0]].at
        for mistake in e.mistakes:
            mistakes.add(at, mistake.what)


def _check_mtus(lan: lans.Lan, by_name: dict[str, PlacedLink], given: list[Given], mistakes: Mistakes) -> None:
    for p in dict.fromkeys(name for name, _ in lan.members):
        _check_mtu(by_name[p], (given, []), mistakes)


# --- overlap ----------------------------------------------------------------------------------


def _networks(p: PlacedLink, given: tuple[list[Given], list[Given]]) -> list[Block]:
    owner = f"the link {quote(link_name(p.link))}"
    once = {interface.network: at for interface, at in [*given[0], *given[1]][::-1]}
    return [_block(str(network), owner, at) for network, at in once.items()]


def _loopbacks(slivers: dict[str, Found]) -> Iterable[Block]:
    for name, found in slivers.items():
        addresses = found.value.get("addresses") if found.value else None
        # Each is an owner by itself, so that one address given twice in a sliver is seen.
        yield from (_block(f.value, f"the sliver {quote(name)}", f.at) for f in (addresses.value if addresses else ()))


def _chosen(placed: list[PlacedLink], slivers: dict[str, Found], switches: frozenset[str]) -> list[Block]:
    """What VINI chooses for those who give no address."""
    automatic = {link_name(p.link) for p in placed if not any(e.addresses or e.sliver in switches for e in p.link.ends)}
    everyone = names.link_addresses(link_name(p.link) for p in placed)  # collisions depend on all names
    blocks = [
        _block(first, f"the link {quote(name)}", None)
        for name, (one, _) in everyone.items()
        if name in automatic
        for first in one
    ]
    plain = [n for n, found in slivers.items() if not (found.value and "addresses" in found.value or n in switches)]
    for name, both in names.loopbacks(plain).items():
        blocks += (_block(a, f"the sliver {quote(name)}", None) for a in both)
    return blocks


def _block(text: str, owner: str, at: Mark | None) -> Block:
    network = ip_interface(text).network
    return Block(network.version, int(network.network_address), int(network.broadcast_address), str(network), owner, at)


def _check_overlap(blocks: list[Block], mistakes: Mistakes) -> None:
    """A sweep: whoever starts before the furthest end so far overlaps with it."""
    furthest: Block | None = None
    for block in sorted(blocks, key=lambda b: (b.version, b.first, -b.last)):
        if furthest and furthest.version == block.version and block.first <= furthest.last:
            if furthest.owner != block.owner or (block.at and block.text == furthest.text):
                _note_overlap(furthest, block, mistakes)
            if block.last <= furthest.last:
                continue
        furthest = block


def _note_overlap(a: Block, b: Block, mistakes: Mistakes) -> None:
    first, second = (a, b) if (a.at or (0, 0)) <= (b.at or (0, 0)) else (b, a)
    if second.at is None:
        return  # VINI's own choices never overlap
    if first.at is None:
        what = f"The network {second.text} overlaps with {first.text}, which VINI chooses for {first.owner}."
        mistakes.add(second.at, what, FREE_RANGES)
    else:
        what = f"The network {second.text} overlaps with {first.text} of {first.owner} (line {first.at[0]})."
        mistakes.add(second.at, what, "give each link and each sliver a subnet of its own")
