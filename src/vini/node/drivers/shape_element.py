"""Shapes by the link element: a filter diverts what leaves by a vif into a TAP that the element reads.

The order of steps is what keeps packets: the element is ready before the filter diverts, and the
filter is gone before the element forgets.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from errno import EINVAL, ENODEV, ENOENT
from signal import SIGTERM
from typing import Any

from vini.dataplane import element
from vini.dataplane.element import Element
from vini.model import DriverError, Shape, ViniError
from vini.node import bpf, port, tc
from vini.node.drivers import Failures
from vini.node.drivers.there import There
from vini.node.place import GROUP, Place

_GONE = frozenset({ENOENT, ENODEV, EINVAL})  # EINVAL: no clsact there
Settings = Mapping[str, Any]


class ElementShapes:
    """Holds the two loaded programs, so that a vif costs no load."""

    def __init__(self, place: Place):
        self._place = place
        self._programs: dict[str, int] = {}

    # --- observe ------------------------------------------------------------------------------

    def ports_by_namespace(self) -> dict[str, dict[str, Settings]]:
        """What the element holds: file name in /run/netns -> vif -> settings; nothing where none runs."""
        out: dict[str, dict[str, Settings]] = defaultdict(dict)
        try:
            with Element(self._place.run) as running:
                for (namespace, dev), settings in running.ports().items():
                    if settings.keys() >= _KNOWN:  # else an earlier version's, which can't do what is asked of it
                        out[namespace][dev] = settings
        except OSError:  # not started, or killed: its ports are gone with it
            return {}
        return out

    def observe(self, there: There, qdiscs: Sequence[tc.SeenQdisc], ports: Mapping[str, Settings]) -> Iterator[Shape]:
        """Whole shapes as asked for; of half-made or half-destroyed ones, what they do to packets."""
        filters = {}
        for q in qdiscs:
            if q.kind == "clsact" and (ours := _filter_at(there, q.index)):
                filters[there.links[q.index].dev] = ours
        taps = {q.index ^ bpf.TAP_BIT for q in qdiscs if q.index & bpf.TAP_BIT}
        owners = {there.links[index].dev for index in taps if index in there.links and _is_tap(there, index)}
        for dev in filters.keys() | ports.keys() | owners:
            settings = ports.get(dev)
            if dev not in there.indexes:  # the vif is gone; the element hears of it by itself
                continue
            if dev not in filters or filters[dev].priority != tc.SHAPE_PRIORITY:  # nothing is diverted, or too early
                yield Shape(there.ns, dev, "element")
            elif settings is None or not _is_whole(there, dev, settings):  # diverted to nowhere
                yield Shape(there.ns, dev, "element", drop=True)
            else:
                seen = self._seen(there.ns, settings)
                yield Shape(there.ns, dev, "element", **seen, drop=filters[dev].name == bpf.DROP)

    # --- change -------------------------------------------------------------------------------

    def end_outdated(self) -> None:
        """End an element of an earlier version, which doesn't know our settings; the next one takes its TAPs over."""
        try:
            with Element(self._place.run) as running:
                if all(settings.keys() >= _KNOWN for settings in running.ports().values()):
                    return
                os.kill(running.state()["pid"], SIGTERM)
        except OSError:  # none runs
            return
        deadline = time.monotonic() + _DIES_WITHIN_S
        while element.is_running(self._place.run) and time.monotonic() < deadline:
            time.sleep(0.02)

    def ensure(self, there: There, shapes: Sequence[Shape], ports: Mapping[str, Settings]) -> Failures:
        """Make or change them, starting the element where none runs."""
        if not shapes:
            return {}
        failures = there.missing(shapes)
        able = [o for o in shapes if o.key not in failures]
        try:
            with self._running() as running:
                for o in able:
                    failures.update(self._ensure_port(there, running, o, ports.get(o.dev)))
                diverted = [o for o in able if o.key not in failures]
                failures |= there.apply([r for o in diverted for r in self._divert(there.indexes[o.dev], o)])
                return failures | there.apply([_delete_old(there.indexes[o.dev], o) for o in diverted], _GONE)
        except (OSError, ViniError) as e:
            return failures | {o.key: f"The link element can't shape {o.ns} {o.dev}: {e}" for o in able}

    def _ensure_port(self, there: There, running: Element, o: Shape, have: Settings | None) -> Failures:
        name = (self._namespace(o.ns), o.dev)
        index = there.indexes[o.dev]
        want = {"netns": there.inode, "ifindex": index, **self._settings(o)}
        splits = element.needs_frames(want)
        if have is not None and _is_whole(there, o.dev, have):
            running.set(name, want)
            return there.apply([(o, port.splitting(index, splits))])
        try:
            running.remove(name)
            with port.opened(o.dev, index) as fds:
                failures = there.apply([(o, port.configured(index)), (o, port.splitting(index, splits))])
                if not failures:
                    running.set(name, want, fds)
                return failures
        except (OSError, DriverError) as e:
            return {o.key: f"The link element can't shape {o.ns} {o.dev}: {e}"}

    def _settings(self, o: Shape) -> Settings:
        """The element's own, for a Shape; `_seen` is the inverse."""
        numbers = {name: int(getattr(o, name)) for name in _NUMBERS}
        words = {name: values.index(getattr(o, name)) for name, values in _WORDS.items()}
        paths = {name: getattr(o, name) for name in element.FILES}
        home = self._place.sliver(o.ns)
        return numbers | words | {k: str(home / path) if path else element.NO_FILE for k, path in paths.items()}

    def _seen(self, ns: str, settings: Settings) -> dict[str, Any]:
        numbers: dict[str, Any] = {name: settings[name] for name in _NUMBERS}
        numbers["keeps_order"] = bool(settings["keeps_order"])
        words = {name: values[settings[name]] for name, values in _WORDS.items()}
        home = f"{self._place.sliver(ns)}/"
        paths = {name: settings[name].removeprefix(home) for name in element.FILES}
        return numbers | words | {k: "" if path == element.NO_FILE else path for k, path in paths.items()}

    def _divert(self, index: int, o: Shape) -> list[tuple[Shape, bytes]]:
        name = bpf.DROP if o.drop else bpf.REDIRECT
        return [(o, tc.add_clsact(index)), (o, tc.set_filter(index, self._program(name), name))]

    def remove(self, there: There, shapes: Sequence[Shape]) -> Failures:
        """Let packets pass undiverted; the hooks go too unless somebody else's filters are there."""
        if not shapes:
            return {}
        here = [(o, there.indexes[o.dev]) for o in shapes if o.dev in there.indexes]
        filters = [r for o, index in here for r in ((o, tc.delete_filter(index)), _delete_old(index, o))]
        failures = there.apply(filters, _GONE)
        closing = self.forget(there.ns, shapes)
        taps = [(o, index) for o, index in here if index | bpf.TAP_BIT in there.links]
        requests = [(o, port.disowned(i) if o.dev in closing else port.deleted(i)) for o, i in taps]
        failures |= there.apply(requests, _GONE)
        unused = [(o, index) for o, index in here if not _has_filters(there, index)]
        return failures | there.apply([(o, tc.delete_clsact(index)) for o, index in unused], _GONE)

    def forget(self, ns: str, shapes: Sequence[Shape]) -> set[str]:
        """The element drops these ports; the vifs whose TAP it held and is closing now."""
        if not shapes:
            return set()
        try:
            with Element(self._place.run) as running:
                return {o.dev for o in shapes if running.remove((self._namespace(ns), o.dev))}
        except OSError:
            return set()

    def _running(self) -> Element:
        try:
            return Element(self._place.run)
        except OSError:
            element.start(self._place.run)
            return Element(self._place.run)

    def _namespace(self, ns: str) -> str:
        return self._place.netns(ns).name

    def _program(self, name: str) -> int:
        if name not in self._programs:
            self._programs[name] = bpf.load(name)
        return self._programs[name]

    def __del__(self) -> None:
        for fd in self._programs.values():
            os.close(fd)


_NUMBERS = (
    "delay_us", "jitter_us", "keeps_order", "loss_ppm", "enter_ppm", "leave_ppm", "bad_ppm", "good_ppm",
    "duplicate_ppm", "corrupt_ppm", "reorder_ppm", "rate_kbit", "queue_packets", "queue_bytes", "queue_us",
)  # fmt: skip
# By the element's numbers (element/shape.h).
_WORDS = {"distribution": ("normal", "uniform", "pareto", "table"), "aqm": ("", "codel")}
_KNOWN = frozenset({*_NUMBERS, *_WORDS, *element.FILES})
_DIES_WITHIN_S = 10.0  # the kernel closes its descriptors one after the other


def _filter_at(there: There, index: int) -> tc.SeenFilter | None:
    """The filter that runs one of our programs on what leaves by that vif, the first one if an old one is there too."""
    found = {tc.seen_filter(m) for m in there.socket.dump(tc.dump_filters(index))}
    return min((f for f in found if f.name in bpf.PROGRAMS), key=lambda f: f.priority, default=None)


def _delete_old(index: int, o: Shape) -> tuple[Shape, bytes]:
    """The request that takes away the filter that an earlier version put before everything else."""
    return o, tc.delete_filter(index, priority=tc.OLD_SHAPE_PRIORITY)


def _has_filters(there: There, index: int) -> bool:
    try:
        return any(there.socket.dump(tc.dump_filters(index, parent)) for parent in (tc.EGRESS, tc.INGRESS))
    except OSError:  # no hooks at all
        return False


def _is_tap(there: There, index: int) -> bool:
    """Whether that vif has a TAP that is ours."""
    tap = there.links.get(index | bpf.TAP_BIT)
    return tap is not None and tap.group == GROUP


def _is_whole(there: There, dev: str, have: Settings) -> bool:
    """The element's port is for this very vif, and its TAP takes packets."""
    index = there.indexes[dev]
    same = have["netns"] == there.inode and have["ifindex"] == index
    return same and _is_tap(there, index) and there.links[index | bpf.TAP_BIT].up
