"""Routing daemons: pure functions from a `Router` to the files and processes of one sliver."""

from __future__ import annotations

from vini import daemons
from vini.daemons import RouterPlugin
from vini.model import SPEAKS
from vini.plugins import bird as bird
from vini.plugins import frr as frr
from vini.plugins.intent import expected_adjacencies

__all__ = ["ROUTERS", "RouterPlugin", "expected_adjacencies", "router_plugin"]

# Imported as they are, without a search of what is installed, which takes longer than the rest of a command's start.
ROUTERS = {
    "frr": RouterPlugin(frr.objects, frr.adjacencies_argv, frr.adjacencies, SPEAKS["frr"], needs="frr"),
    "bird": RouterPlugin(bird.objects, bird.adjacencies_argv, bird.adjacencies, SPEAKS["bird"], needs="bird"),
}


def router_plugin(daemon: str) -> RouterPlugin:
    """A built-in daemon, or one that another distribution brings (raises what `daemons.found` raises)."""
    return ROUTERS.get(daemon) or daemons.found(daemon)
