"""What is left of a container whose processes have ended."""

from __future__ import annotations

import shutil

from vini.node.container import crun, limits
from vini.node.place import Place


def forget(place: Place, ns: str) -> None:
    """Delete it, but for what was written inside."""
    crun.forget(place, ns)
    shutil.rmtree(crun.home(place) / ns, ignore_errors=True)
    limits.remove(place, ns)
