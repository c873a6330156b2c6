"""How far from what was asked is still the same, and from how many packets on one can tell.  Pure."""

from __future__ import annotations

from vini.model import Value

FEW = 20  # with fewer packets nothing is said about a delay
ENOUGH = 100  # from here on there is a 99th percentile to speak of
ENOUGH_SPREAD = 40  # and from here on a distribution
NOISE_FACTOR = 3.0  # the noise of a link's packets may be so many times that of the control's
# Of packets that the link element itself counts as late: with more nobody can tell a 99th percentile, or a median.
LAPSES_P99, LAPSES_MEDIAN = 0.01, 0.1
OTHERS_SHARE = 0.01  # of the rate: more of other people's packets hold up ours


class Tolerance(Value, frozen=True):
    """How far from what was asked is still the same."""

    median_ms: float = 0.1
    p99_ms: float = 1.0
    rate: float = 0.02
    spread: float = 0.01  # of the distance between distributions, beside what chance does
