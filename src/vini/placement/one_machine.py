"""What one machine has for all slices together, where no central places them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vini.model import CapacityError, Topology
from vini.placement.uses import NEGLIGIBLE

_LEAST_KEPT = 256  # of memory, 10**6 bytes or MiB


def for_slivers(memory: int) -> int:
    """What slivers may be promised of so much memory: the rest is for the system and
    the agent.  A choice, not a measurement."""
    return max(0, memory - max(_LEAST_KEPT, memory // 10))


def check_reserved(topology: Topology, others: Callable[[], Iterable[Topology]], cores: int) -> None:
    """Raises CapacityError where slices together reserve more cores than one machine has; says by how much.

    The others are only asked for where the slice reserves any.
    """
    asked = _reserved(topology)
    has = sum(map(_reserved, others())) if asked else 0.0
    if asked and asked + has > cores + NEGLIGIBLE:
        raise CapacityError(
            f"This machine has {cores} cores, of which other slices have {has:g} reserved, and slice {topology.name!r} "
            f"reserves {asked:g}: {round(asked + has - cores, 6):g} too many; reserve less, or take another slice down."
        )


def check_own_rates(topology: Topology, others: Callable[[], Iterable[Topology]], rate_mbit: float) -> None:
    """The same of what slivers have of their own of one machine's uplink, which carries so much (0: nobody said)."""
    asked = _own_rates(topology)
    has = sum(map(_own_rates, others())) if asked and rate_mbit else 0.0
    if asked and rate_mbit and asked + has > rate_mbit + NEGLIGIBLE:
        raise CapacityError(
            f"This machine's uplink carries {rate_mbit:g} Mbit/s for slivers, of which other slices have {has:g} of "
            f"their own, and slice {topology.name!r} asks for {asked:g}: {round(asked + has - rate_mbit, 6):g} too "
            "much; write a smaller `min`, or take another slice down."
        )


def check_reserved_memory(topology: Topology, others: Callable[[], Iterable[Topology]], memory_mb: int) -> None:
    """The same of memory that slivers have of their own, 10**6 bytes, of a machine that has so much (`for_slivers`)."""
    asked, memory_mb = _reserved_mb(topology), for_slivers(memory_mb)
    has = sum(map(_reserved_mb, others())) if asked else 0
    if asked and asked + has > memory_mb:
        raise CapacityError(
            f"This machine has {memory_mb} MB of memory for slivers, of which other slices have {has} reserved, and "
            f"slice {topology.name!r} reserves {asked}: {asked + has - memory_mb} too many; write a smaller "
            "`memory_reserve`, or take another slice down."
        )


def _reserved_mb(topology: Topology) -> int:
    return sum(sliver.resources.memory_reserve_mb for sliver in topology.slivers.values())


def _own_rates(topology: Topology) -> float:
    return sum(sliver.network.min_mbit for sliver in topology.slivers.values())


def _reserved(topology: Topology) -> float:
    return sum(sliver.resources.reserve for sliver in topology.slivers.values())
