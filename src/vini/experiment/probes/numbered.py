"""Numbered packets and their times: `numbered.py echo|send|receive ...`, run by itself inside a sliver.

It imports nothing of ours, so that it starts in milliseconds and any node's Python runs its text.  Times are ns of
CLOCK_MONOTONIC, which every namespace of one machine shares; between machines one-way delays would need synchronised
clocks, loss and gaps would not.  What arrives has the kernel's stamp, by which our own scheduling is no delay.
All print first "c WALL NOW", what both clocks show, CLOCK_REALTIME and that one; and go on until SIGINT.

echo SOURCE DESTINATION EVERY_S SIZE      an ICMP echo series; prints
    s NUMBER SENT                         an echo request left
    x NUMBER SENT ERROR                   the kernel refused to send it
    r NUMBER ARRIVED TTL                  its reply came
    u NUMBER ARRIVED ROUTER               a router says that it can't be delivered (RFC 792, types 3 and 11)
send SOURCE DESTINATION PORT RATE SIZE    a UDP stream; prints "NUMBER SENT" for each datagram
receive ADDRESS PORT                      prints "ready", then "NUMBER SENT ARRIVED" for each

Not ping(8): where the kernel refuses to send (no route, vif down), ping neither counts nor prints anything, so an
outage at the source itself would be invisible; and a lost echo's sending time would be a guess.
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
STAMP = struct.Struct("!QQ")  # number, sending time in ns
TIMESPEC = struct.Struct("qq")  # SCM_TIMESTAMPNS: s, ns of CLOCK_REALTIME at the kernel's receipt
SO_TIMESTAMPNS = 35
FLUSH_S = 0.2
SURE_NS = 20_000


class Ended(Exception):
    """SIGINT or SIGTERM came."""


def _end(*_: object) -> None:
    raise Ended


# --- two clocks -------------------------------------------------------------------------------


def ahead() -> tuple[int, int]:
    """How unsure, and by how much CLOCK_REALTIME is ahead of CLOCK_MONOTONIC, ns: one may be put aside in between."""
    before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
    return after - before, wall - (before + after) // 2


def ahead_at_first() -> int:
    return min(ahead() for _ in range(9))[1]


def ahead_now(last: int) -> int:
    unsure, found = ahead()
    return found if unsure < SURE_NS else last


def received(sock: socket.socket, by: int) -> tuple[bytes, int, str]:
    """A packet, when it arrived (ns), and from where; `by`: see `ahead`."""
    packet, ancillary, _, sender = sock.recvmsg(65536, 64)
    arrived = time.monotonic_ns()
    for level, kind, stamp in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
            seconds, nanos = TIMESPEC.unpack(stamp[: TIMESPEC.size])
            arrived = seconds * 10**9 + nanos - by
    return packet, arrived, sender[0]


# --- echoes -----------------------------------------------------------------------------------


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


def echo(source: str, destination: str, every_s: float, size: int) -> None:
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
                    answer(*received(sock, by), identifier, number)
            packet = request(identifier, number, size)
            now = time.monotonic_ns()
            try:
                sock.sendto(packet, (destination, 0))
                print("s", number, now, flush=True)
            except OSError as e:
                print("x", number, now, errno.errorcode.get(e.errno or 0, "unknown"), flush=True)
            number += 1


def answer(packet: bytes, arrived: int, sender: str, identifier: int, number: int) -> None:
    """Print what came, where it answers one of those before this number."""
    if found := understand(packet, identifier, number - 1):
        what, answered, ttl = found
        print(what, answered, arrived, ttl if what == "r" else sender, flush=True)


# --- a stream ---------------------------------------------------------------------------------


def send(source: str, destination: str, port: int, rate: float, size: int) -> None:
    """Send at an even pace kept against the clock: a late datagram does not delay those after it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        padding = bytes(size - STAMP.size)
        start, number, flushed = time.monotonic_ns(), 0, time.monotonic()
        print("c", start + ahead_at_first(), start)
        while True:
            due = start + int(number * 1e9 / rate)
            if (early := due - time.monotonic_ns()) > 0:
                time.sleep(early / 1e9)
            now = time.monotonic_ns()
            # No route, or the vif is gone: that datagram is as lost as one dropped on the way.
            with contextlib.suppress(OSError):
                sock.sendto(STAMP.pack(number, now) + padding, (destination, port))
            sys.stdout.write(f"{number} {now}\n")
            number += 1
            if now / 1e9 - flushed > FLUSH_S:
                sys.stdout.flush()
                flushed = now / 1e9


def receive(address: str, port: int) -> None:
    """Print what arrives."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.bind((address, port))
        by, now = ahead_at_first(), time.monotonic_ns()
        print("c", now + by, now)
        print("ready", flush=True)
        flushed = time.monotonic()
        while True:
            if select.select([sock], [], [], FLUSH_S)[0]:
                by = ahead_now(by)
                packet, arrived, _ = received(sock, by)
                if len(packet) >= STAMP.size:
                    number, sent = STAMP.unpack_from(packet)
                    sys.stdout.write(f"{number} {sent} {arrived}\n")
            if time.monotonic() - flushed > FLUSH_S:
                sys.stdout.flush()
                flushed = time.monotonic()


def main(what: str, *words: str) -> None:
    signal.signal(signal.SIGINT, _end)
    signal.signal(signal.SIGTERM, _end)
    with contextlib.suppress(Ended):
        if what == "echo":
            echo(words[0], words[1], float(words[2]), int(words[3]))
        elif what == "send":
            send(words[0], words[1], int(words[2]), float(words[3]), int(words[4]))
        else:
            receive(words[0], int(words[1]))
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
