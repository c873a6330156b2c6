"""The best node for a sliver, as far as the others are placed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from vini.placement.board import Board
from vini.placement.refusals import refusal


def best(board: Board, name: str) -> str:
    """Where a sliver has the most neighbours; else on the nearest, then the emptiest node that has room."""
    beside = Counter(board.at[n] for n, _ in board.links[name] if n in board.at)
    board.looks += len(beside)
    near = [node for node in beside if board.fits(name, node)]
    if near:
        return min(near, key=lambda n: (-beside[n], _far(board, n, beside), board.rooms[n].load, n))
    board.looks += len(board.among)
    able = [node for node in board.among if board.fits(name, node)]
    if not able:
        raise refusal(board, name)
    return min(able, key=lambda n: (_far(board, n, beside), *_short_of_rest(board, n), board.rooms[n].load, n))


def _far(board: Board, node: str, beside: Mapping[str, int]) -> float:
    """How far it is from there to all neighbours; as far as anything where nobody knows."""
    if not board.distances:
        return 0.0
    return sum(links * board.distances.guessed(node, other) for other, links in beside.items())


def _short_of_rest(board: Board, node: str) -> tuple[float, ...]:
    """How much there is no room for of all that is not placed yet."""
    short = board.rooms[node].lacks(board.rest)
    return short.memory_mib, short.cores, short.disk_mb, short.mbit
