"""How long packets take to other nodes and back.

Several echo requests one after another, of which the least time counts: whatever waited in a queue says nothing of the
way.  When an answer came is told by the kernel (SO_TIMESTAMPNS, socket(7)), so that it does not matter when we run.
"""

from __future__ import annotations

import os
import random
import select
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import suppress

from vini.node import echo

PROBES = 4  # of each other node
_PATIENCE_S = 1.0  # for the answers to one request each
_PAUSE_S = 0.1  # before the next
_SO_TIMESTAMPNS = 35  # the option, and the kind of its message (asm-generic/socket.h)
_TIME = struct.Struct("@ll")  # struct timespec, by CLOCK_REALTIME
_STEP_S = 0.001  # a clock that was set by more than that while we measured tells nothing


def measure(local: str, peers: Mapping[str, str], patience_s: float = _PATIENCE_S) -> dict[str, float | None]:
    """Node -> round trip in ms from that address of ours, of other nodes by their addresses; None: nothing came back.

    Blocks for as long as the slowest takes: `PROBES` times `patience_s` at most, and the pauses.
    """
    try:
        own = echo.opened(local)
    except OSError:
        return dict.fromkeys(peers)
    with own:
        own.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        least: dict[str, float | None] = dict.fromkeys(peers)
        for probe in range(PROBES):
            if probe:
                time.sleep(_PAUSE_S)
            for node, ms in _once(own, local, peers, patience_s).items():
                before = least[node]
                least[node] = ms if before is None else min(ms, before)
    return least


def _once(own: socket.socket, local: str, peers: Mapping[str, str], patience_s: float) -> dict[str, float]:
    """One request to each.  It has a secret of its own, so no late answer to an earlier one is taken for its answer."""
    secret, identifier, version = os.urandom(8), random.randrange(1 << 16), echo.version_of(local)
    names, sent, ahead = sorted(peers), dict[int, float](), _ahead()
    for number, name in enumerate(names):
        with suppress(OSError):
            body = echo.request(version, identifier, number, secret)
            sent[number] = time.time()
            own.sendto(body, (peers[name], 0))
    came = _answers(own, version, identifier, secret, set(sent), patience_s)
    if abs(_ahead() - ahead) > _STEP_S:
        return {}
    return {names[n]: 1e3 * (at - sent[n]) for n, at in came.items() if at > sent[n]}


def _ahead() -> float:
    """Changes when the clock is set."""
    return time.time() - time.monotonic()


def _answers(
    own: socket.socket, version: int, identifier: int, secret: bytes, waiting: set[int], patience_s: float
) -> dict[int, float]:
    """Number -> when its answer came, Unix time, s."""
    came: dict[int, float] = {}
    ready, end = select.poll(), time.monotonic() + patience_s
    ready.register(own, select.POLLIN)
    while waiting - came.keys() and (left := end - time.monotonic()) > 0:
        ready.poll(1e3 * left)
        with suppress(OSError):  # what came back of one, such as that there is no such host
            while True:
                body, notes, _, _ = own.recvmsg(256, 128)
                number = echo.answered(body, version, identifier, secret)
                if number in waiting:
                    came.setdefault(number, _stamp(notes))
    return came


def _stamp(notes: list[tuple[int, int, bytes]]) -> float:
    stamps = [_TIME.unpack_from(b) for level, kind, b in notes if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS)]
    return stamps[0][0] + stamps[0][1] / 1e9 if stamps else time.time()
