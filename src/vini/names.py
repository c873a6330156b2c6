"""Names, addresses, MACs and interface indexes, derived from names alone.

They don't change when an unrelated sliver is added, because each is a hash of the names that it
belongs to.  In the rare collision (two of n names in a space of 2**22: n**2 / 2**23) the later
in hash order takes the next free place; numbering in file order was rejected since it renumbers
a whole lab on every insertion.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

SLIVER_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?\Z")  # as a DNS label (RFC 1123), at most 40
SLICE_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,38}[a-z0-9])?\Z")
VIF_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}\Z")  # IFNAMSIZ less its NUL: netdevice(7)

LOOPBACKS_V4 = int(IPv4Address("10.192.0.0"))  # 10.192.0.0/10, a /32 each
LINKS_V4 = int(IPv4Address("10.0.0.0"))  # 10.0.0.0/9, a /31 each (RFC 3021)
LOOPBACKS_V6 = int(IPv6Address("fd56:494e:4900::"))  # "VINI"; a /128 each
LINKS_V6 = int(IPv6Address("fd56:494e:4901::"))  # a /127 each (RFC 6164)
LANS_V4 = int(IPv4Address("10.128.0.0"))  # 10.128.0.0/10, a /24 or larger each
LANS_V6 = int(IPv6Address("fd56:494e:4902::"))  # a /64 each
SPACE = 1 << 22  # loopbacks, and links, that the IPv4 ranges above have room for
LAN_BLOCKS = 1 << 14  # /24s that LANs have room for
LAN_BLOCK = 256  # addresses
INDEX_SPACE = 1 << 24


def digest(*parts: str) -> int:
    """64 bits that depend on all parts and on the borders between them."""
    return int.from_bytes(blake2b("\0".join(parts).encode(), digest_size=8).digest(), "big")


def place(
    names: Iterable[str], space: int, hash_of: Callable[[str], int], first: int = 0, given: Iterable[int] = ()
) -> dict[str, int]:
    """Give each name its own number in first..space-1 that is not in `given`, as long as there are enough.

    A name keeps it whatever names join later, bar collisions.
    """
    taken: dict[str, int] = {}
    used = set(given)
    for h, name in sorted((hash_of(n), n) for n in set(names)):
        at = first + h % (space - first)
        while at in used:
            at = first + (at + 1 - first) % (space - first)
        used.add(at)
        taken[name] = at
    return taken


def loopbacks(slivers: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Sliver name -> its IPv4 /32 and IPv6 /128."""
    at = place(slivers, SPACE, lambda n: digest("loopback", n), first=1)
    return {n: (_v4(LOOPBACKS_V4 + i) + "/32", _v6(LOOPBACKS_V6 + i) + "/128") for n, i in at.items()}


def link_addresses(links: Iterable[str]) -> dict[str, tuple[tuple[str, str], tuple[str, str]]]:
    """Link name -> (IPv4 /31, IPv6 /127) of its first and of its second end."""
    at = place(links, SPACE, lambda n: digest("link", n))
    out = {}
    for name, i in at.items():
        v4, v6 = LINKS_V4 + 2 * i, LINKS_V6 + 2 * i
        out[name] = tuple((_v4(v4 + k) + "/31", _v6(v6 + k) + "/127") for k in (0, 1))
    return out  # type: ignore[return-value]


def lan_span(members: int) -> int:
    """How many addresses a LAN has: at least twice as many as it needs, so that few hosts collide, and a /24."""
    return max(LAN_BLOCK, 1 << (2 * members + 3).bit_length())


def lan_networks(members: Mapping[str, int]) -> dict[str, tuple[str, str]]:
    """LAN name -> its IPv4 and its IPv6 network, by how many members each has; without those that find no room.

    The largest are placed first: so each is aligned, and all room is used before one finds none.
    """
    blocks = {name: lan_span(n) // LAN_BLOCK for name, n in members.items()}
    out, used = {}, set[int]()
    for size, h, name in sorted((-size, digest("lan", name), name) for name, size in blocks.items()):
        size, slots = -size, LAN_BLOCKS // -size
        tries = (h % slots + i for i in range(slots))
        at = next((t % slots * size for t in tries if t % slots * size not in used), None)
        if at is not None:
            used.update(range(at, at + size))
            v4, length = _v4(LANS_V4 + at * LAN_BLOCK), 32 - (size * LAN_BLOCK).bit_length() + 1
            out[name] = f"{v4}/{length}", _v6(LANS_V6 + (at << 64)) + "/64"
    return out


def _v4(number: int) -> str:
    return str(IPv4Address(number))  # f"{...}" takes 5 us longer


def _v6(number: int) -> str:
    return str(IPv6Address(number))


def vif(peer: str) -> str:
    """`to-<peer>`; a longer one is cut and closed with a hash, so that it stays unique and stable."""
    name = f"to-{peer}"
    return name if len(name) <= 15 else f"{name[:10]}.{digest('vif', peer) % 16**4:04x}"


def mac(slice_: str, sliver: str, dev: str) -> str:
    """A locally administered unicast MAC of slice, sliver and vif: stitched slices never share one."""
    return "02:" + (digest("mac", slice_, sliver, dev) & 0xFFFFFFFFFF).to_bytes(5, "big").hex(":")


def link_local(mac: str) -> str:
    """The link-local address that the kernel makes of a MAC address (RFC 4291, appendix A), without prefix length."""
    m = bytes.fromhex(mac.replace(":", ""))
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + bytes([m[0] ^ 2]) + m[1:3] + b"\xff\xfe" + m[3:]))


def indexes(devs: Iterable[str], slice_: str, sliver: str) -> dict[str, int]:
    """Vif name -> interface index, unique in its sliver; 1 is lo, small ones are left to the user's own."""
    return place(devs, INDEX_SPACE, lambda d: digest("index", slice_, sliver, d), first=1 << 16)


def canonical(cidr: str) -> str:
    """An interface address as the kernel prints it; ValueError where it is none."""
    return str(IPv6Interface(cidr) if ":" in cidr else IPv4Interface(cidr))


def slug(text: str) -> str:
    """The nearest valid sliver name: "São Paulo (GRU)" -> "sao-paulo-gru"; "" when nothing is left."""
    ascii_ = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_).strip("-")[:40].strip("-")
