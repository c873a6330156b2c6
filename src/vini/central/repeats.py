"""Keeps a log short: what was just said is not said again, however many find the same thing wrong."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

QUIET_S = 60.0  # after which it is said again, and how often it would have been meanwhile
_MOST = 1000  # sentences that are remembered


class Repeats(logging.Filter):
    """For a handler: of a database that is away, a thousand connections have the same to say, again and again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        super().__init__()
        self._clock = clock
        self._said: dict[
            tuple[str, str], tuple[float, int]
        ] = {}  # sentence and exception -> when, and how often it was left out since

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is new."""
        now, text = self._clock(), record.getMessage()
        of = (text, repr(record.exc_info[1]) if record.exc_info else "")
        at, left_out = self._said.get(of, (-math.inf, 0))
        if now - at < QUIET_S:
            self._said[of] = (at, left_out + 1)
            return False
        if left_out:
            record.msg, record.args = f"{text} ({left_out} times more in the {now - at:.0f} s since that was said)", ()
        if len(self._said) >= _MOST:
            self._said = {t: said for t, said in self._said.items() if now - said[0] < QUIET_S}
        self._said[of] = (now, 0)
        return True
