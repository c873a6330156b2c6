"""In what order slivers are placed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from vini import names
from vini.placement.board import Board
from vini.placement.uses import cost


def grown(board: Board) -> Iterator[str]:
    """Along links: always the sliver that most ties to the part that grows, and fewest to those that are nowhere yet;
    where none is left beside it, the next part begins in a corner."""
    waiting = {name: names.digest("placement", name) for name in board.slivers.keys() - board.at.keys()}
    loose = {name: sum(n in waiting for n, _ in board.links[name]) for name in waiting}
    growing, ties = "", Counter[str]()

    def order(name: str) -> tuple[bool, int, int]:
        return not ties[name], loose[name] - ties[name], waiting[name]

    while waiting:
        name = min(waiting, key=order)
        del waiting[name]
        yield name
        if board.at[name] != growing:
            growing = board.at[name]
            ties = Counter(n for s, node in board.at.items() if node == growing for n, _ in board.links[s])
        else:
            ties.update(n for n, _ in board.links[name])
        for neighbour, _ in board.links[name]:
            if neighbour in waiting:
                loose[neighbour] -= 1


def largest_first(board: Board) -> Iterator[str]:
    """What may not be anywhere, then what is hard to find room for (first fit decreasing)."""
    waiting = board.slivers.keys() - board.at.keys()

    def size(name: str) -> tuple[bool, bool, float, float, float, float, str]:
        sliver = board.slivers[name]
        taken = cost(sliver)
        return not sliver.site, not sliver.apart, -taken.mbit, -taken.memory_mib, -taken.cores, -taken.disk_mb, name

    yield from sorted(waiting, key=size)
