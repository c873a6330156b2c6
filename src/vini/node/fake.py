"""A machine in a dict, with the rules of the real one that a plan depends on.

tests/kernel runs one contract suite against it and against the real drivers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from msgspec.structs import replace

from vini.model import STACK, AnyObject, Bridge, Interface, Key, Process, Tunnel, Veth
from vini.node.drivers import Failures


class FakeDriver:
    """Every kind, kept in memory."""

    kinds = STACK

    def __init__(self, objects: Iterable[AnyObject] = ()):
        self.have: dict[Key, AnyObject] = {o.key: o for o in objects}

    def observe(self, namespaces: Collection[str]) -> frozenset[AnyObject]:
        """What is there; a pair only when both its ends were looked at."""
        return frozenset(o for o in self.have.values() if all(ns in namespaces for ns in o.slivers))

    def ensure(self, objects: Sequence[AnyObject]) -> Failures:
        """Make or change, where all that it stands on is there."""
        failures: Failures = {}
        for o in objects:
            missing = [k for k in o.on if k not in self.have]
            if missing and not self._is_born_with(o):
                failures[o.key] = f"The kernel refused {' '.join(o.key)}: nothing at {' '.join(missing[0])}."
                continue
            old = self.have.get(o.key)
            new = old is None or (isinstance(o, Veth) and old != o)
            self.have[o.key] = o
            for ns, dev in _vifs(o) if new else ():
                born = Interface(ns, dev, (), up=False)
                self.have[born.key] = born
        return failures

    def _is_born_with(self, o: AnyObject) -> bool:
        return isinstance(o, Interface) and o.key in self.have

    def remove(self, objects: Sequence[AnyObject]) -> Failures:
        """Take away, with all that stands on it."""
        for o in objects:
            self._remove(o.key)
        return {}

    def _remove(self, key: Key) -> None:
        gone = self.have.pop(key, None)
        if gone is None:
            return
        for ns, dev in _vifs(gone):
            self._remove(("interface", ns, dev))
        if isinstance(gone, Bridge):  # what were its ports stay
            for k, o in list(self.have.items()):
                if isinstance(o, Interface) and key in o.on:
                    self.have[k] = replace(o, master="")
        for k, o in list(self.have.items()):
            if key in o.on and key[:1] != ("file",) and not (isinstance(o, Process) and key[0] == "process"):
                self._remove(k)


def _vifs(o: AnyObject) -> tuple[tuple[str, str], ...]:
    """The interfaces that come and go with an object."""
    if isinstance(o, Veth):
        return tuple((end.ns, end.dev) for end in o.ends)
    return ((o.ns, o.dev),) if isinstance(o, Tunnel) else ()
