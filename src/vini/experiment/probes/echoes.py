"""An ICMP echo series: `echoes.py SOURCE DESTINATION EVERY_S SIZE`, run by itself inside a sliver.

Not ping(8): where the kernel refuses to send (no route, vif down), ping neither counts nor prints
anything, so an outage at the source itself would be invisible; and a lost echo's sending time
would be a guess.  It imports nothing of ours, so that it starts in milliseconds.

Prints, until SIGINT, times in ns of CLOCK_MONOTONIC:
    c WALL NOW               once, at first: what both clocks show, CLOCK_REALTIME and that one
    s NUMBER SENT            an echo request left
    x NUMBER SENT ERROR      the kernel refused to send it
    r NUMBER ARRIVED TTL     its reply came
    u NUMBER ARRIVED ROUTER  a router says that it can't be delivered (RFC 792, types 3 and 11)
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import struct
import sys
import time

ECHO, REPLY, UNREACHABLE, EXCEEDED = 8, 0, 3, 11
HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence
NUMBER = struct.Struct("!Q")
TIMESPEC = struct.Struct("qq")
SO_TIMESTAMPNS = 35
SURE_NS = 20_000


class Ended(Exception):
    """SIGINT or SIGTERM came."""


def _end(*_: object) -> None:
    raise Ended


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def request(identifier: int, number: int, size: int) -> bytes:
    """An echo request; its payload begins with the whole number, of which the header has 16 bits."""
    payload = NUMBER.pack(number) + bytes(size - NUMBER.size)
    blank = HEADER.pack(ECHO, 0, 0, identifier, number & 0xFFFF)
    return HEADER.pack(ECHO, 0, checksum(blank + payload), identifier, number & 0xFFFF) + payload


def understand(packet: bytes, identifier: int, last: int) -> tuple[str, int, int] | None:
    """("r" or "u", number, TTL) of an IPv4 packet that answers one of ours; None of any other."""
    icmp = packet[(packet[0] & 15) * 4 :]
    kind, _, _, answered, _ = HEADER.unpack_from(icmp)
    if kind == REPLY and answered == identifier and len(icmp) >= HEADER.size + NUMBER.size:
        return "r", NUMBER.unpack_from(icmp, HEADER.size)[0], packet[8]
    if kind not in (UNREACHABLE, EXCEEDED) or len(icmp) < 36:
        return None
    inner = icmp[8 + (icmp[8] & 15) * 4 :]
    if len(inner) < HEADER.size:
        return None
    kind, _, _, answered, sequence = HEADER.unpack_from(inner)
    if kind != ECHO or answered != identifier:
        return None
    return "u", last - ((last - sequence) & 0xFFFF), packet[8]


def ahead() -> tuple[int, int]:
    """How unsure, and by how much CLOCK_REALTIME is ahead of CLOCK_MONOTONIC, ns: one may be put aside in between."""
    before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
    return after - before, wall - (before + after) // 2


def ahead_at_first() -> int:
    return min(ahead() for _ in range(9))[1]


def ahead_now(last: int) -> int:
    unsure, found = ahead()
    return found if unsure < SURE_NS else last


def run(source: str, destination: str, every_s: float, size: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind((source, 0))
        identifier, number, start = os.getpid() & 0xFFFF, 0, time.monotonic_ns()
        by = ahead_at_first()
        print("c", start + by, start, flush=True)
        while True:
            due = start + int(number * every_s * 1e9)
            while (left := (due - time.monotonic_ns()) / 1e9) > 0:
                if select.select([sock], [], [], left)[0]:
                    by = ahead_now(by)
                    receive(sock, identifier, number, by)
            packet = request(identifier, number, size)
            now = time.monotonic_ns()
            try:
                sock.sendto(packet, (destination, 0))
                print("s", number, now, flush=True)
            except OSError as e:
                print("x", number, now, errno.errorcode.get(e.errno or 0, "unknown"), flush=True)
            number += 1


def receive(sock: socket.socket, identifier: int, number: int, by: int) -> None:
    """Print what came; the kernel's stamp is used, by which our own scheduling is no delay; `by`: see `ahead`."""
    packet, ancillary, _, sender = sock.recvmsg(65536, 64)
    arrived = time.monotonic_ns()
    for level, kind, stamp in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanos = TIMESPEC.unpack(stamp[: TIMESPEC.size])
            arrived = seconds * 10**9 + nanos - by
    if found := understand(packet, identifier, number - 1):
        what, answered, ttl = found
        print(what, answered, arrived, ttl if what == "r" else sender[0], flush=True)


def main(argv: list[str]) -> None:
    signal.signal(signal.SIGINT, _end)
    signal.signal(signal.SIGTERM, _end)
    with contextlib.suppress(Ended):
        run(argv[0], argv[1], float(argv[2]), int(argv[3]))


if __name__ == "__main__":
    main(sys.argv[1:])
