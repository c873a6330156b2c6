"""Where the network namespaces of slivers are pinned, and the names by which people and programs find them.

A slice has one small file system of its own, `<run>/netns/<slice>`, that holds the pins of all its slivers;
`/run/netns/<mark>.<slice>.<sliver>`, where ip-netns(8) looks, is a symbolic link to the pin.  The kernel waits
for every unmount: one of the whole takes 0.3 ms, one of each of 100 pins 12 ms.

What the agent does goes by the pins; a lost name is only a name, and is given again.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

from vini.node import netns
from vini.node.place import Place


class Pins:
    """The pins and names of one place.  Every step may be the last before a crash: the next call goes on from there."""

    def __init__(self, place: Place):
        self._place = place
        self._all = place.pin("")

    def names(self) -> set[str]:
        """`slice.sliver` of every pin and every name that bears our mark, also of half-made and half-gone ones."""
        names = self._place.netns("").parent
        mark = self._place.mark + "."
        found = {n[len(mark) :] for n in _listed(names) if n.startswith(mark)}
        return found | {f"{slice_}.{sliver}" for slice_ in _listed(self._all) for sliver in _listed(self._all / slice_)}

    def is_named(self, ns: str) -> bool:
        """Whether its name leads to its pin."""
        try:
            return os.readlink(self._place.netns(ns)) == str(self._place.pin(ns))  # noqa: PTH115  # a Path takes 10 us
        except OSError:  # nothing there, or no link
            return False

    def prepare(self, namespaces: Collection[str]) -> None:
        """Make names for them, and room for their pins; the names first, so that whoever sweeps finds a trace.

        Both directories are shared mounts: what vanishes here vanishes from every mount namespace, and keeps no
        network namespace alive there.
        """
        names = self._place.netns("").parent
        names.mkdir(parents=True, exist_ok=True)
        if not netns.is_mounted(names):
            netns.mount_itself(names)
        netns.share(names)  # also where a crash left it unshared
        for ns in namespaces:
            with suppress(FileExistsError):
                self._place.netns(ns).symlink_to(self._place.pin(ns))
        self._mount(self._all)
        netns.share(self._all)
        for slice_ in {ns.partition(".")[0] for ns in namespaces}:
            self._mount(self._all / slice_)

    @staticmethod
    def _mount(directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        if not os.path.ismount(directory):
            netns.mount_memory(directory)

    def make(
        self, ns: str, prepare: Callable[[], None] = lambda: None, new: Callable[[], None] = netns.enter_new
    ) -> None:
        """Make a namespace that was prepared for, and stay in it; use inside `netns.back_home()`.

        One that is pinned already stays as it is.  Whatever else has its name makes way.
        """
        if not self.is_named(ns):
            self._take_over(self._place.pin(ns), self._place.netns(ns))
        netns.create(self._place.pin(ns), prepare, new)

    def adopt(self) -> None:
        """Pin anew what an earlier version pinned at the name itself; whatever lives in it does not notice."""
        for ns in sorted(self.names()):
            slice_, _, sliver = ns.partition(".")
            name = self._place.netns(ns)
            if slice_ and sliver.strip(".") and netns.is_pinned(name) and not name.is_symlink():
                self.prepare([ns])
                self._take_over(self._place.pin(ns), name)

    def _take_over(self, pin: Path, name: Path) -> None:
        """Whatever is at the name makes way for a link to the pin.  A namespace that is pinned there is pinned anew.

        The link replaces it in one step: to the link element, which watches names, none goes.
        """
        if not name.is_symlink() and netns.is_pinned(name):
            if not netns.is_pinned(pin):
                netns.pin(name, pin)
            netns.unmount(name)
        new = name.with_name(f".{name.name}")
        new.unlink(missing_ok=True)
        new.symlink_to(pin)
        new.rename(name)

    def remove(self, namespaces: Collection[str]) -> None:
        """Unpin them, then take their names away.  The kernel takes a namespace down once nobody uses it any more."""
        doomed: dict[str, set[str]] = defaultdict(set)
        for ns in namespaces:
            slice_, _, sliver = ns.partition(".")
            doomed[slice_].add(sliver)
        slices = _listed(self._all)
        there = {s: set(_listed(self._all / s)) for s in slices if s in doomed}
        whole = {s for s, slivers in there.items() if slivers <= doomed[s]}
        for directory in (self._all / s for s in whole) if whole != set(slices) else (self._all,):
            netns.unmount(directory)
            with suppress(FileNotFoundError):
                directory.rmdir()
        for slice_ in there.keys() - whole:
            for sliver in there[slice_] & doomed[slice_]:
                netns.delete(self._all / slice_ / sliver)
        for ns in namespaces:
            self._remove_name(self._place.netns(ns))

    def _remove_name(self, name: Path) -> None:
        try:
            name.unlink()
        except FileNotFoundError:
            pass
        except OSError:  # a namespace is pinned there, by an earlier version or by `ip netns add`
            netns.delete(name)


def _listed(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)  # noqa: PTH208  # only the names
    except (FileNotFoundError, NotADirectoryError):
        return []
