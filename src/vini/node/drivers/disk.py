"""Disks of slivers as objects."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

from vini.model import AnyObject, Disk
from vini.node import netns
from vini.node.container import disks
from vini.node.drivers import Failures
from vini.node.place import Place

_AT_ONCE = min(4, os.cpu_count() or 1)  # that are being made


class DiskDriver:
    """File systems of a fixed size, in files."""

    kinds = (Disk,)

    def __init__(self, place: Place):
        self._place = place

    def observe(self, namespaces: Collection[str]) -> frozenset[AnyObject]:
        """Those that are mounted, or whose sliver is there without; after a reboot there is none until it is made."""
        there = disks.slivers(self._place) & set(namespaces)
        return frozenset(o for ns in there if self._is_there(ns) and (o := disks.observed(self._place, ns)))

    def _is_there(self, ns: str) -> bool:
        return self._place.sliver(ns).is_mount() or netns.is_pinned(self._place.pin(ns))

    def ensure(self, objects: Sequence[AnyObject]) -> Failures:
        """Make them with what their slivers have written before, or change their rates."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            tried = pool.map(self._tried, objects)
            return {o.key: why for o, why in zip(objects, tried, strict=True) if why}

    def _tried(self, o: AnyObject) -> str:
        """Why it can't be; "" where it is."""
        assert isinstance(o, Disk)
        if not netns.is_pinned(self._place.pin(o.ns)):
            return f"Sliver {o.ns} is not there, so it can have no disk."
        try:
            disks.ensure(self._place, o)
        except (OSError, subprocess.SubprocessError) as e:
            return f"Sliver {o.ns} can't have its disk: {str(e).rstrip('.')}."
        return ""

    def remove(self, objects: Sequence[AnyObject]) -> Failures:
        """Take them away, and keep what their slivers wrote."""
        failures: Failures = {}
        for o in objects:
            try:
                disks.remove(self._place, o.slivers[0])
            except (OSError, subprocess.SubprocessError) as e:
                failures[o.key] = f"The disk of sliver {o.slivers[0]} can't be taken away: {str(e).rstrip('.')}."
        return failures
