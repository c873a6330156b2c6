"""What is wanted of a node's links while paths to other nodes have failed.  Pure.

A link mirrors what it rides on: when the path between two nodes fails, every link on it loses its carrier at both ends,
as by `fault: carrier`.  The kernel tells routing daemons so at once; a file in the sliver's directory tells why.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from msgspec.structs import replace

from vini.model import AnyObject, File, Interface, Key, Ride, Route, SliceSpec, SliverStatus, Tunnel, Way

NOTICE = "failed-links"  # a line for each: the link, its vif here, and why
_Vif = tuple[str, str]  # namespace and device


def paths(spec: SliceSpec) -> dict[_Vif, Way]:
    """What each of its links rides on, of those that mirror it."""
    if not spec.rides:
        return {}
    riding = {(r.ns, r.dev): r.way for r in spec.rides}
    found = {at: way for at, way in riding.items() if way}
    tunnels = (o for o in spec.objects if isinstance(o, Tunnel))
    return found | {at: (o.local, o.remote) for o in tunnels if (at := (o.ns, o.dev)) in riding.keys() - found.keys()}


def mirrored(spec: SliceSpec, failed: Collection[Way]) -> frozenset[AnyObject]:
    """What is wanted now: no carrier where the path failed, and no route that would stand on it.

    Where another neighbour of a host could stand in for the one that it sends all by, that is so now.
    """
    fallen = _fallen(spec, failed)
    if not fallen:
        return spec.objects
    down = {(r.ns, r.dev) for r in fallen}
    lost = {o.key for o in spec.objects if isinstance(o, Route) and (o.ns, o.dev) in down}
    out = {_without_carrier(o) if _is_of(o, down) else o for o in spec.objects if o.key not in lost}
    return frozenset(out.union(_standing_in(spec, lost, down), _notices(spec, fallen)))


def faults(spec: SliceSpec, failed: Collection[Way]) -> dict[str, dict[str, str]]:
    """Namespace -> its links that failed, and why; both ends of a link say the same."""
    out: dict[str, dict[str, str]] = {}
    for ride in _fallen(spec, failed):
        out.setdefault(ride.ns, {})[ride.link] = _why(spec, ride)
    return out


def told(rows: Iterable[SliverStatus], specs: Iterable[SliceSpec], failed: Collection[Way]) -> list[SliverStatus]:
    """The same rows, with what failed in each sliver."""
    of = {ns: found for spec in specs for ns, found in faults(spec, failed).items()}
    return [replace(row, faults=of[row.sliver]) if row.sliver in of else row for row in rows]


def concerned(specs: Iterable[SliceSpec], changed: Collection[Way]) -> set[str]:
    """The namespaces with links on these paths."""
    return {ns for ns, _ in riding(specs, changed)}


def riding(specs: Iterable[SliceSpec], ways: Collection[Way]) -> set[tuple[str, str]]:
    """The links on these paths, each with the namespace of its end here."""
    return {(ride.ns, ride.link) for spec in specs for ride in _on(spec, ways)}


def _fallen(spec: SliceSpec, failed: Collection[Way]) -> list[Ride]:
    """What failed with its path, and what an operator took down."""
    on = set(_on(spec, failed))
    return [r for r in spec.rides if r.down or r in on]


def _on(spec: SliceSpec, ways: Collection[Way]) -> list[Ride]:
    if not ways or not spec.rides:
        return []
    on = paths(spec)
    return [r for r in spec.rides if on.get((r.ns, r.dev)) in ways]


def _is_of(o: AnyObject, down: Collection[_Vif]) -> bool:
    return isinstance(o, Interface) and (o.ns, o.dev) in down


def _without_carrier(o: AnyObject) -> AnyObject:
    return replace(o, up=False)


def _standing_in(spec: SliceSpec, lost: Collection[Key], down: Collection[_Vif]) -> Iterator[Route]:
    found: set[Key] = set()
    for spare in spec.spares:
        if spare.key in lost and spare.key not in found and (spare.ns, spare.dev) not in down:
            found.add(spare.key)
            yield spare


def _notices(spec: SliceSpec, fallen: Iterable[Ride]) -> Iterator[File]:
    lines: dict[str, list[str]] = {}
    for r in fallen:
        lines.setdefault(r.ns, []).append(f"{r.link}\t{r.dev}\t{_why(spec, r)}\n")
    for ns, of_it in lines.items():
        yield File(ns, NOTICE, "".join(sorted(of_it)))


def _why(spec: SliceSpec, ride: Ride) -> str:
    one, other = sorted((spec.node, ride.node))
    return ride.down or f"the path between nodes {one} and {other} is down"
