"""What a pass did to links, slice by slice: what an experiment reads its events by."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from vini.model import Gate, Interface, Key, Op, Shape
from vini.plan import batches

_LINKS = (Interface, Shape, Gate)


class Made:
    """Follows a pass over `ops`, as its `Progress`.  A slice of which it changes no link is in neither."""

    def __init__(self, ops: Sequence[Op]):
        self.linked: dict[str, float] = {}  # slice -> when the last of what makes up its links was done, Unix time
        self.failed: dict[str, str] = {}  # slice -> why one of these was not; it is not in `linked` then
        self._links = [op for op in ops if isinstance(op.object, _LINKS)]
        self._batches = [_slices([op for op in b if isinstance(op.object, _LINKS)]) for b in batches(ops)]
        self._begun = 0  # of these

    def __call__(self, _: int, __: int, ___: str) -> None:
        """The next batch begins, or all are done."""
        if self._begun:
            self.linked |= dict.fromkeys(self._batches[self._begun - 1], time.time())
        self._begun += 1

    def end(self, failures: Mapping[Key, str]) -> None:
        """With what failed in it, by its keys."""
        for op in self._links:
            if why := next((failures[k] for k in (op.object.key, *op.object.on) if k in failures), ""):
                for slice_ in _slices([op]):
                    self.linked.pop(slice_, None)
                    self.failed.setdefault(slice_, why)


def _slices(ops: Sequence[Op]) -> set[str]:
    return {ns.partition(".")[0] for op in ops for ns in op.object.slivers}
