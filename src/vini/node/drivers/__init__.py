"""Drivers: what knows how to observe, make and remove some kinds of objects on this machine.

A driver is synchronous and is called in one thread, which may be inside a namespace meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from errno import EADDRNOTAVAIL, ENODEV, ENOENT, ESRCH
from typing import Protocol

from vini.model import AnyObject, Key, Object

Failures = dict[Key, str]  # key -> what the machine said, as a sentence
GONE = frozenset({ENODEV, ENOENT, ESRCH, EADDRNOTAVAIL})  # the errnos of what is to be removed and isn't there


class Driver(Protocol):
    """The seam to the machine."""

    @property
    def kinds(self) -> tuple[type[Object], ...]:
        """The kinds of objects that it has."""

    def observe(self, namespaces: Collection[str]) -> frozenset[AnyObject]:
        """What is there, bearing our mark, in those namespaces (`slice.sliver`)."""

    def ensure(self, objects: Sequence[AnyObject]) -> Failures:
        """Make or change objects of one kind; what is right already stays as it is."""

    def remove(self, objects: Sequence[AnyObject]) -> Failures:
        """Take objects of one kind away; no error when they are gone."""


def refused(o: Object, why: int | str | Exception) -> str:
    """The sentence for what the kernel said: an errno, or words."""
    said = os.strerror(why) if isinstance(why, int) else str(why).rstrip(".")
    return f"The kernel refused {' '.join(o.key)}: {said}."


def by_kind(drivers: Sequence[Driver]) -> Mapping[type[Object], Driver]:
    """Which driver has which kind."""
    return {kind: driver for driver in drivers for kind in driver.kinds}
