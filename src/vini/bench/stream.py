"""Numbered datagrams over links that must not notice an edit elsewhere: every one lost is counted.

`python -m vini.bench.stream RATE NETNS,NETNS,ADDRESS ...` sends from the first namespace to ADDRESS in
the second, RATE datagrams per second over each link, from the line "running" until its standard input
ends; then it prints how many left and how many arrived, a pair per link.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from vini.model import Value
from vini.node import netns

_PORT = 5001
_ROOM = 8 << 20  # bytes of receive buffer: a reader that is kept from the processor loses nothing
_SO_RCVBUFFORCE = 33
_STRAGGLERS_S = 0.5


class Count(Value, frozen=True):
    """Datagrams of one link."""

    sent: int
    received: int


class Stream:
    """Both ends of one link's datagrams, in one process, so that one clock and one count serve both."""

    def __init__(self, sender: Path, receiver: Path, address: str):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with netns.inside(receiver):
            self._receiver = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
            self._receiver.bind((address, _PORT))
        with netns.inside(sender):
            self._sender = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._sender.connect((address, _PORT))
        self._sent = 0
        self._seen: set[int] = set()

    def send(self) -> None:
        """One datagram; one that the kernel refuses is as lost as one dropped on the way."""
        self._sent += 1
        with suppress(OSError):
            self._sender.send(self._sent.to_bytes(8, "big"))

    def receive(self) -> None:
        """All that has arrived."""
        with suppress(BlockingIOError):
            while True:
                self._seen.add(int.from_bytes(self._receiver.recv(64), "big"))

    def count(self) -> Count:
        """So far."""
        return Count(self._sent, len(self._seen))


def run(streams: list[Stream], rate: float) -> list[Count]:
    """Send at an even pace until standard input ends."""
    print("running", flush=True)
    due = time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        for stream in streams:
            stream.send()
        for stream in streams:
            stream.receive()
        due += 1 / rate
    time.sleep(_STRAGGLERS_S)
    for stream in streams:
        stream.receive()
    return [stream.count() for stream in streams]


def main(argv: list[str]) -> None:
    """See above."""
    streams = []
    for spec in argv[1:]:
        sender, receiver, address = spec.split(",")
        streams.append(Stream(Path(sender), Path(receiver), address))
    counts = run(streams, float(argv[0]))
    os.write(1, msgspec.json.encode(counts))


if __name__ == "__main__":
    main(sys.argv[1:])
