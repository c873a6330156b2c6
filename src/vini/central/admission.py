"""Whether a slice may have what it asks for, beside the room on nodes: leases of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

from vini.model import CapacityError, Node, Topology
from vini.rules import leases as rules
from vini.rules.nouns import Lease
from vini.store import calendar


def unleased(
    topology: Topology, able: Sequence[Node], ends: Mapping[str, float], ahead: Mapping[str, Sequence[Lease]],
    at: float, expires: float,
) -> list[Node]:  # fmt: skip
    """The nodes on which the slice, which expires then, may be at that time: of those that others have leased, `ends`
    says until when (0: not at all).

    Raises CapacityError, with the nearest time that fits, where it is pinned to another one, or there is none.
    """
    for sliver in topology.slivers.values():
        if ends.get(sliver.node, 1.0) == 0.0:
            raise CapacityError(
                f"Sliver {sliver.name!r} is pinned to node {sliver.node!r}, which "
                f"{_leased(topology, ahead[sliver.node], at, expires)}; pin it to another node, remove `node:`, or "
                f"lease that one: `vini lease add {sliver.node} --slice {topology.name}`."
            )
    left = [node for node in able if ends.get(node.name, 1.0) > 0.0]
    if not left and able:
        opens = {n.name: _opens(topology, ahead[n.name], at, expires) for n in able}
        first = min(opens, key=lambda n: (opens[n], n))
        if opens[first] == inf:
            raise CapacityError(
                f"All nodes that may be given slivers are leased, and none is free again before this slice ends "
                f"({rules.moment(expires)}); renew it (`vini slice renew {topology.name}`), or lease a node: "
                f"`vini lease add NODE --slice {topology.name}`."
            )
        raise CapacityError(
            f"All nodes that may be given slivers are leased: the first that is free is {first!r}, which "
            f"{_leased(topology, ahead[first], at, expires)}; try then, or lease a node: "
            f"`vini lease add NODE --slice {topology.name}`."
        )
    return left


def _leased(topology: Topology, terms: Sequence[Lease], at: float, expires: float) -> str:
    """By whom, and from when on it is free."""
    first = next(t for t in terms if t.slice != topology.name)
    opens = _opens(topology, terms, at, expires)
    free = f"free from {rules.moment(opens)} on" if opens < inf else "not free again before this slice ends"
    return (
        f"slice {first.slice!r} has leased from {rules.moment(first.start)} to {rules.moment(first.end)}, and which is "
        f"{free}"
    )


def _opens(topology: Topology, terms: Sequence[Lease], at: float, expires: float) -> float:
    return rules.opens(at, expires, [calendar.busy(t) for t in terms if t.slice != topology.name])
