"""The messages of addresses of interfaces, and what the kernel answers, decoded (rtnetlink(7)).  See `rtnl`."""

from __future__ import annotations

import struct
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from socket import AF_INET, AF_INET6, inet_ntop

from vini.model import Value
from vini.node import netlink as nl
from vini.node.place import ROUTE_PROTOCOL

# Attribute numbers: linux/if_addr.h.
_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO, _IFA_FLAGS, _IFA_PROTO = 1, 2, 6, 8, 11
_IFA_F_NODAD, _IFA_F_TENTATIVE, _IFA_F_NOPREFIXROUTE = 2, 0x40, 0x200
_SCOPE_HOST = 254
BY_KERNEL_LO, BY_KERNEL_LL = 1, 3  # the protocol numbers of the kernel's own: of lo, link-local
_BODY = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index


class SeenAddress(Value, frozen=True):
    """An address with its prefix length; `mark` is its protocol number (None: unmarked)."""

    index: int
    cidr: str
    mark: int | None
    tentative: bool  # duplicates of it are still looked for
    made_cs: int  # since the machine's start, 1/100 s


def addresses(socket: nl.Socket) -> list[SeenAddress]:
    """All addresses of a socket's namespace, in the kernel's order."""
    return [seen_address(m) for m in socket.dump(nl.message(nl.GETADDR, nl.DUMP, _BODY.pack(0, 0, 0, 0, 0)))]


def seen_address(message: bytes) -> SeenAddress:
    """Decode RTM_NEWADDR."""
    family, length, flags, _, index = _BODY.unpack_from(message, 16)
    a = nl.attributes(message, 24)
    raw = a.get(_IFA_LOCAL) or a[_IFA_ADDRESS]
    mark = a[_IFA_PROTO][0] if _IFA_PROTO in a else None
    made_cs = nl.number(a.get(_IFA_CACHEINFO, b"")[8:12])  # struct ifa_cacheinfo: preferred, valid, made, changed
    return SeenAddress(index, f"{printed(family, raw)}/{length}", mark, bool(flags & _IFA_F_TENTATIVE), made_cs)


def printed(family: int, raw: bytes) -> str:
    """As ipaddress prints it; inet_ntop is ten times faster, but writes IPv4 inside of IPv6 in dots."""
    text = inet_ntop(AF_INET if family == 2 else AF_INET6, raw)
    return str(IPv6Address(raw)) if family == 10 and "." in text else text


@lru_cache(maxsize=1 << 14)
def _packed(cidr: str) -> tuple[int, bytes, int]:
    ip, _, length = cidr.partition("/")
    parsed = ip_address(ip)
    return (2 if parsed.version == 4 else 10), parsed.packed, int(length)


def add_address(index: int, cidr: str, mark: int = ROUTE_PROTOCOL, *, only_new: bool = False) -> bytes:
    """Give an interface an address, without duplicate address detection (RFC 4862 would keep it tentative).

    With `only_new`, one that it has already is refused with EEXIST.
    """
    family, packed, length = _packed(cidr)
    scope = _SCOPE_HOST if cidr.startswith("127.") else 0
    flags = _IFA_F_NODAD if mark == ROUTE_PROTOCOL else 0
    flags |= _IFA_F_NOPREFIXROUTE if cidr == "::1/128" else 0  # the kernel's has no route in `main` either
    body = _BODY.pack(family, length, 0, scope, index) + nl.attribute(_IFA_LOCAL, packed)
    body += nl.attribute(_IFA_ADDRESS, packed) + nl.u32(_IFA_FLAGS, flags)
    how = nl.EXCL if only_new else nl.REPLACE
    return nl.message(nl.NEWADDR, nl.CREATE | how, body + nl.attribute(_IFA_PROTO, bytes([mark])))


def delete_address(index: int, cidr: str) -> bytes:
    """Take an address away."""
    family, packed, length = _packed(cidr)
    body = _BODY.pack(family, length, 0, 0, index)
    return nl.message(nl.DELADDR, 0, body + nl.attribute(_IFA_LOCAL, packed) + nl.attribute(_IFA_ADDRESS, packed))
