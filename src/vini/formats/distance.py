"""How long light needs between two places."""

from __future__ import annotations

import math

from vini.model import Place

EARTH_RADIUS_KM = 6371.0088  # mean radius, IUGG
FIBRE_KM_PER_S = 200_000.0  # light in glass, about 2/3 of its speed in vacuum


def great_circle_km(a: Place, b: Place) -> float:
    """The shortest way over a sphere of the Earth's mean radius, km (haversine formula)."""
    lat_a, lat_b = math.radians(a.latitude), math.radians(b.latitude)
    half_lat, half_lon = (lat_b - lat_a) / 2, math.radians(b.longitude - a.longitude) / 2
    h = math.sin(half_lat) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, h)))


def fibre_delay_ms(a: Place, b: Place) -> float:
    """One-way delay of a fibre laid along the great circle, ms, rounded to 0.01 ms; a lower bound on a real path's."""
    return round(great_circle_km(a, b) / FIBRE_KM_PER_S * 1000, 2)
