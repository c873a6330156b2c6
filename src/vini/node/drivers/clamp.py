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
_GONE = frozenset({0, ENOENT, ENODEV, EINVAL})  # EINVAL: no hooks there


def is_right(socket: Socket, index: int, mtu: int) -> bool:
    """Whether a tunnel of that MTU clamps as it should, or doesn't."""
    return _has(socket, index) == _due(mtu)


def _due(mtu: int) -> str:
    return segments.name(mtu) if mtu < ETHERNET_MTU else ""


def _has(socket: Socket, index: int) -> str:
    try:
        found = [tc.seen_filter(m) for m in socket.dump(tc.dump_filters(index, tc.EGRESS))]
    except OSError:  # no hooks at all
        return ""
    return next((f.name for f in found if f.priority == tc.CLAMP_PRIORITY and f.name), "")


def ensure(socket: Socket, tunnels: Mapping[int, int]) -> None:
    """Have tunnels, their MTUs by their indexes, clamp as they should.  OSError where the kernel refuses."""
    wrong = {index: mtu for index, mtu in tunnels.items() if not is_right(socket, index, mtu)}
    for mtu in set(wrong.values()):
        here = [index for index in wrong if wrong[index] == mtu]
        if not _due(mtu):
            _checked(socket, [tc.delete_filter(index, tc.EGRESS, tc.CLAMP_PRIORITY) for index in here], _GONE)
            continue
        program = segments.load(mtu)
        try:
            for index in here:
                put = tc.set_filter(index, program, _due(mtu), tc.EGRESS, tc.CLAMP_PRIORITY)
                _checked(socket, [tc.add_clsact(index), put], frozenset({0}))
        finally:
            os.close(program)


def _checked(socket: Socket, requests: list[bytes], allowed: frozenset[int]) -> None:
    for errno in socket.transact(requests):
        if errno not in allowed:
            raise OSError(errno, f"lowering TCP's segments to what fits: {os.strerror(errno)}")
