"""Routing daemons: pure functions from a `Router` to the files and processes of one sliver."""

from __future__ import annotations

from typing import Protocol

from vini.model import Adjacency, AnyObject, Router
from vini.plugins import bird, frr
from vini.plugins.intent import expected_adjacencies

__all__ = ["ROUTERS", "RouterPlugin", "expected_adjacencies"]


class RouterPlugin(Protocol):
    """A routing daemon.  Every function is pure: the same router gives the same answer."""

    def objects(self, router: Router) -> tuple[AnyObject, ...]:
        """The files and processes that make this router; Unsupported where the daemon can't do what is asked."""

    def adjacencies_argv(self, router: Router) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """(protocol, command) pairs; "{run}" in a command stands for the sliver's run directory."""

    def adjacencies(self, protocol: str, output: str) -> tuple[Adjacency, ...]:
        """What such a command printed, as adjacencies; a daemon that doesn't answer has none."""


ROUTERS: dict[str, RouterPlugin] = {"frr": frr, "bird": bird}
