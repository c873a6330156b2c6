"""Quotas: how much of a testbed a slice may have, and all slices of a site together."""

from __future__ import annotations

from vini.model import CapacityError, Value
from vini.rules.nouns import Site, Slice


class Taken(Value, frozen=True):
    """What slices have, or ask for."""

    cores: float = 0.0
    memory_mib: int = 0
    link_mbit: float = 0.0

    def __add__(self, other: Taken) -> Taken:
        return Taken(self.cores + other.cores, self.memory_mib + other.memory_mib, self.link_mbit + other.link_mbit)


def most_slivers(row: Slice, site: Site) -> int:
    """How many slivers a slice may have: its own quota, else its site's; 0: any number."""
    return row.max_slivers or site.max_slivers


def check(row: Slice, site: Site, slivers: int, others: Taken, asked: Taken) -> None:
    """Raises CapacityError, with the quota and by how much it is exceeded; `others` are the site's other slices."""
    most = most_slivers(row, site)
    if 0 < most < slivers:
        raise CapacityError(f"Slice {row.name!r} may have {most} slivers, and this asks for {slivers}.")
    total = others + asked
    for field, unit in (("cores", "cores"), ("memory_mib", "MiB of memory"), ("link_mbit", "Mbit/s of links")):
        quota, wanted = getattr(site, field), getattr(total, field)
        if 0 < quota < wanted:
            raise CapacityError(
                f"Site {site.login_base!r} may have {quota:g} {unit}, and with slice {row.name!r} it would have "
                f"{wanted:g}; ask for less, end another slice of the site, or ask an admin for more."
            )
