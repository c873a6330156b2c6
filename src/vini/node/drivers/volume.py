"""Volumes of a size as objects."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Collection, Sequence

from vini.model import AnyObject, Volume
from vini.node import netns
from vini.node.container import volumes
from vini.node.drivers import Failures
from vini.node.place import Place


class VolumeDriver:
    """File systems of a fixed size, in files that outlive what they are mounted for."""

    kinds = (Volume,)

    def __init__(self, place: Place):
        self._place = place

    def observe(self, namespaces: Collection[str]) -> frozenset[AnyObject]:
        """Those that are mounted."""
        return frozenset(o for ns in volumes.kept(self._place) & set(namespaces) for o in self._of(ns))

    def _of(self, ns: str) -> list[Volume]:
        return list(volumes.observed(self._place, ns))

    def ensure(self, objects: Sequence[AnyObject]) -> Failures:
        """Make them with what was in their directories before, mount them, or change their rates."""
        return self._each(objects, self._mount, "made")

    def remove(self, objects: Sequence[AnyObject]) -> Failures:
        """Unmount them; what they hold stays in their files."""
        return self._each(objects, lambda o: volumes.release(self._place, o.ns, o.name), "unmounted")

    def _mount(self, o: Volume) -> None:
        if not netns.is_pinned(self._place.pin(o.ns)):
            raise OSError("the sliver is not there")
        volumes.ensure(self._place, o)

    def _each(self, objects: Sequence[AnyObject], act: Callable[[Volume], None], done: str) -> Failures:
        failures: Failures = {}
        for o in objects:
            assert isinstance(o, Volume)
            try:
                act(o)
            except (OSError, subprocess.SubprocessError) as e:
                why = str(e).rstrip(".")
                failures[o.key] = f"The volume {o.name} of sliver {o.ns} can't be {done}: {why}."
        return failures
