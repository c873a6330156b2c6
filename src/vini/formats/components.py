"""Connected components by union-find (Tarjan, 1975)."""

from __future__ import annotations


class Components:
    """The connected components of the vertices 0..n-1, as edges are joined one by one."""

    def __init__(self, n: int):
        self._parent = list(range(n))
        self.count = n

    def join(self, a: int, b: int) -> bool:
        """Add an edge; True when it connects two components that were apart."""
        a, b = self._root(a), self._root(b)
        if a == b:
            return False
        self._parent[b] = a
        self.count -= 1
        return True

    def _root(self, at: int) -> int:
        while self._parent[at] != at:
            self._parent[at] = self._parent[self._parent[at]]  # path halving
            at = self._parent[at]
        return at
