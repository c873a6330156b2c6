"""Addresses that a lab's own commands and configurations give to interfaces, carried over to the vifs.

Left where they are they would not last: an address of a vif that the topology does not name is
removed by the next pass.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

import msgspec

from vini.formats.clab_slivers import Notes
from vini.formats.imported import several
from vini.model import Command, End, Link, Sliver
from vini.names import canonical

_ADD = re.compile(r"ip(?: -[46])? (?:a|addr|address) add (\S+) dev (\S+)")
_SETS = re.compile(r"\bip(?:\s+-\S+)*\s+(?:a\w*|r\w*)\s+(?:add|replace|del|flush|change)\b")
_INTERFACE = re.compile(r"interface (\S+)")
_ADDRESS = re.compile(r"[ \t]+ip(?:v6)? address (\S+)")

Given = dict[tuple[str, str], list[str]]  # (sliver, interface) -> addresses in canonical form


def carry_addresses(
    slivers: dict[str, Sliver], links: Iterable[Link], notes: Notes
) -> tuple[dict[str, Sliver], tuple[Link, ...]]:
    """The slivers and links with such addresses in their ends and loopbacks, and without the commands that set them.

    Addresses that an end has already are left alone.
    """
    links = tuple(links)
    open_ends = {(e.sliver, e.vif) for link in links for e in link.ends if e.vif and not e.addresses}
    given: Given = defaultdict(list)
    made = {name: _sliver(sliver, open_ends, given, notes) for name, sliver in slivers.items()}
    return made, tuple(_link(link, given) for link in links)


def _sliver(sliver: Sliver, open_ends: set[tuple[str, str]], given: Given, notes: Notes) -> Sliver:
    conf = sliver.routing.raw.get("frr.conf", "") if sliver.routing else ""
    configured = _of_frr_conf(conf)
    loopbacks = tuple(a for dev, a in configured if dev == "lo" and a.endswith(("/32", "/128")))
    found = [(dev, a) for dev, a in configured if (sliver.name, dev) in open_ends]
    kept: list[Command] = []
    for command in sliver.commands:
        dev, address = _of_command(command.run)
        if address and (sliver.name, dev) in open_ends:
            found.append((dev, address))
        else:
            kept.append(command)
    for dev, address in found:
        if address not in given[sliver.name, dev]:
            given[sliver.name, dev].append(address)
    if found or loopbacks:
        count = several(len(found) + len(loopbacks), "address", "addresses")
        notes.add(sliver.name, f"{count} of its commands or frr.conf became addresses of the topology.")
    if any(_SETS.search(c.run) for c in kept):
        notes.add(sliver.name, "`exec` sets addresses or routes; VINI also assigns its own.")
    return msgspec.structs.replace(sliver, commands=tuple(kept), addresses=loopbacks)


def _link(link: Link, given: Given) -> Link:
    a, b = (_end(end, given) for end in link.ends)
    return link if (a, b) == link.ends else msgspec.structs.replace(link, ends=(a, b))


def _end(end: End, given: Given) -> End:
    found = given.get((end.sliver, end.vif))
    return msgspec.structs.replace(end, addresses=tuple(found)) if found and not end.addresses else end


def _of_command(command: str) -> tuple[str, str]:
    """Interface and address of `ip address add ADDRESS dev INTERFACE`, in canonical form; ("", "") of all else."""
    match = _ADD.fullmatch(" ".join(command.split()))
    address = _canonical(match[1]) if match else ""
    return (match[2], address) if match and address else ("", "")


def _of_frr_conf(text: str) -> list[tuple[str, str]]:
    """(interface, address) for each `ip address` in an interface block."""
    found, dev = [], ""
    for line in text.splitlines():
        if match := _INTERFACE.match(line):
            dev = match[1]
        elif not line.startswith((" ", "\t")):
            dev = ""
        elif dev and (match := _ADDRESS.match(line)) and (address := _canonical(match[1])):
            found.append((dev, address))
    return found


def _canonical(text: str) -> str:
    """The address as the kernel prints it; "" where it is none, or has no prefix length."""
    try:
        return canonical(text) if "/" in text else ""
    except ValueError:
        return ""
