"""Why a sliver can't be placed: which node comes nearest, what it lacks, and what would fit."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from vini.layout import link_name
from vini.model import CapacityError, Unsupported
from vini.placement.board import Board
from vini.placement.delays import asked_delay, too_far
from vini.placement.uses import BIRD, Use
from vini.plugins import router_plugin
from vini.plugins.tunnels import apart


def refusal(board: Board, name: str) -> CapacityError | Unsupported:
    """Which node comes nearest, what it lacks, and what would fit.  Unsupported where none has what is needed."""
    among = [node for node in board.among if board.at_site(name, node)]
    if not among:
        return _no_node_of_site(board, name)
    able = [node for node in among if not board.lacking(name, node)]
    if not able:
        least = min(among, key=lambda n: (len(board.lacking(name, n)), n))
        return Unsupported(
            f"No node can hold sliver {name!r}: the nearest, node {least!r}, lacks "
            f"{listed(board.lacking(name, least))}; look at `vini doctor` there, or change the sliver."
        )
    taken, fitting = board.costs[name], f"{len(board.at)} of the {len(board.slivers)} slivers fit"
    if not any(board.is_apart(name, node) for node in able):
        return CapacityError(f"{_beside(board, name, able)}; {fitting}; join a node, or take `apart:` from some.")
    able = [node for node in able if board.is_apart(name, node)]
    lacks = {n: board.rooms[n].lacks(taken) for n in able}
    nearest = min(able, key=lambda n: (lacks[n].mbit, lacks[n].memory_mib, lacks[n].cores, lacks[n].disk_mb, n))
    short = board.rooms[nearest].lacks(taken)
    if short == Use():
        if why := _apart(board, name, nearest):
            return Unsupported(why)
        if why := _far_apart(board, name, able):
            others = "; others may fit than those that were tried" if len(board.slivers) > 2 else ""
            return CapacityError(f"{why[:-1]}; {fitting}{others}.")
        return CapacityError(
            f"Node {nearest!r} has room for sliver {name!r}, but no links can be made from there to the nodes of "
            f"its neighbours; {fitting}; pin neighbours to one node, or leave some slivers out."
        )
    lighter = _lighter(board, name, able)
    return CapacityError(
        f"No node has room for sliver {name!r}, which takes {taken}: the nearest, node {nearest!r}, has "
        f"{short_of(short)} too little free{unsaid(board, nearest, short)}; {fitting}; "
        + (lighter or "leave some slivers out, or join a node.")
    )


def _no_node_of_site(board: Board, name: str) -> CapacityError:
    site, known = board.slivers[name].site, sorted({room.node.site for room in board.rooms.values()})
    return CapacityError(
        f"Sliver {name!r} asks for site {site!r}, which has no node that this slice may be on; remove `site:`, name "
        f"another (there are: {', '.join(known)}), or join a machine of it: `vini node token --site {site}`."
    )


def _beside(board: Board, name: str, held: Sequence[str]) -> str:
    """That one that it is to be apart from is on each of these nodes already."""
    sliver = board.slivers[name]
    where = f" at site {sliver.site!r}" if sliver.site else ""
    nodes = f"each of the {len(held)} nodes" if len(held) > 1 else f"node {held[0]!r}, the only one"
    return (
        f"Sliver {name!r} is to be on a node without another sliver of `apart: {sliver.apart}`, and {nodes} that "
        f"could hold it{where} has one"
    )


def unsaid(board: Board, node: str, short: Use) -> str:
    """What its operator can do where he has not said what the uplink carries."""
    unsaid = short.mbit and not board.rooms[node].node.rate_mbit
    return " (nobody has said what its uplink carries: `vini node uplink --rate 1gbit` there)" if unsaid else ""


def _apart(board: Board, name: str, node: str) -> str:
    """Why a tunnel that a sliver there would need can't be made; "" where all can."""
    here = board.rooms[node].node
    for neighbour, link in board.links[name]:
        there = board.rooms[board.at.get(neighbour, node)].node
        if there.name != node:
            for why in apart(link_name(link), here, there, board.kind):
                return why
    return ""


def _far_apart(board: Board, name: str, able: Collection[str]) -> str:
    """Which link's delay could not be had, if the sliver were where that lacks the least; "" where all could."""
    room = [n for n in able if board.rooms[n].holds(board.costs[name])]
    worst = {node: max(_too_far(board, name, node), default=None) for node in room}
    found = [(excess, node) for node, excess in worst.items() if excess is not None]
    if not found or len(found) < len(room):
        return ""
    (excess, link, other, asked), node = min(found)
    near = ((n, board.distances.guessed(other, n)) for n in room if n != other)
    fits = min((n for n in near if n[1] <= asked), key=lambda n: (n[1], n[0]), default=None)
    return too_far(link, asked, asked + excess, (other, node), fits, "would be")


def _too_far(board: Board, name: str, node: str) -> Iterator[tuple[float, str, str, float]]:
    """By how much (ms), which link, to which node, and what it asks for."""
    for neighbour, link in board.links[name]:
        other = board.at.get(neighbour, node)
        if other != node and board.is_too_far(name, node, neighbour, link):
            asked = asked_delay(link)
            yield board.distances.known(node, other) - asked, link_name(link), other, asked


def _lighter(board: Board, name: str, able: Sequence[str]) -> str:
    """A change of the sliver with which it would fit."""
    routing = board.slivers[name].routing
    bird = router_plugin("bird")
    if routing is None or routing.daemon != "frr" or not set(routing.protocols) <= bird.speaks or routing.raw:
        return ""
    node = next((n for n in able if board.rooms[n].holds(BIRD) and board.joins(name, n)), None)
    can = node and bird.needs in board.rooms[node].node.capabilities
    return f"with `daemon: bird` it would fit on node {node!r}." if can else ""


def short_of(short: Use) -> str:
    """How much of what is missing."""
    amounts = (
        (short.mbit, "Mbit/s of the uplink"), (short.memory_mib, "MiB of memory"), (short.disk_mb, "MB of disk"),
        (short.cores, "cores"),
    )  # fmt: skip
    return " and ".join(f"{amount:g} {of}" for amount, of in amounts if amount)


def listed(words: Collection[str]) -> str:
    """Words in one sentence."""
    return " and ".join(sorted(words))
