"""Quotas: how much of a testbed a slice may have, and all slices of a site together."""

from __future__ import annotations

from collections.abc import Mapping

from vini import bandwidth, placement
from vini.model import CapacityError, Topology
from vini.rules.nouns import Row, Site, Slice

_NEGLIGIBLE = 1e-6  # what sums of decimal fractions are wrong by


class Taken(Row, frozen=True):
    """What slices have, or ask for."""

    slivers: int = 0
    cores: float = 0.0
    memory_mib: float = 0.0
    link_mbit: float = 0.0  # of links between nodes: only those take something of the network
    vnis: int = 0  # one for each such link
    disk_mb: float = 0.0  # of disks and volumes

    def __add__(self, other: Taken) -> Taken:
        return Taken(*(getattr(self, f) + getattr(other, f) for f in self.__struct_fields__))


_UNITS = (("slivers", "slivers"), ("cores", "cores"), ("memory_mib", "MiB of memory"),
          ("link_mbit", "Mbit/s of links between nodes"), ("vnis", "links between nodes (VNIs)"),
          ("disk_mb", "MB of disk"))  # fmt: skip


def taken(topology: Topology, placed: Mapping[str, str]) -> Taken:
    """What a slice takes of its site's quota; before it is placed (nothing is in `placed`) no links are counted."""
    every = placement.Use()
    for sliver in topology.slivers.values():
        every += placement.cost(sliver)
    apart = bandwidth.crossing(topology, placed) if placed else {}
    vnis = len(bandwidth.between(topology, placed)) if placed else 0
    mbit = round(sum(apart.values()), 6)
    return Taken(len(topology.slivers), round(every.cores, 6), round(every.memory_mib, 6), mbit, vnis, every.disk_mb)


def most_slivers(row: Slice, site: Site) -> int:
    """How many slivers a slice may have: its own quota, else its site's; 0: any number."""
    return row.max_slivers or site.max_slivers


def check(row: Slice, site: Site, others: Taken, asked: Taken) -> None:
    """Raises CapacityError, with each quota that is exceeded and by how much; `others` are the site's other slices."""
    most = most_slivers(row, site)
    if 0 < most < asked.slivers:
        raise CapacityError(
            f"Slice {row.name!r} may have {most} slivers, and this asks for {asked.slivers}; ask for less, or an admin "
            "for more."
        )
    full = [text for field, unit in _UNITS if (text := _excess(field, unit, site, others, asked))]
    if full:
        raise CapacityError(
            f"Site {site.login_base!r} has no room for this in its quota: {'; '.join(full)}. "
            "Ask for less, end another slice of the site, or ask an admin for more."
        )


def check_bounded(site: Site, unbounded: list[str]) -> None:
    """Raises CapacityError where links between nodes say no rate though the site's are bounded."""
    if site.link_mbit and unbounded:
        raise CapacityError(
            f"Site {site.login_base!r} may have {site.link_mbit:g} Mbit/s of links between nodes, and link "
            f"{unbounded[0]!r} says no rate{_and_more(unbounded)}; write `rate:`, or keep its slivers on one node."
        )


def _excess(field: str, unit: str, site: Site, others: Taken, asked: Taken) -> str:
    most, has, more = (getattr(x, field) for x in (site, others, asked))
    if not most or has + more <= most + _NEGLIGIBLE:
        return ""
    return (
        f"of {most:g} {unit} its other slices have {has:g}, and this asks for {more:g}, {has + more - most:g} too many"
    )


def _and_more(names: list[str]) -> str:
    return f" (nor do {len(names) - 1} others)" if len(names) > 1 else ""
