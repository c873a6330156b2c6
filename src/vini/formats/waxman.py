"""Waxman's random graph (B. M. Waxman, Routing of multipoint connections, IEEE JSAC 6(9), 1988)."""

from __future__ import annotations

import math
from itertools import combinations
from random import Random

from vini.formats.components import Components


def waxman(n: int, alpha: float, beta: float, seed: int) -> list[tuple[int, int]]:
    """Pairs of a connected random graph of `n` points thrown into a unit square.

    Two points at distance d are joined with probability alpha * exp(-d / (beta * L)), where L is
    the square's diagonal (BRITE's use of the letters; Waxman's own has them swapped).  Parts that
    chance left apart are then joined by the shortest pairs between them.
    """
    random = Random(seed)  # random() of the Mersenne Twister is the same on every Python
    points = [(random.random(), random.random()) for _ in range(n)]
    scale = beta * math.sqrt(2)
    parts = Components(n)
    chosen, others = [], []
    for a, b in combinations(range(n), 2):
        distance = math.dist(points[a], points[b])
        if random.random() < alpha * math.exp(-distance / scale):
            chosen.append((a, b))
            parts.join(a, b)
        else:
            others.append((distance, a, b))
    if parts.count > 1:
        chosen += [(a, b) for _, a, b in sorted(others) if parts.join(a, b)]
    return sorted(chosen)
