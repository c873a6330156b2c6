"""Shapes by the link element: a filter diverts what leaves by a vif into a TAP that the element reads.

Another filter, before it, lets pass what comes back: what is sent by the element's own socket, and by no other.
The order of steps is what keeps packets: the element is ready before the filter diverts, and what it sends may pass
before it is; the filters are gone before the element forgets.
"""

from __future__ import annotations

import logging
import os
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from signal import SIGTERM
from typing import Any

from vini.dataplane import element
from vini.dataplane.element import Element
from vini.model import DriverError, Shape, Value, ViniError
from vini.node import bpf, port, rtnl, tc
from vini.node.drivers import Failures, silence
from vini.node.drivers.silence import GONE, Silence
from vini.node.drivers.there import There
from vini.node.place import GROUP, Place
from vini.node.rtnl import SeenLink

log = logging.getLogger("vini.agent")
Settings = Mapping[str, Any]


class ElementShapes:
    """Holds the two loaded programs that all vifs have in common."""

    def __init__(self, place: Place, silent: Silence):
        self._place = place
        self._silence = silent
        self._programs: dict[str, int] = {}

    # --- observe ------------------------------------------------------------------------------

    def ports_by_namespace(self) -> dict[str, dict[str, Settings]]:
        """What the element holds: file name in /run/netns -> vif -> settings; nothing where none runs."""
        out: dict[str, dict[str, Settings]] = defaultdict(dict)
        try:
            with Element(self._place.run, _PATIENCE_S) as running:
                for (namespace, dev), settings in running.ports().items():
                    if settings.keys() >= _KNOWN:  # else an earlier version's, which can't do what is asked of it
                        out[namespace][dev] = settings
        except OSError:  # not started, or killed: its ports are gone with it; or it hangs, and moves no packet
            return {}
        return out

    def observe(
        self, there: There, qdiscs: Sequence[tc.SeenQdisc], ports: Mapping[str, Settings], others: Collection[str]
    ) -> Iterator[Shape]:
        """Whole shapes as asked for; of half-made or half-destroyed ones, what they do to packets.

        A silence that belongs to none of the vifs of `others` is told as ours, so that it is taken away.
        """
        seen = {there.links[q.index].dev: _filters_at(there, q.index) for q in qdiscs if q.kind == "clsact"}
        filters = {dev: f for dev, f in seen.items() if f.way or (f.silent and dev not in others)}
        taps = {q.index ^ bpf.TAP_BIT for q in qdiscs if q.index & bpf.TAP_BIT}
        owners = {there.links[index].dev for index in taps if index in there.links and _is_tap(there, index)}
        for dev in filters.keys() | ports.keys() | owners:
            settings = ports.get(dev)
            if dev not in there.indexes:  # the vif is gone; the element hears of it by itself
                continue
            f = filters.get(dev, _NO_FILTERS)
            if f.way is None or f.way.priority != tc.SHAPE_PRIORITY:  # nothing is diverted, or too early
                yield Shape(there.ns, dev, "element")
            elif settings is None or not _is_whole(there, dev, settings):  # diverted to nowhere
                yield Shape(there.ns, dev, "element", drop=True)
            elif f.silent != f.drops or not (f.drops or f.passes == bpf.released_name(settings["cookie"])):
                yield Shape(there.ns, dev, "element")
            else:
                yield Shape(there.ns, dev, "element", **self._seen(there.ns, settings), drop=f.drops)

    # --- change -------------------------------------------------------------------------------

    def end_useless(self) -> None:
        """End an element of an earlier version, which doesn't know our settings, and one that hangs as a whole.

        The next one takes its TAPs over.
        """
        try:
            with Element(self._place.run, _PATIENCE_S) as running:
                if all(settings.keys() >= _KNOWN for settings in running.ports().values()):
                    return
                os.kill(running.state()["pid"], SIGTERM)
        except (TimeoutError, BlockingIOError):  # it takes no word, or no further caller
            log.warning("The link element does not answer; it is replaced, and what it held is lost.")
            element.kill(self._place.run)
            return
        except OSError:  # none runs
            return
        deadline = time.monotonic() + _DIES_WITHIN_S
        while element.is_running(self._place.run) and time.monotonic() < deadline:
            time.sleep(0.02)

    def start(self) -> str:
        """Start it where none runs; why it can't, as a sentence.  At home: it serves all slivers, and the namespace of
        one in which it began would outlive that sliver."""
        try:
            if not element.is_running(self._place.run):
                element.start(self._place.run)
        except (OSError, ViniError) as e:
            return f"The link element does not start: {e}"
        return ""

    def ensure(self, there: There, shapes: Sequence[Shape], ports: Mapping[str, Settings]) -> Failures:
        """Make or change them; the element runs."""
        if not shapes:
            return {}
        failures = there.missing(shapes)
        able = [o for o in shapes if o.key not in failures]
        try:
            with Element(self._place.run) as running:
                for o in able:
                    failures.update(self._ensure_port(there, running, o, ports.get(o.dev)))
                ready = [o for o in able if o.key not in failures]
                failures |= there.apply([(o, self._way_out(there.indexes[o.dev], o)) for o in ready])
                failures |= there.apply([r for o in ready for r in _needless(there.indexes[o.dev], o)], GONE)
                return failures | self._silence.ensure(there, ready)
        except (OSError, ViniError) as e:
            return failures | {o.key: f"The link element can't shape {o.ns} {o.dev}: {e}" for o in able}

    def _ensure_port(self, there: There, running: Element, o: Shape, have: Settings | None) -> Failures:
        """A vif that was made anew may have the number of one of whose end the element has not heard yet: that one's
        port sends nothing more.  But the filters went with it, so a vif that has none gets a port of its own."""
        name = (self._namespace(o.ns), o.dev)
        index = there.indexes[o.dev]
        want = {"netns": there.inode, "ifindex": index, **self._settings(o)}
        splits = element.needs_frames(want)
        if have is not None and _is_whole(there, o.dev, have) and _filters_at(there, index) != _NO_FILTERS:
            running.set(name, want | {"cookie": have["cookie"]})
            return there.apply([(o, port.splitting(index, splits))]) | _let_pass(there, o, have["cookie"])
        try:
            running.remove(name)
            with port.opened(o.dev, index) as (tap, out, cookie):
                failures = there.apply([(o, port.configured(index)), (o, port.splitting(index, splits))])
                failures |= _let_pass(there, o, cookie)
                if not failures:
                    running.set(name, want | {"cookie": cookie}, (tap, out))
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

    def _way_out(self, index: int, o: Shape) -> bytes:
        name = bpf.DROP if o.drop else bpf.REDIRECT
        return tc.set_filter(index, self._program(name), name)

    def remove(self, there: There, shapes: Sequence[Shape]) -> Failures:
        """Let packets pass undiverted; the hooks go too unless somebody else's filters are there."""
        if not shapes:
            return {}
        here = [(o, there.indexes[o.dev]) for o in shapes if o.dev in there.indexes]
        failures = there.apply([r for o, index in here for r in _all_filters(index, o)], GONE)
        closing = self.forget(there.ns, shapes)
        taps = [(o, index) for o, index in here if _tap(there, index)]
        requests = [(o, port.disowned(i) if o.dev in closing else port.deleted(i)) for o, i in taps]
        failures |= there.apply(requests, GONE)
        return failures | silence.end(there, shapes) | silence.without_hooks(there, shapes)

    def forget(self, ns: str, shapes: Sequence[Shape]) -> set[str]:
        """The element drops these ports; the vifs whose TAP it held and is closing now."""
        if not shapes:
            return set()
        try:
            with Element(self._place.run) as running:
                return {o.dev for o in shapes if running.remove((self._namespace(ns), o.dev))}
        except OSError:
            return set()

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
_KNOWN = frozenset({"cookie", *_NUMBERS, *_WORDS, *element.FILES})
_PATIENCE_S = 1.0  # for the list of its ports, which takes it milliseconds
_DIES_WITHIN_S = 10.0  # the kernel closes its descriptors one after the other


class _Filters(Value, frozen=True):
    """Ours at a vif: what becomes of packets that leave (the first one, if an old one is there too), whose packets
    pass, by that filter's name, and whether what comes in is dropped."""

    way: tc.SeenFilter | None = None
    passes: str = ""
    silent: bool = False

    @property
    def drops(self) -> bool:
        return self.way is not None and self.way.name == bpf.DROP


_NO_FILTERS = _Filters()


def _filters_at(there: There, index: int) -> _Filters:
    found = tc.filters(there.socket, index)
    way = min((f for f in found if f.name in (bpf.DROP, bpf.REDIRECT)), key=lambda f: f.priority, default=None)
    passes = next((f.name for f in found if f.priority == tc.SHAPED_PRIORITY and f.name), "")
    return _Filters(way, passes, silence.is_at(there, index))


def _let_pass(there: There, o: Shape, cookie: int) -> Failures:
    """What the socket of that cookie sends passes the vif's filters, but not those of a silent fault."""
    if o.drop:
        return there.apply([(o, tc.add_clsact(there.indexes[o.dev]))])
    index, name = there.indexes[o.dev], bpf.released_name(cookie)
    fd = bpf.load_instructions(bpf.RELEASED, bpf.released(cookie))
    try:
        passing = tc.set_filter(index, fd, name, priority=tc.SHAPED_PRIORITY)
        return there.apply([(o, tc.add_clsact(index)), (o, passing)])
    finally:
        os.close(fd)


def _needless(index: int, o: Shape) -> list[tuple[Shape, bytes]]:
    """The requests that take away an earlier version's filter, and under a silent fault the one that lets pass."""
    priorities = (tc.OLD_SHAPE_PRIORITY, *((tc.SHAPED_PRIORITY,) if o.drop else ()))
    return [(o, tc.delete_filter(index, priority=p)) for p in priorities]


def _all_filters(index: int, o: Shape) -> list[tuple[Shape, bytes]]:
    """The requests that take all of ours at the way out away: no packet goes in circles, nor is held by nobody."""
    priorities = (tc.SHAPE_PRIORITY, tc.OLD_SHAPE_PRIORITY, tc.SHAPED_PRIORITY)
    return [(o, tc.delete_filter(index, priority=p)) for p in priorities]


def _tap(there: There, index: int) -> SeenLink | None:
    """That vif's TAP, ours or not yet."""
    tap = there.links.get(index | bpf.TAP_BIT)
    return tap if tap is not None and rtnl.is_tap(tap) else None


def _is_tap(there: There, index: int) -> bool:
    """Whether that vif has a TAP that is ours."""
    tap = _tap(there, index)
    return tap is not None and tap.group == GROUP


def _is_whole(there: There, dev: str, have: Settings) -> bool:
    """The element's port is for this very vif, and its TAP takes packets."""
    index = there.indexes[dev]
    same = have["netns"] == there.inode and have["ifindex"] == index
    return same and _is_tap(there, index) and there.links[index | bpf.TAP_BIT].up
