"""The generic netlink messages of WireGuard (linux/wireguard.h, linux/genetlink.h), and how an interface is made.

Functions from values to bytes and back; nothing here touches a socket.
"""

from __future__ import annotations

import socket
import struct
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address

from msgspec import structs

from vini.model import Value, WireguardPeer
from vini.node import netlink as nl
from vini.node.place import GROUP
from vini.node.rtnl import SeenLink

NO_KEY = b64encode(bytes(32)).decode()  # of an interface that was given none yet
_IFNAME, _LINKINFO, _IFGROUP, _NS_FD, _INFO_KIND = 3, 18, 27, 28, 1
_CONTROL, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2  # GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_...
_GET_DEVICE, _SET_DEVICE = 0, 1
# Attributes of a device, of a peer, and of a prefix that is allowed to one.
_DEV_NAME, _PRIVATE_KEY, _PUBLIC_KEY, _PORT, _PEERS = 2, 3, 4, 6, 8
_PEER_KEY, _PRESHARED, _PEER_FLAGS, _ENDPOINT, _ALLOWED = 1, 2, 3, 4, 9
_FAMILY, _IP, _LENGTH = 1, 2, 3
_REMOVE, _REPLACE_ALLOWED = 1, 2
_PEERS_AT_ONCE = 200  # so that a message stays below the 64 KiB of an attribute
_LINK_BODY = struct.Struct("=BxHiII")  # family, type, index, flags, change
_GENERIC = struct.Struct("=BBH")  # command, version, reserved


class SeenPeer(Value, frozen=True):
    """A peer, and the port of its endpoint; `plain`: all else of it is as we make it."""

    peer: WireguardPeer
    port: int
    plain: bool


class SeenWireguard(Value, frozen=True):
    """An interface's own settings."""

    public_key: str
    port: int
    peers: tuple[SeenPeer, ...]  # by key


def add(fd: int, dev: str) -> bytes:
    """Make an interface in the namespace `fd`, with our mark; its socket will be in that of the netlink socket that
    this is sent by."""
    body = _LINK_BODY.pack(0, 0, 0, 0, 0) + nl.text(_IFNAME, dev) + nl.u32(_IFGROUP, GROUP) + nl.u32(_NS_FD, fd)
    return nl.message(nl.NEWLINK, nl.CREATE | nl.EXCL, body + nl.nest(_LINKINFO, nl.text(_INFO_KIND, "wireguard")))


def is_one(link: SeenLink) -> bool:
    """Whether it is of this kind."""
    return nl.attributes(link.info, 0).get(_INFO_KIND, b"") == b"wireguard\0"


def get_family() -> bytes:
    """Ask for the number that WireGuard's messages have on this machine."""
    body = _GENERIC.pack(_GET_FAMILY, 1, 0) + nl.text(_FAMILY_NAME, "wireguard")
    return nl.message(_CONTROL, 0, body)


def seen_family(message: bytes) -> int:
    """Decode the answer; 0: the kernel has no WireGuard."""
    return int.from_bytes(nl.attributes(message, 20).get(_FAMILY_ID, b""), "little")


def dump(family: int, dev: str) -> bytes:
    """Ask for the settings of one interface."""
    return nl.message(family, nl.DUMP, _GENERIC.pack(_GET_DEVICE, 1, 0) + nl.text(_DEV_NAME, dev))


def seen(messages: Iterable[bytes]) -> SeenWireguard:
    """Decode all messages that answered."""
    public_key, port = NO_KEY, 0
    peers: dict[str, SeenPeer] = {}
    for message in messages:
        a = nl.attributes(message, 20)
        public_key = b64encode(a[_PUBLIC_KEY]).decode() if _PUBLIC_KEY in a else public_key
        port = int.from_bytes(a[_PORT], "little") if _PORT in a else port
        for nest in _each(a.get(_PEERS, b"")):
            peer = _peer(nl.attributes(nest, 0))
            in_parts = peer.peer.public_key in peers  # as one that is allowed many prefixes may come
            peers[peer.peer.public_key] = structs.replace(peer, plain=peer.plain and not in_parts)
    return SeenWireguard(public_key, port, tuple(peers[key] for key in sorted(peers)))


def _peer(a: dict[int, bytes]) -> SeenPeer:
    allowed = [nl.attributes(nest, 0) for nest in _each(a.get(_ALLOWED, b""))]
    address = str(ip_address(allowed[0][_IP])) if allowed else ""
    endpoint = a.get(_ENDPOINT, b"")
    peer = WireguardPeer(b64encode(a[_PEER_KEY]).decode(), address, _seen_endpoint(endpoint))
    plain = [p[_LENGTH] for p in allowed] == [b"\x20"] and not any(a.get(_PRESHARED, b""))
    return SeenPeer(peer, int.from_bytes(endpoint[2:4], "big"), plain)


def _each(nests: bytes) -> Iterator[bytes]:
    """The values of attributes in a row, which all have the same number."""
    at = 0
    while at + 4 <= len(nests):
        length = int.from_bytes(nests[at : at + 2], "little")
        if length < 4:
            break
        yield nests[at + 4 : at + length]
        at += (length + 3) & ~3


def _seen_endpoint(raw: bytes) -> str:
    """Of a struct sockaddr_in or sockaddr_in6."""
    four = raw[:2] == struct.pack("=H", socket.AF_INET)
    return str(ip_address(raw[4:8] if four else raw[8:24])) if raw else ""


def _endpoint(address: str, port: int) -> bytes:
    ip = ip_address(address)
    if ip.version == 4:
        return struct.pack("=H", socket.AF_INET) + port.to_bytes(2, "big") + ip.packed + bytes(8)
    return struct.pack("=H", socket.AF_INET6) + port.to_bytes(2, "big") + bytes(4) + ip.packed + bytes(4)


def change(
    family: int, dev: str, key: bytes, port: int, peers: Sequence[WireguardPeer], gone: Sequence[str]
) -> list[bytes]:
    """Set an interface's private key and port, and these of its peers; take away those that are gone.

    Peers that stay keep what they have agreed on: no packet is lost.
    """
    first = nl.attribute(_PRIVATE_KEY, key) + nl.attribute(_PORT, port.to_bytes(2, "little"))
    nests = [_changed(peer, port) for peer in peers] + [_removed(public_key) for public_key in gone]
    parts = [nests[at : at + _PEERS_AT_ONCE] for at in range(0, len(nests), _PEERS_AT_ONCE)]
    return [_set(family, dev, first), *(_set(family, dev, nl.nest(_PEERS, *part)) for part in parts)]


def _set(family: int, dev: str, attributes: bytes) -> bytes:
    return nl.message(family, 0, _GENERIC.pack(_SET_DEVICE, 1, 0) + nl.text(_DEV_NAME, dev) + attributes)


def _changed(peer: WireguardPeer, port: int) -> bytes:
    allowed = nl.nest(
        0,
        nl.attribute(_FAMILY, struct.pack("=H", socket.AF_INET)),
        nl.attribute(_IP, ip_address(peer.address).packed),
        nl.attribute(_LENGTH, b"\x20"),
    )
    return nl.nest(
        0,
        nl.attribute(_PEER_KEY, b64decode(peer.public_key)),
        nl.attribute(_PRESHARED, bytes(32)),
        nl.u32(_PEER_FLAGS, _REPLACE_ALLOWED),
        nl.attribute(_ENDPOINT, _endpoint(peer.endpoint, port)),
        nl.nest(_ALLOWED, allowed),
    )


def _removed(public_key: str) -> bytes:
    return nl.nest(0, nl.attribute(_PEER_KEY, b64decode(public_key)), nl.u32(_PEER_FLAGS, _REMOVE))
