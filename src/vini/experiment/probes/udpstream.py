"""A numbered UDP stream: `udpstream.py send|receive ...`, run by itself inside a sliver.

It imports nothing of ours, so that it starts in milliseconds.  Each datagram carries its number
and its sending time, as CLOCK_MONOTONIC, which every namespace of one machine shares; between
machines one-way delays would need synchronised clocks, loss and gaps would not.

Both print first what two clocks show, CLOCK_REALTIME and that one: "c <wall ns> <now ns>".
send SOURCE DESTINATION PORT RATE SIZE    prints "<number> <sent ns>" for each datagram, until SIGINT
receive ADDRESS PORT                      prints "ready", then "<number> <sent ns> <arrived ns>" each, until SIGINT
"""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import struct
import sys
import time

STAMP = struct.Struct("!QQ")  # number, sending time in ns
TIMESPEC = struct.Struct("qq")  # SCM_TIMESTAMPNS: s, ns of CLOCK_REALTIME at the kernel's receipt
FLUSH_S = 0.2
SURE_NS = 20_000


class Ended(Exception):
    """SIGINT or SIGTERM came."""


def _end(*_: object) -> None:
    raise Ended


def ahead() -> tuple[int, int]:
    """How unsure, and by how much CLOCK_REALTIME is ahead of CLOCK_MONOTONIC, ns: one may be put aside in between."""
    before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
    return after - before, wall - (before + after) // 2


def ahead_at_first() -> int:
    return min(ahead() for _ in range(9))[1]


def ahead_now(last: int) -> int:
    unsure, found = ahead()
    return found if unsure < SURE_NS else last


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
    """Print what arrives; the kernel's stamp is used, so that our own scheduling does not count as delay."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
        sock.bind((address, port))
        by, now = ahead_at_first(), time.monotonic_ns()
        print("c", now + by, now)
        print("ready", flush=True)
        flushed = time.monotonic()
        while True:
            if select.select([sock], [], [], FLUSH_S)[0]:
                packet, ancillary, _, _ = sock.recvmsg(65536, 64)
                by = ahead_now(by)
                arrived = time.monotonic_ns()
                for level, kind, stamp in ancillary:
                    if level == socket.SOL_SOCKET and kind == 35:
                        seconds, nanos = TIMESPEC.unpack(stamp[: TIMESPEC.size])
                        arrived = seconds * 10**9 + nanos - by
                if len(packet) >= STAMP.size:
                    number, sent = STAMP.unpack_from(packet)
                    sys.stdout.write(f"{number} {sent} {arrived}\n")
            if time.monotonic() - flushed > FLUSH_S:
                sys.stdout.flush()
                flushed = time.monotonic()


def main(argv: list[str]) -> None:
    signal.signal(signal.SIGINT, _end)
    signal.signal(signal.SIGTERM, _end)
    with contextlib.suppress(Ended):
        if argv[0] == "send":
            send(argv[1], argv[2], int(argv[3]), float(argv[4]), int(argv[5]))
        else:
            receive(argv[1], int(argv[2]))
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
