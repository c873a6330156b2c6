"""The network interfaces of nodes: what a machine says of its own, and what is kept of that."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address, ip_interface

from vini.model import Value
from vini.rules.words import MOST

MOST_INTERFACES = 64  # of a node
_MOST_ADDRESSES = 64  # of an interface
MOST_MTU = 9000  # of the network between nodes, bytes: what it carries beyond that is not asked for
_LEAST_MTU = 576  # every network carries that (RFC 791)
_LONGEST = 50  # letters of an address with its prefix length
_NAME = re.compile(r"[!-.0-~]{1,15}")  # what the kernel takes and everybody can read (IFNAMSIZ)
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


class NodeInterface(Value, frozen=True, forbid_unknown_fields=False):
    """One of a machine, which is neither VINI's nor an end of something that is in a sliver."""

    name: str
    mac: str = ""  # six octets; "": it has none
    mtu: int = 0  # bytes
    addresses: tuple[str, ...] = ()  # with prefix lengths, IPv4 and IPv6, sorted
    speed_mbit: int = 0  # 0: the kernel does not know it


def believed(said: Iterable[NodeInterface]) -> dict[str, NodeInterface]:
    """Name -> interface.  What a machine says of itself is its own affair: what can't be is left out, and of what no
    machine needs the rest."""
    found: dict[str, NodeInterface] = {}
    for one in said:
        if len(found) == MOST_INTERFACES:
            break
        if _NAME.fullmatch(one.name) and one.name not in found:
            found[one.name] = _possible(one)
    return found


def has(addresses: Iterable[str], address: str) -> bool:
    """Whether this address is among those."""
    return any(cidr.partition("/")[0] == address for cidr in addresses)


def carries(those: Iterable[NodeInterface], address: str) -> int:
    """The longest packet (bytes) that the interface with this address sends to other nodes; 0: none of them has it, or
    it says what no network has."""
    own = str(ip_address(address)) if address else ""
    mtu = next((one.mtu for one in those if has(one.addresses, own)), 0)
    return min(mtu, MOST_MTU) if mtu >= _LEAST_MTU else 0


def _possible(one: NodeInterface) -> NodeInterface:
    addresses = {cidr for text in one.addresses[:_MOST_ADDRESSES] if (cidr := _cidr(text))}
    mac = one.mac.lower()
    return NodeInterface(
        one.name, mac if _MAC.fullmatch(mac) else "", _bounded(one.mtu), tuple(sorted(addresses)),
        _bounded(one.speed_mbit),
    )  # fmt: skip


def _cidr(text: str) -> str:
    """As everybody writes it; "": it is none."""
    try:
        return str(ip_interface(text)) if len(text) <= _LONGEST and "/" in text and "%" not in text else ""
    except ValueError:
        return ""


def _bounded(number: int) -> int:
    return min(max(number, 0), MOST)
