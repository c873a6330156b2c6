"""What is left of a node."""

from __future__ import annotations

from math import inf

from vini.model import Node
from vini.placement.uses import NEGLIGIBLE, Use
from vini.plugins.tunnels import TunnelKind, reach, within


class Room:
    """What is left of a node; not bounded where the node says 0."""

    def __init__(self, node: Node, used: Use, kind: TunnelKind):
        self.node, self.reach = node, reach(node, kind)
        self.within = within(node, kind)
        self._cores, self._memory = node.cores or inf, float(node.memory_mib) or inf
        self._disk = float(node.disk_mb) or inf
        self._used = used

    def take(self, cost: Use, times: int = 1) -> None:
        """A sliver comes, or (-1) goes."""
        self._used += cost * times

    def holds(self, cost: Use) -> bool:
        """Whether that has room."""
        used = self._used
        return (
            used.cores + cost.cores <= self._cores + NEGLIGIBLE
            and used.memory_mib + cost.memory_mib <= self._memory + NEGLIGIBLE
            and (not cost.disk_mb or used.disk_mb + cost.disk_mb <= self._disk + NEGLIGIBLE)
            and (not cost.mbit or used.mbit + cost.mbit <= self.node.rate_mbit + NEGLIGIBLE)
        )

    def lacks(self, cost: Use) -> Use:
        """By how much that is too much.  Of an uplink whose rate nobody said there is none to have."""
        after = self._used + cost
        disk = after.disk_mb - self._disk if cost.disk_mb else 0.0
        mbit = after.mbit - self.node.rate_mbit if cost.mbit else 0.0
        lacking = (after.cores - self._cores, after.memory_mib - self._memory, disk, mbit)
        return Use(*(round(x, 6) if x > NEGLIGIBLE else 0.0 for x in lacking))

    @property
    def load(self) -> float:
        """The share that is taken; of an unbounded node, how much."""
        cores, memory = self._used.cores, self._used.memory_mib
        return max(
            cores / (self._cores if self._cores < inf else 1000.0),
            memory / (self._memory if self._memory < inf else 1e6),
        )
