"""VINI: a network of your own, inside the real one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["AsyncNetwork", "CommandFailed", "Network", "Topology", "ViniError", "table"]

if TYPE_CHECKING:
    from vini.api import AsyncNetwork, CommandFailed, Network, table
    from vini.model import Topology, ViniError


def __getattr__(name: str) -> Any:
    """The API, imported when first asked for: commands and agents start without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module("vini.model" if name in ("Topology", "ViniError") else "vini.api"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
