"""Memory that sockets hold and that the kernel counts for no group (of the namespace that the thread is in).

Rings of packet sockets, by PACKET_RX_RING and PACKET_TX_RING (packet(7)), are pages that nothing binds; what tcpdump
needs is 2 MiB.  Packets that wait in sockets of these kinds are bounded for each socket, by what its buffer may have,
and not for all of them together; UDP is bound for what it has received, TCP for all.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from vini.node import netlink

_AF_PACKET, _HEADER = 17, 16  # the second: bytes of nlmsghdr
_SOCK_DIAG, _BY_FAMILY = 4, 20  # NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY
_ROOT_OR_MATCH = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_SHOW_RINGS, _SHOW_FANOUT, _SHOW_MEMORY = 1 << 2, 1 << 3, 1 << 4  # PACKET_SHOW_RING_CFG, ..., linux/packet_diag.h
_RINGS, _MEMORY = (2, 3), 6  # PACKET_DIAG_RX_RING, PACKET_DIAG_TX_RING, PACKET_DIAG_MEMINFO
_FANOUT, _OF_FANOUT = 4, 1 << 19  # PACKET_DIAG_FANOUT, which begins with its number; bytes of one for 65,536 sockets
_RECEIVED, _SENT = 0, 2  # SK_MEMINFO_RMEM_ALLOC, SK_MEMINFO_WMEM_ALLOC, linux/sock_diag.h
_REQUEST, _ANSWER, _RING = struct.Struct("=BBHIIII"), struct.Struct("=BBHIII"), struct.Struct("=II")
_NET = Path("/proc/thread-self/net")
_MOST_NETLINK_BYTES = 1 << 23  # some 80,000 sockets
_RAW, _ICMP = ("raw", "raw6"), ("icmp", "icmp6")
_UDP = ("udp", "udp6", "udplite", "udplite6")


def by_rings(spared: Collection[int] = ()) -> tuple[int, int]:
    """Bytes of the rings of all packet sockets but those with a spared inode, with the tables by which some of them
    share what comes (PACKET_FANOUT), and of what waits in such sockets."""
    with suppress(OSError):  # a kernel that can't tell (CONFIG_PACKET_DIAG)
        if len((_NET / "packet").read_text().splitlines()) > 1:  # its heading
            body = _REQUEST.pack(_AF_PACKET, 0, 0, 0, _SHOW_RINGS | _SHOW_FANOUT | _SHOW_MEMORY, 0, 0)
            with netlink.Socket(_SOCK_DIAG) as asked:
                told = [
                    netlink.attributes(a, _HEADER + _ANSWER.size)
                    for a in asked.dump(_message(body))
                    if _ANSWER.unpack_from(a, _HEADER)[3] not in spared
                ]
            fanouts = {told_of[_FANOUT][:2] for told_of in told if _FANOUT in told_of}
            return sum(map(_rings, told)) + _OF_FANOUT * len(fanouts), sum(map(_waiting, told))
    return 0, 0


def _message(body: bytes) -> bytes:
    return netlink.message(_BY_FAMILY, _ROOT_OR_MATCH, body)


def _rings(told: dict[int, bytes]) -> int:
    return sum(size * number for size, number in (_RING.unpack_from(told[kind]) for kind in _RINGS if kind in told))


def _waiting(told: dict[int, bytes]) -> int:
    memory = memoryview(told.get(_MEMORY, b"")).cast("I")
    return memory[_RECEIVED] + memory[_SENT] if len(memory) > _SENT else 0


def by_others() -> int:
    """Bytes that wait in raw sockets, and in those of UDP to be sent."""
    there = _there()
    both = sum(_inet(filter(there.__contains__, _RAW), received=True)) + sum(_inet(_ICMP, received=True))
    return both + sum(_inet(filter(there.__contains__, _UDP), received=False))


def _there() -> set[str]:
    """Kinds of which there are some: a table of UDP costs time also where it is empty."""
    rows = [row.split() for file in ("sockstat", "sockstat6") for row in _lines(file)]
    return {row[0].rstrip(":").lower() for row in rows if row[1] == "inuse" and row[2] != "0"}


def _lines(file: str) -> list[str]:
    try:
        return (_NET / file).read_text().splitlines()
    except FileNotFoundError:  # no IPv6 in this kernel
        return []


def by_netlink() -> int | None:
    """Bytes that wait in sockets of netlink; None where there are so many that they are not all looked at.

    The kernel walks those of all namespaces, each time: so this is asked seldom.
    """
    total, left = 0, _MOST_NETLINK_BYTES
    with (_NET / "netlink").open() as table:
        for line in islice(table, 1, None):
            left -= len(line)
            if left < 0:
                return None
            row = line.split()
            total += int(row[4]) + int(row[5])  # the columns Rmem and Wmem
    return total


def _inet(files: Iterable[str], *, received: bool) -> Iterator[int]:
    """The column tx_queue:rx_queue, hexadecimal."""
    for file in files:
        for row in _rows(file):
            sent, _, waits = row[4].partition(":")
            yield int(sent, 16) + (int(waits, 16) if received else 0)


def _rows(file: str) -> Iterator[list[str]]:
    with suppress(FileNotFoundError), (_NET / file).open() as table:
        next(table, None)
        yield from map(str.split, table)
