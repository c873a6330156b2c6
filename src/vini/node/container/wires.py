"""What VINI's own wires (netem) hold of a sliver's packets, which is not the sliver's doing."""

from __future__ import annotations

from collections.abc import Mapping

from vini.model import Shape, SliceSpec
from vini.node.container.queues import USUAL_PACKET

_BIG, _FASTEST_KBIT = 1500, 10**6  # bytes; a wire without a rate carries as much as that for nothing


def room(o: Shape) -> int:
    """Bytes that the usual packets take that such a wire may hold: on their way, and in its queue.

    Without what a table of jitter adds: it is in a file.
    """
    lasts_us = o.delay_us + 4 * o.jitter_us
    on_their_way = (o.rate_kbit or _FASTEST_KBIT) * lasts_us // (8000 * _BIG)
    return (on_their_way + o.queue_packets + 1) * USUAL_PACKET


def wanted(specs: Mapping[str, SliceSpec], ns: str) -> dict[str, int]:
    """Of the sliver `slice.sliver`: name of each interface at which a wire is wanted -> its room."""
    spec = specs.get(ns.partition(".")[0])
    shapes = [o for o in spec.objects if isinstance(o, Shape) and o.ns == ns and o.backend == "netem"] if spec else []
    return {o.dev: room(o) for o in shapes}
