"""Times on the command line."""

from __future__ import annotations

import math
from typing import Any

import click

_LONGEST_S = 604_800.0  # a week: more is a slip of the finger


class Seconds(click.FloatRange):
    """A number of seconds, `least` to `most`, and so not NaN either, which every comparison lets pass."""

    name = "seconds"

    def __init__(self, least: float = 0.0, most: float = _LONGEST_S):
        super().__init__(least, most)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Fails with the range where it is none."""
        found: float = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value!r} is not in the range {self.min:g}<=x<={self.max:g}.", param, ctx)
        return found
