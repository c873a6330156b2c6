"""What the contract of drivers is asked of: the machine in a dict, and the real one."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from own_place import OwnPlace

from vini.model import AnyObject, Interface, Netns
from vini.node.drivers import Failures
from vini.node.fake import FakeDriver
from vini.node.machine import Machine
from vini.node.place import Place
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


@contextmanager
def holding(own: OwnPlace | None, namespaces: Collection[str], whole: frozenset[AnyObject]) -> Iterator[World]:
    """A world with all of that in it, and nothing afterwards."""
    world = World(own, namespaces)
    assert world.one_pass(whole) == {}
    yield world
    assert world.one_pass(frozenset()) == {}
    assert world.see_anew() == frozenset()


def tunnels_keep_the_contract(
    world: World,
    ns: str,
    tunnels: Sequence[AnyObject],
    changes: Sequence[AnyObject],
    ground: frozenset[AnyObject],
    whole: frozenset[AnyObject],
    assert_nothing_is_left: Callable[[Place], None] = lambda _: None,
) -> None:
    """What they promise whatever they are made of.  The world has the whole before, and nothing afterwards; without
    the tunnels and what stands on them it has the ground."""
    assert world.see() == world.see_anew() == whole
    assert world.ensure(*tunnels) == {}
    assert world.see() == whole
    for new in changes:
        old = next(o for o in whole if o.key == new.key)
        assert {f for f in new.__struct_fields__ if getattr(old, f) != getattr(new, f)} <= new.changeable
        assert world.ensure(new) == {}
        assert world.see() == whole - {old} | {new}
        assert world.ensure(old) == {}
    assert world.see() == whole
    for _ in range(2):  # what is gone already is no error
        assert world.remove(*tunnels) == {}
        assert world.see() == ground
    assert world.one_pass(whole) == {}
    world.remove(Netns(ns))
    assert world.see() == frozenset()
    if world.own:
        assert_nothing_is_left(world.own.place)
    failures = world.ensure(*tunnels)
    assert set(failures) == {o.key for o in tunnels}
    assert all(why.endswith(".") and why[0].isupper() for why in failures.values()), failures
    assert world.remove(*tunnels) == {}
