"""The directions of a topology's links, each with what was asked of it.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from vini.dataplane.probe import HEADER_BYTES, MOST_FRAME
from vini.layout import layout, link_name
from vini.model import Fault, Impairment, Link, Topology, Value
from vini.truth.meaning import does_anything


class Direction(Value, frozen=True):
    """From one vif to the other end of its link."""

    source: str
    vif: str
    destination: str
    peer_vif: str
    asked: Impairment
    fault: Fault = "none"
    smooths: bool = False  # its rate comes after its jitter, as netem's does
    most_frame: int = MOST_FRAME  # bytes that it carries, Ethernet header included


def directions(topology: Topology, links: Sequence[Link]) -> list[Direction]:
    """Both directions of these links, one after the other."""
    ends = layout(topology).ends
    return [
        Direction(
            vif.sliver, vif.dev, vif.peer, vif.peer_dev,
            link.ends[vif.end].impairment or link.impairment, link.fault,
            most_frame=min(MOST_FRAME, (link.mtu or MOST_FRAME) + HEADER_BYTES),
        )
        for link in links
        for vif in ends[link_name(link)]
    ]  # fmt: skip


def opposite(d: Direction, asked: Impairment) -> Direction:
    """The other direction of its link, of which this was asked."""
    return replace(
        d, source=d.destination, vif=d.peer_vif, destination=d.source, peer_vif=d.vif, asked=asked, smooths=False
    )


def is_opposite(d: Direction, other: Direction) -> bool:
    """Whether these two are one link."""
    return (d.source, d.vif, d.destination, d.peer_vif) == (other.destination, other.peer_vif, other.source, other.vif)


def to_measure(all_: Sequence[Direction]) -> list[Direction]:
    """Those that were asked to do anything to packets."""
    return [d for d in all_ if does_anything(d.asked) or d.fault != "none"]
