"""What a slice's nodes are to hold, by all that is known of the testbed: places, quotas, leases, tunnels, grants."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial

from msgspec.structs import replace

from vini import bandwidth, placement
from vini.bandwidth import Pair
from vini.central import admission
from vini.embed import embed
from vini.model import CapacityError, Node, OutsideGrant, SliceSpec, Topology, Unsupported
from vini.plugins.tunnels import TunnelKind, kind_of
from vini.rules import mesh, quota, strangers, underlay
from vini.rules.nouns import Lease, NodeRow, SliceRow
from vini.rules.substrate import Substrate
from vini.store import calendar, initscripts, latencies, nodes, outside, sites, specs, substrate, takings, tunnels
from vini.store.database import Tx


class Embedding:
    """Of one testbed's slices.  `tunnel`, `strangers`: as `testbed.Testbed` is given them."""

    def __init__(self, clock: Callable[[], float], tunnel: TunnelKind, strangers: bool):
        self._clock, self._tunnel, self._strangers = clock, tunnel, strangers

    def settled(self, topology: Topology) -> Topology:
        """With what its slivers are where they don't say."""
        return strangers.settled(topology) if self._strangers else topology

    def embedded(
        self,
        tx: Tx,
        topology: Topology,
        generation: int,
        row: SliceRow,
        before: Topology,
        held: dict[str, SliceSpec],
        at: float,
    ) -> dict[str, SliceSpec]:
        """The specs of the nodes that hold some of it, from that time on; `before` was asked for until then.  It is our
        turn (`takings.turn`)."""
        if not topology.slivers:
            tunnels.give_back(tx, topology.name)
            return {}
        if self._strangers:
            strangers.check(topology)
        topology = replace(topology, tunnel=topology.tunnel or self._tunnel)
        site = sites.get(tx, row.site)
        others = takings.others(tx, site.id, row.id)
        quota.check(row.shown, site, others, quota.taken(topology, {}))
        ahead, there = calendar.ahead(tx, at), {n for n, s in held.items() if s.objects}
        ends = calendar.stays(ahead, topology.name, row.expires, at, there)
        able, below, placed = self._placed(tx, topology, before, placement.places(held), ends, ahead, at, row.expires)
        quota.check(row.shown, site, others, quota.taken(topology, placed))
        quota.check_bounded(site, bandwidth.unbounded(topology, placed))
        crossing = placement.crossing(topology, placed)
        if self._strangers:
            strangers.check_between(crossing, kind_of(topology))
        vnis = tunnels.lease(tx, topology.name, crossing)
        port = tunnels.lease_port(tx, topology.name, wanted=bool(crossing) and kind_of(topology) == "wireguard")
        own = underlay.taken(topology, placed, below.measured, held)
        topology = initscripts.resolved(tx, topology, placed)
        granted = grant_of(tx, topology)
        never = nodes.addresses(tx) if granted else ()
        made = embed(
            topology, able, generation, placed=placed, vnis=vnis, port=port, underlay=own, grant=granted, never=never
        )
        mine = {n: below.marked(s) for n, s in made.items() if s.objects}
        return {n: replace(s, expires=ends.get(n, row.expires)) for n, s in mine.items()}

    def _placed(
        self,
        tx: Tx,
        topology: Topology,
        before: Topology,
        held: Mapping[str, str],
        ends: Mapping[str, float],
        ahead: Mapping[str, Sequence[Lease]],
        at: float,
        expires: float,
    ) -> tuple[list[Node], Substrate, dict[str, str]]:
        """Nodes that may be given something, those of the slice among them; what is known of the substrate there; and
        each sliver's node.

        A change mostly leaves all slivers where they are: then only their nodes are looked at, and the ways between
        them, however many there are.
        """
        settled = placement.as_before(before, topology)

        def among(names: Collection[str] | None) -> tuple[list[Node], Substrate, dict[str, str]]:
            rows = nodes.all(tx) if names is None else nodes.named(tx, names)
            able = admission.unleased(topology, _able(rows), ends, ahead, at, expires)
            there = {node.name for node in able}
            below = substrate.picture(tx, mesh.one_way(latencies.all(tx, self._clock(), there)))
            used = specs.used(tx, topology.name, names)
            place = partial(placement.place, topology, able, used, held, below.distances(there), settled)
            placed = place()
            below.check_delays(topology, placed, held, settled, there)
            others = substrate.others(tx, topology.name) if below.links else {}
            try:
                below.check(topology, placed, others)
            except CapacityError as full:
                if names is not None:
                    raise
                stays = {name: node for name, node in held.items() if placed.get(name) == node}
                placed = _around(place, below, topology, others, full, stays)
                below.check_delays(topology, placed, held, settled, there)
            return able, below, placed

        staying = placement.staying(topology, held)
        if staying is not None:
            with suppress(CapacityError, Unsupported):  # who looks at all nodes finds another, or can say what is full
                able, below, placed = among(frozenset(staying.values()))
                if placed == staying:
                    return able, below, placed
        return among(None)


def _around(
    place: Callable[..., dict[str, str]],
    below: Substrate,
    topology: Topology,
    others: Mapping[Pair, float],
    full: CapacityError,
    stays: Mapping[str, str],
) -> dict[str, str]:
    """Where slivers are if links go only where the network below carries them; `full` says where it does not.

    Those in `stays` run where they can go on: they are not moved, since what is in them would be lost.
    """
    try:
        placed = place(carrying=below.carrying(others))
        below.check(topology, placed, others)
    except (CapacityError, Unsupported) as e:
        raise full from e  # it names what is full, by how much, and what fits
    if not stays.items() <= placed.items():
        raise full
    return placed


def grant_of(tx: Tx, topology: Topology) -> OutsideGrant | None:
    """What its slice may do in the world, where it asks for any of that."""
    return outside.get(tx, topology.name) if any(s.outside for s in topology.slivers.values()) else None


def _able(rows: Sequence[NodeRow]) -> list[Node]:
    """The nodes that may be given something."""
    able = [row.node for row in rows if row.boot_state == "boot"]
    if rows and not able:
        first = next((row for row in rows if row.boot_state != "reinstall"), rows[0]).node.name
        raise CapacityError(
            "All nodes of this testbed are drained, disabled or to be installed anew, so none may be given slivers; "
            f"`vini nodes` shows which, and `vini node enable {first}` lets that one have some again."
        )
    if not able:
        raise CapacityError(
            "No node of this testbed may be given slivers; let a machine join it: `vini node token`, `vini node join`, "
            "or look at `vini nodes`."
        )
    return able
