"""What the network between nodes still carries, as far as operators say what its links do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf

from vini.placement.uses import NEGLIGIBLE

Over = Callable[[str, str], Sequence[str]]  # the bounded links of the substrate between two nodes, by name


class Carrying:
    """What is left of the substrate's bounded links while a slice is placed."""

    def __init__(self, over: Over, free: Mapping[str, float]):
        self._over, self._free = over, dict(free)  # Mbit/s, by link

    def copy(self) -> Carrying:
        """One that may be taken from without changing this one."""
        return Carrying(self._over, self._free)

    def take(self, node: str, others: Iterable[tuple[str, float]], times: int = 1) -> None:
        """A sliver comes to a node, or (-1) leaves it, whose links lead to these nodes, with so many Mbit/s."""
        for below, mbit in self._asked(node, others).items():
            if mbit < inf:  # else it is pinned, and refused in the end
                self._free[below] -= times * mbit

    def holds(self, node: str, others: Iterable[tuple[str, float]]) -> bool:
        """Whether it could come there.  What says no rate could only where nothing is bounded."""
        return all(mbit <= self._free[below] + NEGLIGIBLE for below, mbit in self._asked(node, others).items())

    def _asked(self, node: str, others: Iterable[tuple[str, float]]) -> dict[str, float]:
        asked: dict[str, float] = {}
        for other, mbit in others:
            for below in self._over(node, other) if other != node else ():
                asked[below] = asked.get(below, 0.0) + mbit
        return asked
