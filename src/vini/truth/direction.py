"""The directions of a topology's links, each with what was asked of it.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

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


def directions(topology: Topology, links: Sequence[Link]) -> list[Direction]:
    """Both directions of these links, one after the other."""
    ends = layout(topology).ends
    return [
        Direction(
            vif.sliver, vif.dev, vif.peer, vif.peer_dev,
            link.ends[vif.end].impairment or link.impairment, link.fault,
        )
        for link in links
        for vif in ends[link_name(link)]
    ]  # fmt: skip


def to_measure(all_: Sequence[Direction]) -> list[Direction]:
    """Those that were asked to do anything to packets."""
    return [d for d in all_ if does_anything(d.asked) or d.fault != "none"]
