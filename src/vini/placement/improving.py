"""Fewer links between nodes, once all slivers are placed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from vini.placement.board import Board

_PASSES = 8  # of improvement at most; nearly always fewer than three change anything


def improve(board: Board, free: Collection[str]) -> None:
    """Move slivers, or let two change places, as long as fewer links lead from node to node."""
    for _ in range(_PASSES):
        if not sum(_move(board, name, free) for name in sorted(free)):
            break


def _move(board: Board, name: str, free: Collection[str]) -> bool:
    here, beside = board.at[name], Counter(board.at[n] for n, _ in board.links[name])
    for node, links in sorted(beside.items(), key=lambda item: (-item[1], item[0])):
        if links <= beside[here]:
            break
        if board.fits(name, node):
            board.put(name, node)
            return True
        if board.joins(name, node) and _change_places(board, name, node, links - beside[here], free):
            return True
    return False


def _change_places(board: Board, name: str, node: str, gain: int, free: Collection[str]) -> bool:
    here = board.at[name]
    for other in sorted(n for n in free if board.at[n] == node):
        beside = Counter(board.at[n] for n, _ in board.links[other])
        between = sum(n == name for n, _ in board.links[other])
        if gain + beside[here] - beside[node] - 2 * between <= 0:
            continue
        board.rooms[node].take(board.costs[other], -1)
        board.rooms[here].take(board.costs[name], -1)
        board.stand(name, node)
        board.stand(other, here)
        fit = board.fits(name, node) and board.fits(other, here)
        if not fit:
            board.stand(name, here)
            board.stand(other, node)
        board.rooms[board.at[name]].take(board.costs[name])
        board.rooms[board.at[other]].take(board.costs[other])
        if fit:
            return True
    return False
