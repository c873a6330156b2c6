"""Slivers whose node is given: those that are pinned, and those that stay where they are."""

from __future__ import annotations

from collections.abc import Mapping

from vini.model import CapacityError, Unsupported
from vini.placement.board import Board
from vini.placement.refusals import listed, short_of, unsaid
from vini.placement.uses import Use


def fix(board: Board, keep: Mapping[str, str]) -> frozenset[str]:
    """Those that are pinned are where they must be, and those that can stay stay."""
    for name, sliver in sorted(board.slivers.items()):
        if sliver.node:
            _check_pin(board, name, sliver.node)
            board.put(name, sliver.node)
    for name in sorted(board.slivers.keys() & keep.keys() - board.at.keys()):
        if keep[name] in board.rooms and board.fits(name, keep[name]):
            board.put(name, keep[name])
    return frozenset(board.at)


def _check_pin(board: Board, name: str, node: str) -> None:
    if node not in board.rooms:
        some = ", ".join(sorted(board.rooms)[:10]) + (", ..." if len(board.rooms) > 10 else "")
        raise CapacityError(
            f"Sliver {name!r} is pinned to node {node!r}, which is not there or takes no slices; "
            f"remove `node:` or name another (there are: {some})."
        )
    if not board.at_site(name, node):
        raise CapacityError(
            f"Sliver {name!r} is pinned to node {node!r}, which is at site {board.rooms[node].node.site!r}, and asks "
            f"for site {board.slivers[name].site!r}; remove `node:` or `site:`."
        )
    if not board.is_apart(name, node):
        word = board.slivers[name].apart
        beside = next(s for s, at in board.at.items() if at == node and board.slivers[s].apart == word)
        raise CapacityError(
            f"Slivers {beside!r} and {name!r} are pinned to node {node!r}, and are to be apart (`apart: {word}`); "
            "pin one to another node, or remove its `node:` or `apart:`."
        )
    if lacking := board.lacking(name, node):
        other = next((n for n in _emptiest(board) if board.fits(name, n)), None)
        remedy = f"pin it to node {other!r}, which has that, or remove `node:`" if other else "change the sliver"
        raise Unsupported(
            f"Sliver {name!r} is pinned to node {node!r}, which lacks {listed(lacking)}; look at `vini doctor` "
            f"there, or {remedy}."
        )
    taken = board.costs[name]
    if (short := board.rooms[node].lacks(taken)) != Use():
        other = next((n for n in _emptiest(board) if board.fits(name, n)), None)
        remedy = f"pin it to node {other!r}, which has room, or remove `node:`" if other else "leave some slivers out"
        raise CapacityError(
            f"Node {node!r} is full: sliver {name!r}, which is pinned to it, takes {taken}, which is "
            f"{short_of(short)} more than is free there{unsaid(board, node, short)}; {remedy}."
        )


def _emptiest(board: Board) -> list[str]:
    return sorted(board.rooms, key=lambda n: (board.rooms[n].load, n))
