"""Which node each sliver is on.  Pure and deterministic."""

from __future__ import annotations

from collections.abc import Mapping

from vini.layout import link_name
from vini.model import Topology


def crossing(topology: Topology, placed: Mapping[str, str]) -> tuple[str, ...]:
    """The links that lead from one node to another, by name; each needs a tunnel's number."""
    return tuple(link_name(k) for k in topology.links if len({placed[e.sliver] for e in k.ends}) > 1)
