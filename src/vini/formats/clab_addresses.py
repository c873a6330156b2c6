"""Addresses that a lab's links, commands and configurations give to interfaces, carried over to the vifs.

Left in commands they would not last: an address of a vif that the topology does not name is
removed by the next pass.  A topology wants both ends of a link in one subnet and no overlap
between links; what is otherwise stays where it is, with a note.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_interface

import msgspec

from vini import names
from vini.formats.clab_routes import NextHops, carry_routes, plain
from vini.formats.clab_slivers import Notes
from vini.formats.imported import listed, several
from vini.layout import link_name
from vini.model import Command, Link, Sliver, Value
from vini.text.mistakes import Wrong
from vini.topology.scalars import ADDRESS

_ADD = re.compile(r"ip(?: -[46])? (?:a|addr|address) add (\S+) dev (\S+)")
_SETS = re.compile(r"\bip(?:\s+-\S+)*\s+(?:a\w*|r\w*)\s+(?:add|replace|del|flush|change)\b")
_INTERFACE = re.compile(r"interface (\S+)")
_ADDRESS = re.compile(r"[ \t]+ip(?:v6)? address (\S+)")

Interface = IPv4Interface | IPv6Interface
Where = tuple[str, str]  # sliver, vif
Given = dict[Where, list[Interface]]


class _Block(Value, frozen=True):
    """A range of addresses and whose it is: a link's or a sliver's."""

    version: int
    first: int
    last: int
    owner: str


def carry_addresses(
    slivers: dict[str, Sliver], links: Sequence[Link], notes: Notes
) -> tuple[dict[str, Sliver], tuple[Link, ...]]:
    """The slivers and links with such addresses, and routes by way of them, and without the commands that set them."""
    slivers = {name: _one_by_one(s) for name, s in slivers.items()}
    given, loopbacks = _given(slivers, links)
    accepted = _accepted(links, given, loopbacks)
    slivers = {name: carry_routes(s, _next_hops(name, links, given, accepted), notes) for name, s in slivers.items()}
    devs: dict[str, list[str]] = {name: [] for name in slivers}
    for name, dev in given:
        devs[name].append(dev)
    made = {
        name: _sliver(s, devs[name], given, accepted, loopbacks.get(name, ()), notes) for name, s in slivers.items()
    }
    return made, tuple(_link(link, accepted) for link in links)


def _one_by_one(sliver: Sliver) -> Sliver:
    commands = tuple(Command(run, c.service) for c in sliver.commands for run in plain(c.run))
    return msgspec.structs.replace(sliver, commands=commands)


def _next_hops(name: str, links: Sequence[Link], given: Given, accepted: Given) -> NextHops:
    """The lab's addresses of a sliver's neighbours; one that isn't the topology's too leads to whoever had it."""
    hops: NextHops = {}
    for link in links:
        for end, peer in (link.ends, link.ends[::-1]):
            there = accepted[peer.sliver, peer.vif]
            for a in given[peer.sliver, peer.vif] if end.sliver == name else ():
                if a in there:
                    hops[str(a.ip)] = str(a.ip)
                elif not there or any(i.version == a.version for i in there):
                    hops.setdefault(str(a.ip), peer.sliver)
    return hops


def _given(slivers: dict[str, Sliver], links: Sequence[Link]) -> tuple[Given, dict[str, tuple[str, ...]]]:
    """What the file gives to each vif, and to loopbacks."""
    given: Given = {(e.sliver, e.vif): [ip_interface(a) for a in e.addresses] for link in links for e in link.ends}
    loopbacks: dict[str, tuple[str, ...]] = {}
    for sliver in slivers.values():
        configured = _of_frr_conf(sliver.routing.raw.get("frr.conf", "") if sliver.routing else "")
        for dev, address in (*configured, *(_of_command(c.run) for c in sliver.commands)):
            if address and address not in (there := given.get((sliver.name, dev), [address])):
                there.append(address)
        if own := [str(a) for dev, a in configured if dev == "lo" and a.network.num_addresses == 1]:
            loopbacks[sliver.name] = tuple(dict.fromkeys(own))
    return given, loopbacks


def _accepted(links: Sequence[Link], given: Given, loopbacks: dict[str, tuple[str, ...]]) -> Given:
    """Of each link the addresses that its ends agree on; none of a link that overlaps with another."""
    accepted: Given = {}
    for link in links:
        a, b = ((e.sliver, e.vif) for e in link.ends)
        accepted[a], accepted[b] = _agreed(given[a], given[b])
    overlapping = _overlapping([*_of_links(links, accepted), *_of_slivers(loopbacks)])
    for link in links:
        if link_name(link) in overlapping:
            accepted |= {(e.sliver, e.vif): [] for e in link.ends}
    for name in [name for name in loopbacks if f"{name} lo" in overlapping]:
        del loopbacks[name]
    return accepted


def _agreed(a: list[Interface], b: list[Interface]) -> tuple[list[Interface], list[Interface]]:
    """The addresses of those IP versions in which both ends are in the same subnets, under different addresses."""
    versions = {
        v
        for v in (4, 6)
        if {i.network for i in a if i.version == v} == {i.network for i in b if i.version == v}
        and not {i.ip for i in a if i.version == v} & {i.ip for i in b if i.version == v}
    }
    return [i for i in a if i.version in versions], [i for i in b if i.version in versions]


def _of_links(links: Sequence[Link], accepted: Given) -> Iterable[_Block]:
    automatic = []
    for link in links:
        ends = [(e.sliver, e.vif) for e in link.ends]
        networks = {i.network for end in ends for i in accepted[end]}
        yield from (_block(network, link_name(link)) for network in networks)
        if not networks:
            automatic.append(link_name(link))
    for first, _ in names.link_addresses(automatic).values():
        yield from (_block(ip_interface(a).network, "") for a in first)


def _of_slivers(loopbacks: dict[str, tuple[str, ...]]) -> Iterable[_Block]:
    for name, addresses in loopbacks.items():
        yield from (_block(ip_interface(a).network, f"{name} lo") for a in addresses)


def _block(network: IPv4Network | IPv6Network, owner: str) -> _Block:
    return _Block(network.version, int(network.network_address), int(network.broadcast_address), owner)


def _overlapping(blocks: Iterable[_Block]) -> set[str]:
    """The owners of blocks that overlap; found by a sweep, for whoever starts before the furthest end so far does."""
    found: set[str] = set()
    furthest: _Block | None = None
    for block in sorted(blocks, key=lambda b: (b.version, b.first, -b.last)):
        if furthest and furthest.version == block.version and block.first <= furthest.last:
            found |= {furthest.owner, block.owner}
            if block.last <= furthest.last:
                continue
        furthest = block
    return found


def _sliver(
    sliver: Sliver, devs: list[str], given: Given, accepted: Given, loopbacks: tuple[str, ...], notes: Notes
) -> Sliver:
    kept = []
    for command in sliver.commands:
        dev, address = _of_command(command.run)
        if address is None or address not in accepted.get((sliver.name, dev), ()):
            kept.append(command)
    refused = [f"{a} of {dev}" for dev in devs for a in given[sliver.name, dev] if a not in accepted[sliver.name, dev]]
    if refused:
        why = "the other end is not in its subnet, or it overlaps with another link's"
        notes.add(sliver.name, f"{listed(refused)} not made an address of the topology: {why}.")
    if count := len(loopbacks) + sum(len(accepted[sliver.name, dev]) for dev in devs):
        notes.add(sliver.name, f"{several(count, 'address', 'addresses')} of the lab became addresses of the topology.")
    if any(_SETS.search(c.run) for c in kept):
        notes.add(sliver.name, "`exec` sets addresses or routes; VINI also assigns its own.")
    return msgspec.structs.replace(sliver, commands=tuple(kept), addresses=loopbacks)


def _link(link: Link, accepted: Given) -> Link:
    ends = tuple(
        msgspec.structs.replace(e, addresses=tuple(str(i) for i in accepted[e.sliver, e.vif])) for e in link.ends
    )
    return msgspec.structs.replace(link, ends=ends)


# --- where the file gives them ----------------------------------------------------------------------------


def _of_command(command: str) -> tuple[str, Interface | None]:
    """Interface and address of `ip address add ADDRESS dev INTERFACE`; ("", None) of all else."""
    match = _ADD.fullmatch(" ".join(command.split()))
    address = _interface(match[1]) if match else None
    return (match[2], address) if match and address else ("", None)


def _of_frr_conf(text: str) -> list[tuple[str, Interface]]:
    """(interface, address) for each `ip address` in an interface block."""
    found, dev = [], ""
    for line in text.splitlines():
        if match := _INTERFACE.match(line):
            dev = match[1]
        elif not line.startswith((" ", "\t")):
            dev = ""
        elif dev and (match := _ADDRESS.match(line)) and (address := _interface(match[1])):
            found.append((dev, address))
    return found


def _interface(text: str) -> Interface | None:
    """A unicast address with a prefix length; None where it is none."""
    try:
        return ip_interface(ADDRESS.read(text))
    except Wrong:
        return None
