"""Logs of a sliver that the node itself writes, beside those of its processes: `vini logs SLIVER` shows them all."""

from __future__ import annotations

import os
import time
from contextlib import suppress

from vini.node.place import Place

BOOT = "boot"  # when its container and its processes were started
BROKER = "broker"  # what was asked of the node
_LONGEST = 1 << 18  # bytes; then a new one is begun, and the old one kept beside it


def append(place: Place, ns: str, name: str, what: str) -> None:
    """A line with the time.  Where it can't be written it is lost: the sliver goes this moment, or the disk is full."""
    path = place.sliver(ns) / f"{name}.log"
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with suppress(OSError):
        with os.fdopen(os.open(path, flags, 0o644), "ab") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {what}\n".encode())
            full = file.tell() > _LONGEST
        if full:
            path.rename(path.with_suffix(".log.1"))
