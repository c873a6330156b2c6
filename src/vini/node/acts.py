"""When desired states were put in force here: what tells an experiment whether its nodes acted together."""

from __future__ import annotations

from collections import deque

from vini.bus import Act

KEPT = 1000  # of each slice, the newest
_SLICES = 200  # of which something is kept, those that acted last


class ActsTaken:
    """In memory only: who asks for more than the agent that runs now has seen is told nothing of it."""

    def __init__(self) -> None:
        self._of: dict[str, deque[Act]] = {}

    def add(self, slice_: str, act: Act) -> None:
        """Only once for each generation; of an older one there is nothing to tell."""
        of_it = self._of.pop(slice_, None) or deque(maxlen=KEPT)
        self._of[slice_] = of_it
        if not of_it or of_it[-1].generation < act.generation:
            of_it.append(act)
        if len(self._of) > _SLICES:
            del self._of[next(iter(self._of))]

    def after(self, slice_: str, generation: int) -> tuple[Act, ...]:
        """Those of higher generations, in their order."""
        return tuple(a for a in list(self._of.get(slice_, ())) if a.generation > generation)
