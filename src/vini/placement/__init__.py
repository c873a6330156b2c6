"""Which node each sliver is on.  Pure and deterministic.

A slice is on as few nodes as it fits on, beginning with the emptiest, so that few of its links lead from node to node:
the parts grow along links (Karypis and Kumar 1998, greedy graph growing), then slivers move or change places as long
as that leaves fewer such links (Fiduccia and Mattheyses 1982, without its hill climbing).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import chain
from math import inf

from vini import bandwidth
from vini.model import CapacityError, Netns, Node, SliceSpec, Topology, Unsupported, is_sliver
from vini.placement.board import Board
from vini.placement.carrying import Carrying
from vini.placement.choosing import best
from vini.placement.delays import Distances, as_before, asked_delay, too_far
from vini.placement.improving import improve
from vini.placement.one_machine import check_own_rates, check_reserved, check_reserved_memory, for_slivers
from vini.placement.orders import grown, largest_first
from vini.placement.pins import fix
from vini.placement.uses import Use, cost, use
from vini.plugins.tunnels import VERSIONS, TunnelKind, kind_of, reach

__all__ = [
    "Carrying", "Use", "as_before", "asked_delay", "check_own_rates", "check_reserved", "check_reserved_memory", "cost",
    "crossing", "for_slivers", "place", "places", "staying", "too_far", "use",
]  # fmt: skip

# So often it is looked whether a node would do for a sliver before a slice is refused: some seconds, in which others
# wait for their turn.  The second is for nodes among which nothing was tried yet.
_LOOKS, _MOST_LOOKS = 1_000_000, 2_500_000
_CENTRES = 20  # nodes, near which all is tried to be placed where delays forbid to be anywhere


def place(
    topology: Topology,
    nodes: Sequence[Node],
    used: Mapping[str, Use],
    keep: Mapping[str, str],
    distances: Mapping[tuple[str, str], float] | None = None,
    settled: Collection[str] = (),
    carrying: Carrying | None = None,
) -> dict[str, str]:
    """Each sliver's node: the one that it is pinned to, else that in `keep` if it can stay, else the best.

    `used` is what other slices take of nodes; `distances` are delays between nodes in ms, in either order; `settled`
    are links that these don't matter for while their slivers stay (`as_before`); with `carrying`, links go only where
    the network between nodes still carries them.
    CapacityError names what is full, by how much, and what would fit, and says where not all ways were tried;
    Unsupported says what no node can do.
    """
    if not nodes:
        raise CapacityError("There is no node to place this slice on; join one with `vini node join`.")
    far = Distances(distances or {})
    refusal: CapacityError | Unsupported | None = None
    looks = 0
    for among, order, most in _ways(topology, nodes, far, carrying):
        if refusal is not None and looks > most:
            raise type(refusal)(
                f"{refusal} Not all ways were tried: with so many slivers and nodes that takes too long."
            )
        board = Board(topology, nodes, among, used, far, keep, settled, carrying)
        try:
            fixed = fix(board, keep)
            for name in order(board):
                board.put(name, best(board, name))
        except (CapacityError, Unsupported) as e:  # the first says the most
            refusal = refusal or e
            looks += board.looks
            continue
        improve(board, topology.slivers.keys() - fixed)
        return {name: board.at[name] for name in topology.slivers}
    assert refusal is not None
    raise refusal


def staying(topology: Topology, keep: Mapping[str, str]) -> dict[str, str] | None:
    """Each sliver's node if all stay where they are, as they do if they can (`place`); None where some can't: they are
    new, or pinned to another node."""
    found = {name: keep.get(name, "") for name in topology.slivers}
    stays = all(found[name] and sliver.node in ("", found[name]) for name, sliver in topology.slivers.items())
    return found if stays else None


def _ways(
    topology: Topology, nodes: Sequence[Node], far: Distances, carrying: Carrying | None
) -> Iterator[tuple[frozenset[str], Callable[[Board], Iterator[str]], float]]:
    """Where slivers may go, in which order they are placed, and after how many looks that is tried no more."""
    anywhere, *others = chain(_choices(nodes, kind_of(topology)), _near(topology, nodes, far, carrying))
    yield anywhere, grown, inf
    yield anywhere, largest_first, inf
    for some in others:
        yield some, grown, _MOST_LOOKS
    for some in others:
        yield some, largest_first, _LOOKS


def _choices(nodes: Sequence[Node], kind: TunnelKind) -> Iterator[frozenset[str]]:
    """Where slivers may go that are not bound to a node: anywhere; else only where tunnels over one IP version lead."""
    yield frozenset(node.name for node in nodes)
    for version in VERSIONS:
        some = frozenset(node.name for node in nodes if reach(node, kind) == version)
        if some and len(some) < len(nodes):
            yield some


def _near(
    topology: Topology, nodes: Sequence[Node], distances: Distances, carrying: Carrying | None
) -> Iterator[frozenset[str]]:
    """Only where every delay that a link asks for can be had from one of the nodes, and where the network from it still
    carries the least of them: else the first sliver may be where none of its neighbours can join it."""
    least = min((asked_delay(link) for link in topology.links), default=inf)
    slowest = min(map(bandwidth.rate, topology.links), default=0.0)
    if (not distances or least == inf) and not carrying:
        return
    covered: set[str] = set()
    seen: dict[frozenset[str], None] = {}
    for centre, must in chain(((n, False) for n in nodes), ((n, True) for n in nodes[:_CENTRES])):
        if len(seen) == _CENTRES:
            break
        if must or centre.name not in covered:  # first those that are near none of before: clusters are all found
            near = (n.name for n in nodes if distances.known(centre.name, n.name) <= least)
            some = frozenset(n for n in near if not carrying or carrying.holds(centre.name, [(n, slowest)]))
            covered |= some
            if len(some) < len(nodes):
                seen[some] = None
    yield from sorted(seen, key=len, reverse=True)  # where there are more, there is more room


def places(specs: Mapping[str, SliceSpec]) -> dict[str, str]:
    """Sliver -> the node that it is on, of one slice's specs by node."""
    spaces = ((node, o.ns) for node, spec in specs.items() for o in spec.objects if isinstance(o, Netns))
    return {ns.partition(".")[2]: node for node, ns in spaces if is_sliver(ns)}


def crossing(topology: Topology, placed: Mapping[str, str]) -> tuple[str, ...]:
    """The links that lead from one node to another, by name; each needs a tunnel's number."""
    return tuple(bandwidth.between(topology, placed))
