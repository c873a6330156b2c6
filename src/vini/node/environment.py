"""What people run in a sliver has the sliver's environment."""

from __future__ import annotations

from collections.abc import Sequence

from vini.environment import NAME
from vini.node.place import Place


def given(place: Place, ns: str, argv: Sequence[str]) -> list[str]:
    """`argv` with the variables that the topology gives the sliver, as vini.environment wrote them down."""
    try:
        text = (place.sliver(ns) / NAME).read_text()
    except FileNotFoundError:
        return list(argv)
    return ["env", *(line for line in text.split("\n") if "=" in line), *argv]
