"""What slivers take of a node."""

from __future__ import annotations

from collections.abc import Mapping

from vini.model import Sliver, Topology, Value

NEGLIGIBLE = 1e-9  # what sums of decimal fractions are wrong by


class Use(Value, frozen=True):
    """What slivers take of a node."""

    cores: float = 0.0
    memory_mib: float = 0.0
    disk_mb: float = 0.0  # 10**6 bytes that are set apart
    mbit: float = 0.0  # 10**6 bit/s of its uplink that are a sliver's own

    def __add__(self, other: Use) -> Use:
        return Use(
            self.cores + other.cores, self.memory_mib + other.memory_mib, self.disk_mb + other.disk_mb,
            self.mbit + other.mbit,
        )  # fmt: skip

    def __mul__(self, times: float) -> Use:
        return Use(self.cores * times, self.memory_mib * times, self.disk_mb * times, self.mbit * times)

    def __str__(self) -> str:
        own = f"{self.mbit:g} Mbit/s of the uplink, " if self.mbit else ""
        disk = f", {self.disk_mb:g} MB of disk" if self.disk_mb else ""
        return f"{own}{self.memory_mib:g} MiB of memory{disk} and {self.cores:g} cores"


# What a sliver takes: the memory as measured, rounded up; of cores what its daemons take while routes change.
_BARE = Use(0.01, 1.0)  # a network namespace, or a container's first process
_FRR_DAEMON = Use(0.01, 6.0)  # zebra and ospfd 11.5 MiB, with bgpd and staticd 25
_DAEMON = Use(0.01, 2.0)  # BIRD 0.9 MiB
BIRD = _BARE + _DAEMON  # a sliver with nothing else
_COMMAND = Use(0.01, 4.0)  # while it runs
_PROGRAMS = {
    "elements": Use(0.05, 2.0),
    "c": Use(0.05, 2.0),
    "object": Use(0.05, 2.0),
    "process": Use(0.5, 8.0),  # packets pass through a process, which is busy with them
    "python": Use(0.5, 24.0),
}
_SOCKETS = Use(0.0, 30.0)  # who keeps them, and the memory of packets of two vifs


def cost(sliver: Sliver) -> Use:
    """What a sliver takes of its node, as far as the topology tells."""
    taken = _BARE
    for _ in sliver.commands:
        taken += _COMMAND
    if sliver.program is not None:
        taken += _PROGRAMS[sliver.program.kind]
        if sliver.program.af_xdp:
            taken += _SOCKETS
    routing = sliver.routing
    if routing is not None and (routing.raw or set(routing.protocols) - {"static"}):
        several = len(set(routing.protocols) - {"static"}) + 1 + routing.bfd if routing.daemon == "frr" else 0
        for _ in range(several):
            taken += _FRR_DAEMON
        if not several:
            taken += _DAEMON
    # What is reserved is taken whole, whether it is used or not.
    own = sliver.resources
    disk_mb = own.disk_mb + sum(bound.mb for bound in sliver.bounds.values())
    memory_mib = max(taken.memory_mib, round(own.memory_reserve_mb * 10**6 / 2**20, 6))
    return Use(max(taken.cores, own.reserve), memory_mib, disk_mb, sliver.network.min_mbit)


def use(topology: Topology, placed: Mapping[str, str]) -> dict[str, Use]:
    """What a slice takes of each node that it is on."""
    taken: dict[str, Use] = {}
    for name, node in placed.items():
        taken[node] = taken.get(node, Use()) + cost(topology.slivers[name])
    return taken
