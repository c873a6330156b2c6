"""Both ends of a measurement and what is between them, in a sliver: `python3 -I round_trips.py ROLE WORDS...`.

    echo PORT                            sends each datagram back
    relay PORT ADDRESS PORT              hands datagrams on, and answers back: a forwarder in user space
    ask ADDRESS PORT COUNT INTERVAL_MS   prints the round trip of each in ms, null for those that never came
    sink PORT                            reads whatever TCP brings
    fill ADDRESS PORT SECONDS            prints what TCP carried in that time, Mbit/s

Nothing of ours is imported: it runs by the sliver's own Python.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

_LATE_S = 1.0  # what takes longer is lost


def echo(port: int) -> None:
    """For ever."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("", port))
        while True:
            data, who = s.recvfrom(2048)
            s.sendto(data, who)


def relay(port: int, address: str, to: int) -> None:
    """For ever; one asker at a time."""
    near, far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    near.bind(("", port))
    asker = None
    while True:
        for ready in select.select([near, far], [], [])[0]:
            data, who = ready.recvfrom(2048)
            if ready is near:
                asker = who
                far.sendto(data, (address, to))
            elif asker:
                near.sendto(data, asker)


def ask(address: str, port: int, count: int, interval_ms: float) -> list[float | None]:
    """One after the other, at equal distances where the answers come in time."""
    out: list[float | None] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.connect((address, port))
        s.settimeout(_LATE_S)
        for number in range(count):
            time.sleep(interval_ms / 1000)
            sent = time.perf_counter()
            out.append(_answer(s, number, sent))
    return out


def _answer(s: socket.socket, number: int, sent: float) -> float | None:
    wanted = number.to_bytes(4, "big")
    try:
        s.send(wanted + bytes(60))
        while s.recv(2048)[:4] != wanted:  # one that came too late
            if time.perf_counter() - sent > _LATE_S:
                return None
    except OSError:
        return None
    return 1000 * (time.perf_counter() - sent)


def sink(port: int) -> None:
    """For ever, one connection after the other."""
    with socket.create_server(("", port)) as server:
        while True:
            with server.accept()[0] as s:
                while s.recv(1 << 16):
                    pass


def fill(address: str, port: int, seconds: float) -> float:
    """What the other end has acknowledged: at the end nothing waits to be sent any more."""
    sent, block = 0, bytes(1 << 14)
    with socket.create_connection((address, port), _LATE_S) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17)
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            sent += s.send(block)
        s.shutdown(socket.SHUT_WR)
        s.settimeout(10.0)
        s.recv(1)  # the end, which comes when all has been read
        return sent * 8e-6 / (time.perf_counter() - started)


def main(role: str, *words: str) -> None:
    """One of the roles."""
    match role:
        case "echo":
            echo(int(words[0]))
        case "relay":
            relay(int(words[0]), words[1], int(words[2]))
        case "sink":
            sink(int(words[0]))
        case "ask":
            print(json.dumps(ask(words[0], int(words[1]), int(words[2]), float(words[3]))))
        case "fill":
            print(json.dumps(fill(words[0], int(words[1]), float(words[2]))))


if __name__ == "__main__":
    main(*sys.argv[1:])
