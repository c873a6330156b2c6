"""Slivers that are stopped or frozen: what keeps their processes from running.

The kernel's freezer of cgroups(7), version 2, which hybrid machines have too.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import cast, get_args

from vini.model import AnyObject, Conflict, Halt, Lives
from vini.node import cgroup
from vini.node.drivers import Failures
from vini.node.place import Place

_RECORDS = "halted"  # a directory with a file for each sliver that is
_FREEZE = "cgroup.freeze"


def halted(place: Place, ns: str) -> Lives:
    """How a sliver is asked to be on this machine."""
    try:
        text = _record(place, ns).read_text()
    except FileNotFoundError:
        return "running"
    return cast(Lives, text) if text in get_args(Lives) else "running"


def halts(place: Place) -> set[str]:
    """The slivers that are asked to be anything but running: by one look, for it is taken often."""
    try:
        return set(os.listdir(place.run / _RECORDS))  # noqa: PTH208  # only the names
    except FileNotFoundError:
        return set()


def forget(place: Place, ns: str) -> None:
    """Of a sliver that goes."""
    _record(place, ns).unlink(missing_ok=True)


def _record(place: Place, ns: str) -> Path:
    return place.run / _RECORDS / ns


def check_running(place: Place, ns: str) -> None:
    """Raises Conflict where nothing can be run in a sliver."""
    if (how := halted(place, ns)) != "running":
        sliver = ns.partition(".")[2]
        word = "start" if how == "stopped" else "thaw"
        raise Conflict(f"Sliver {sliver!r} is {how}; `vini sliver {word} {sliver}` has it run again.")


class HaltDriver:
    """Keeps slivers stopped or frozen."""

    kinds = (Halt,)

    def __init__(self, place: Place):
        self._place = place

    def observe(self, namespaces: Collection[str]) -> frozenset[AnyObject]:
        """Those that were asked to be so, and whether they are."""
        found: set[AnyObject] = set()
        for ns in halts(self._place).intersection(namespaces):
            how = halted(self._place, ns)
            if how == "stopped":
                found.add(Halt(ns, "neither" if cgroup.populated(cgroup.of(self._place, ns)) else how))
            elif how == "frozen":
                found.add(Halt(ns, how if _is_frozen(self._place, ns) else "neither"))
        return frozenset(found)

    def ensure(self, objects: Sequence[AnyObject]) -> Failures:
        """First it is recorded, so that nobody starts anything any more, then done."""
        failures: Failures = {}
        for o in objects:
            assert isinstance(o, Halt)
            try:
                _record(self._place, o.ns).parent.mkdir(exist_ok=True)
                _record(self._place, o.ns).write_text(o.how)
                if o.how == "frozen":
                    cgroup.of(self._place, o.ns).mkdir(parents=True, exist_ok=True)
                    _freeze(self._place, o.ns, True)
                else:
                    cgroup.kill(cgroup.of(self._place, o.ns))
                    _freeze(self._place, o.ns, False)
            except OSError as e:
                failures[o.key] = f"Sliver {o.ns} can't be {o.how}: {e.strerror}."
        return failures

    def remove(self, objects: Sequence[AnyObject]) -> Failures:
        """Let them run."""
        failures: Failures = {}
        for o in objects:
            assert isinstance(o, Halt)
            try:
                _freeze(self._place, o.ns, False)
            except OSError as e:
                failures[o.key] = f"Sliver {o.ns} can't be thawed: {e.strerror}."
                continue
            forget(self._place, o.ns)
        return failures


def _is_frozen(place: Place, ns: str) -> bool:
    try:
        return (cgroup.of(place, ns) / _FREEZE).read_text().strip() == "1"
    except FileNotFoundError:
        return False


def _freeze(place: Place, ns: str, yes: bool) -> None:
    """Where there is no group there is no process."""
    file = cgroup.of(place, ns) / _FREEZE
    if file.exists():
        file.write_text("1" if yes else "0")
