"""The silent fault at a vif's way in: what its peer sends is dropped there.

The sender drops it too, at its own way out.  But a packet socket may pass by all that is there (packet(7),
PACKET_QDISC_BYPASS), and nothing passes by the receiver's hook but what runs before it: XDP, which is refused at shaped
links, and who listens by a packet socket.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from errno import EINVAL, ENODEV, ENOENT

from vini.model import Gate, Shape
from vini.node import bpf, tc
from vini.node.drivers import Failures
from vini.node.drivers.there import There

GONE = frozenset({ENOENT, ENODEV, EINVAL})  # EINVAL: no clsact there


class Silence:
    """Holds the loaded program, so that a vif costs no load."""

    def __init__(self) -> None:
        self._drop = -1

    def ensure(self, there: There, shapes: Sequence[Shape]) -> Failures:
        """Drop what comes in by the vifs whose Shape drops, and by no other of them."""
        silent = [(o, there.indexes[o.dev]) for o in shapes if o.drop]
        requests = [
            (o, r)
            for o, index in silent
            for r in (
                tc.add_clsact(index),
                tc.set_filter(index, self._program(), bpf.DROP, tc.INGRESS, tc.SHAPED_PRIORITY),
            )
        ]
        return there.apply(requests) | end(there, [o for o in shapes if not o.drop])

    def _program(self) -> int:
        if self._drop < 0:
            self._drop = bpf.load(bpf.DROP)
        return self._drop

    def __del__(self) -> None:
        if self._drop >= 0:
            os.close(self._drop)


def end(there: There, shapes: Sequence[Shape]) -> Failures:
    """Let in what comes by these vifs; the hooks stay."""
    here = [(o, there.indexes[o.dev]) for o in shapes if o.dev in there.indexes]
    return there.apply([(o, tc.delete_filter(i, tc.INGRESS, tc.SHAPED_PRIORITY)) for o, i in here], GONE)


def is_at(there: There, index: int) -> bool:
    """Whether what comes in by that vif is dropped."""
    found = tc.filters(there.socket, index, tc.INGRESS)
    return any(f.priority == tc.SHAPED_PRIORITY and f.name == bpf.DROP for f in found)


def without_hooks(there: There, objects: Sequence[Shape] | Sequence[Gate]) -> Failures:
    """Take away the hooks of these vifs, but where somebody else's filters are."""
    here = [(o, there.indexes[o.dev]) for o in objects if o.dev in there.indexes]
    unused = [(o, i) for o, i in here if not tc.is_used(there.socket, i)]
    return there.apply([(o, tc.delete_clsact(i)) for o, i in unused], GONE)
