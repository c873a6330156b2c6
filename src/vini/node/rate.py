"""How often each of many may do something: a token bucket for each (ITU-T I.371)."""

from __future__ import annotations

from collections import OrderedDict

_REMEMBERED = 10_000


class Rate:
    """Pure, but for that it remembers: `now` is an argument, in s of any clock that does not go back."""

    def __init__(self, burst: float, per_second: float):
        self._burst, self._per_second = burst, per_second
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # who -> tokens, and when

    def takes(self, who: str, now: float) -> bool:
        """Whether he may do it now, once."""
        tokens, then = self._left.pop(who, (self._burst, now))
        tokens = min(self._burst, tokens + (now - then) * self._per_second)
        self._left[who] = (tokens - 1 if tokens >= 1 else tokens, now)
        while len(self._left) > _REMEMBERED:  # who was here longest ago has all his tokens again, or soon
            self._left.popitem(last=False)
        return tokens >= 1
