"""The floor: a line of routers made by netlink written by hand, and nothing else.

`python -m vini.bench.floor COUNT MARK` makes the same kernel objects that `up` makes for the line of
`line:COUNT`, takes them away, and prints how long each took.  It keeps no record, checks for nothing
that is already there, and could not mend what it made; it is what the machine itself costs.

It shares no code with the drivers, so that a slow driver can't slow it too.  It does the same
operations in the fastest order we know: each namespace is entered once, when it is made, and keeps a
netlink socket from then on; pairs are born in their namespaces; all requests to one namespace leave
in one send, of which only the last is acknowledged (an error is reported all the same).

Sysctls are written through a procfs of its own, a fresh one every 32 namespaces: in the shared one the
directories /proc/sys/net/ipv4 of all namespaces have one parent and one name, so that they hang on one
chain of the kernel's dentry hash, which the first look into each namespace walks (0.25 ms with 1000).
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys
import time
from ipaddress import IPv6Address
from pathlib import Path

import msgspec

from vini.model import Value

_CLONE_NEWNET, _MS_BIND, _MNT_DETACH = 0x40000000, 1 << 12, 2
_NEWLINK, _NEWADDR, _ERROR = 16, 20, 2
_REQUEST, _ACK, _EXCL, _CREATE = 1, 4, 0x200, 0x400
_UP, _NODAD = 1, 2
_GROUP, _PROTOCOL = 0x56494E49, 86
_PAIRS_AT_A_TIME = 200
_NAMESPACES_PER_PROCFS = 32
_FSOPEN, _FSCONFIG, _FSMOUNT, _FSCONFIG_CREATE = 430, 431, 432, 6  # one number on all architectures: fsopen(2)
_SYSCTLS = (
    ("ipv6/conf/all/accept_dad", b"0"),
    ("ipv6/conf/default/accept_dad", b"0"),
    ("ipv6/conf/all/keep_addr_on_down", b"1"),
    ("ipv6/conf/default/keep_addr_on_down", b"1"),
    ("ipv6/conf/default/accept_ra", b"0"),
    ("ipv4/conf/all/rp_filter", b"0"),
    ("ipv4/conf/default/rp_filter", b"0"),
    ("ipv4/conf/all/send_redirects", b"0"),
    ("ipv4/conf/default/send_redirects", b"0"),
    ("ipv6/conf/default/accept_redirects", b"0"),
    ("ipv4/fib_multipath_hash_policy", b"1"),
    ("ipv4/ping_group_range", b"0 2147483647"),
    ("ipv4/ip_forward", b"1"),
    ("ipv6/conf/all/forwarding", b"1"),
)
_libc = ctypes.CDLL(None, use_errno=True)


class FloorTimes(Value, frozen=True):
    """Seconds: a line made, and taken away as far as the caller must wait for it."""

    up_s: float
    down_s: float


class Netns:
    """One namespace while the floor works on it."""

    def __init__(self, path: bytes, procfs: int):
        self.path = path
        self.socket = _make_netns(path, procfs)
        self.fd = os.open(path, os.O_RDONLY)
        self.requests: list[bytes] = []

    def close(self) -> None:
        """Let go of it; it stays as long as it is pinned."""
        self.socket.close()
        os.close(self.fd)


def _check(result: int | bool) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _open_procfs() -> int:
    """A mount of procfs that nobody else sees."""
    context = _libc.syscall(_FSOPEN, b"proc", 0)
    _check(context < 0)
    _check(_libc.syscall(_FSCONFIG, context, _FSCONFIG_CREATE, None, None, 0))
    mount = _libc.syscall(_FSMOUNT, context, 0, 0)
    _check(mount < 0)
    os.close(context)
    return int(mount)


def _make_netns(path: bytes, procfs: int) -> socket.socket:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY, 0o444))
    _check(_libc.unshare(_CLONE_NEWNET))
    _check(_libc.mount(b"/proc/self/ns/net", path, b"none", _MS_BIND, None))
    for name, value in _SYSCTLS:
        fd = os.open("sys/net/" + name, os.O_WRONLY, dir_fd=procfs)
        os.write(fd, value)
        os.close(fd)
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)


def _attribute(kind: int, value: bytes) -> bytes:
    n = 4 + len(value)
    return struct.pack("=HH", n, kind) + value + b"\0" * (-n & 3)


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags | _REQUEST, 0, 0) + body


def _send(sock: socket.socket, requests: list[bytes]) -> None:
    """All in one send, the last acknowledged; raises what the kernel says first."""
    last = bytearray(requests[-1])
    struct.pack_into("=H", last, 6, struct.unpack_from("=H", last, 6)[0] | _ACK)
    sock.send(b"".join(requests[:-1]) + last)
    reply = sock.recv(1 << 16)
    kind, errno = struct.unpack_from("=H", reply, 4)[0], struct.unpack_from("=i", reply, 16)[0]
    if kind != _ERROR or errno:
        raise OSError(-errno, os.strerror(-errno))


def _end(fd: int, dev: bytes, index: int, mac: bytes) -> bytes:
    return (
        struct.pack("=BxHiII", 0, 0, index, 0, 0)
        + _attribute(3, dev + b"\0")  # IFLA_IFNAME
        + _attribute(1, mac)  # IFLA_ADDRESS
        + struct.pack("=HHIHHI", 8, 27, _GROUP, 8, 28, fd)  # IFLA_GROUP, IFLA_NET_NS_FD
    )


def _pair(a: bytes, b: bytes) -> bytes:
    veth = _attribute(1, b"veth\0") + _attribute(2 | 0x8000, _attribute(1, b))  # INFO_KIND, INFO_DATA(VETH_INFO_PEER)
    return _message(_NEWLINK, _CREATE | _EXCL, a + _attribute(18 | 0x8000, veth))  # IFLA_LINKINFO


def _set_up(dev: bytes, mtu: int, alias: bytes) -> bytes:
    body = struct.pack("=BxHiII", 0, 0, 0, _UP, _UP) + _attribute(3, dev + b"\0")
    return _message(_NEWLINK, 0, body + struct.pack("=HHI", 8, 4, mtu) + _attribute(20, alias + b"\0"))


def _address(index: int, family: int, packed: bytes, length: int) -> bytes:
    body = struct.pack("=BBBBI", family, length, 0, 0, index) + _attribute(2, packed) + _attribute(1, packed)
    return _message(_NEWADDR, _CREATE, body + struct.pack("=HHI", 8, 8, _NODAD) + _attribute(11, bytes([_PROTOCOL])))


def _both(index: int, v4: int, v4_length: int, v6: int, v6_length: int) -> list[bytes]:
    return [
        _address(index, socket.AF_INET, v4.to_bytes(4, "big"), v4_length),
        _address(index, socket.AF_INET6, v6.to_bytes(16, "big"), v6_length),
    ]


def make(count: int, prefix: str) -> list[bytes]:
    """A line of `count` routers in namespaces `<prefix>r1`...; the paths that pin them.

    Leaves this process in the last of them.
    """
    v6 = int(IPv6Address("fd56:494e:4900::"))
    routers = _make_routers(count, prefix)
    for i, router in enumerate(routers):
        router.requests = [_set_up(b"lo", 65536, b"vini netns/" + router.path[11:])]
        router.requests += _both(1, (10 << 24) + (192 << 16) + i + 1, 32, v6 + i + 1, 128)
    pairs = []
    for i, (a, b) in enumerate(zip(routers, routers[1:], strict=False)):
        pair_alias = b"vini veth/%s/right/%s/left" % (a.path[11:], b.path[11:])
        ends = []
        for k, (router, dev) in enumerate(((a, b"right"), (b, b"left"))):
            index = 70000 + 2 * i + k
            ends.append(_end(router.fd, dev, index, b"\2\1" + index.to_bytes(4, "big")))
            router.requests.append(_set_up(dev, 1500, pair_alias))
            router.requests += _both(index, (10 << 24) + 2 * i + k, 31, v6 + (1 << 80) + 2 * i + k, 127)
        pairs.append(_pair(*ends))
    for at in range(0, len(pairs), _PAIRS_AT_A_TIME):
        _send(routers[0].socket, pairs[at : at + _PAIRS_AT_A_TIME])
    for router in routers:
        _send(router.socket, router.requests)
        router.close()
    return [r.path for r in routers]


def _make_routers(count: int, prefix: str) -> list[Netns]:
    routers: list[Netns] = []
    while len(routers) < count:
        procfs = _open_procfs()
        for i in range(len(routers) + 1, min(len(routers) + _NAMESPACES_PER_PROCFS, count) + 1):
            routers.append(Netns(f"/run/netns/{prefix}r{i}".encode(), procfs))
        os.close(procfs)
    return routers


def take_away(paths: list[bytes]) -> None:
    """Unpin them: the kernel does the rest when it likes."""
    for path in paths:
        _check(_libc.umount2(path, _MNT_DETACH))
        os.remove(path)  # noqa: PTH107  # no Path in the measured time


def run(count: int, mark: str) -> FloorTimes:
    """Once up and down.  Leaves this process in a namespace that is gone: for a process of its own."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    Path("/run/netns").mkdir(exist_ok=True)
    started = time.perf_counter()
    paths = make(count, f"{mark}-floor.")
    up_s = time.perf_counter() - started
    _check(_libc.setns(home, _CLONE_NEWNET))
    started = time.perf_counter()
    take_away(paths)
    return FloorTimes(up_s, time.perf_counter() - started)


if __name__ == "__main__":
    print(msgspec.json.encode(run(int(sys.argv[1]), sys.argv[2])).decode())
