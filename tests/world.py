"""What the contract of drivers is asked of: the machine in a dict, and the real one."""

from __future__ import annotations

import time
from collections.abc import Collection

from own_place import OwnPlace

from vini.model import AnyObject, Interface
from vini.node.drivers import Failures
from vini.node.fake import FakeDriver
from vini.node.machine import Machine
from vini.plan import in_order, plan


class World:
    """A machine of one sort: how it is looked at and changed.  `own` None: one in a dict."""

    def __init__(self, own: OwnPlace | None, namespaces: Collection[str]):
        self.own, self.namespaces = own, frozenset(namespaces)
        self._drivers = own.drivers() if own else [FakeDriver()]
        self._machine = Machine(self._drivers)

    def see(self) -> frozenset[AnyObject]:
        return self._machine.observe(self.namespaces).objects

    def see_anew(self) -> frozenset[AnyObject]:
        """As an agent that was just started sees it."""
        return self.own.machine().observe(self.namespaces).objects if self.own else self.see()

    def ensure(self, *objects: AnyObject) -> Failures:
        return self._call("ensure", objects)

    def remove(self, *objects: AnyObject) -> Failures:
        return self._call("remove", objects)

    def _call(self, verb: str, objects: tuple[AnyObject, ...]) -> Failures:
        driver = next(d for d in self._drivers if type(objects[0]) in d.kinds)
        return getattr(driver, verb)(in_order(objects))

    def one_pass(self, want: frozenset[AnyObject]) -> Failures:
        """The kernel gives a new vif its link-local address in its own time: that is waited for."""
        failures = self._machine.apply(plan(want, self.see()))
        wanted = {o.key for o in want if o.key not in failures}
        deadline = time.monotonic() + 5
        while any(isinstance(o, Interface) and not o.whole and o.key in wanted for o in self.see()):
            if time.monotonic() > deadline:
                break
        return failures
