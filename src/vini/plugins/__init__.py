"""Routing daemons: pure functions from a `Router` to the files and processes of one sliver."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from vini.model import Adjacency, AnyObject, Router
from vini.plugins import bird as bird
from vini.plugins import frr as frr
from vini.plugins.intent import expected_adjacencies

__all__ = ["ROUTERS", "RouterPlugin", "expected_adjacencies"]


class RouterPlugin(NamedTuple):
    """A routing daemon as three pure functions.

    `objects` gives the files and processes that make a router (Unsupported where the daemon can't do what is asked);
    `adjacencies_argv` gives (protocol, command) pairs, in which "{run}" stands for the sliver's run directory;
    `adjacencies` reads what such a command printed: none where the daemon did not answer.
    """

    objects: Callable[[Router], tuple[AnyObject, ...]]
    adjacencies_argv: Callable[[Router], tuple[tuple[str, tuple[str, ...]], ...]]
    adjacencies: Callable[[str, str], tuple[Adjacency, ...]]


ROUTERS = {
    "frr": RouterPlugin(frr.objects, frr.adjacencies_argv, frr.adjacencies),
    "bird": RouterPlugin(bird.objects, bird.adjacencies_argv, bird.adjacencies),
}
