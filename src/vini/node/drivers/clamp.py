"""MSS clamping at tunnels whose MTU is less than Ethernet's, in the namespace that the calling thread is in.

The filter's name has the MTU that it is for, so that one that is for another is seen.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from errno import EINVAL, ENODEV, ENOENT

from vini.node import segments, tc
from vini.node.netlink import Socket

ETHERNET_MTU = 1500
_KEPT = 8  # programs
_GONE = frozenset({0, ENOENT, ENODEV, EINVAL})  # EINVAL: no hooks there
_DOING = "lowering TCP's segments to what fits"


def is_right(socket: Socket, index: int, mtu: int) -> bool:
    """Whether a tunnel of that MTU clamps as it should, or doesn't."""
    return _has(socket, index) == _due(mtu)


def _due(mtu: int) -> str:
    return segments.name(mtu) if mtu < ETHERNET_MTU else ""


def _has(socket: Socket, index: int) -> str:
    return next((f.name for f in tc.filters(socket, index) if f.priority == tc.CLAMP_PRIORITY and f.name), "")


class Clamp:
    """Holds the loaded programs: to load one takes the kernel 10 ms, and nearly all tunnels have one MTU."""

    def __init__(self) -> None:
        self._programs: dict[int, int] = {}  # MTU -> descriptor

    def ensure(self, socket: Socket, tunnels: Mapping[int, int]) -> None:
        """Have tunnels, their MTUs by their indexes, clamp as they should.  OSError where the kernel refuses."""
        for index, mtu in tunnels.items():
            if is_right(socket, index, mtu):
                continue
            if due := _due(mtu):
                put = tc.set_filter(index, self._program(mtu), due, tc.EGRESS, tc.CLAMP_PRIORITY)
                socket.insist([tc.add_clsact(index), put], _DOING)
            else:
                socket.insist([tc.delete_filter(index, tc.EGRESS, tc.CLAMP_PRIORITY)], _DOING, _GONE)

    def _program(self, mtu: int) -> int:
        if mtu not in self._programs:
            if len(self._programs) >= _KEPT:
                os.close(self._programs.pop(next(iter(self._programs))))
            self._programs[mtu] = segments.load(mtu)
        return self._programs[mtu]

    def __del__(self) -> None:
        for program in self._programs.values():
            os.close(program)
