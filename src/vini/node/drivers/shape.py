"""Shapes of this machine: what happens to packets that leave a namespace by a vif; and the Gates and exits behind them.

Two backends with one meaning, chosen by each Shape (docs/explanation/links.md): the kernel's
netem, and the link element where the kernel has none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TypeVar

from vini.model import AnyObject, Gate, Shape, Tunnel, underlay
from vini.node import netns, tc
from vini.node.drivers import Failures, tunnel
from vini.node.drivers.exits import Exits, Vif
from vini.node.drivers.gate import Gates
from vini.node.drivers.shape_element import ElementShapes
from vini.node.drivers.shape_netem import NetemShapes
from vini.node.drivers.silence import Silence
from vini.node.drivers.there import There
from vini.node.netlink import Socket
from vini.node.place import Place

_Object = TypeVar("_Object", Shape, Gate)


class ShapeDriver:
    """Holds nothing but loaded programs; all else is asked of the kernel and of the element."""

    kinds = (Shape, Gate)

    def __init__(self, place: Place):
        self._place = place
        silence = Silence()
        self._netem = NetemShapes(place, silence)
        self._element = ElementShapes(place, silence)
        self._gates = Gates()
        self._exits = Exits(place)

    def observe(self, namespaces: Collection[str]) -> frozenset[AnyObject]:
        """The gates and shapes in those namespaces, of shapes also half-made ones: as what they do to packets."""
        out: set[AnyObject] = set()
        tunnels: dict[Vif, Tunnel] = {}
        shaped = self._element.ports_by_namespace()
        with netns.back_home():
            for ns in namespaces:
                ports = shaped.get(f"{self._place.mark}.{ns}", {})
                with self._there(ns) as there:
                    if there is None:
                        continue
                    qdiscs = [tc.seen_qdisc(m) for m in there.socket.dump(tc.dump_qdiscs())]
                    by_netem = list(self._netem.observe(there, qdiscs))
                    out.update(by_netem)
                    out.update(self._element.observe(there, qdiscs, ports, {o.dev for o in by_netem}))
                    hooked = {q.index for q in qdiscs if q.kind == "clsact"}
                    out.update(self._gates.observe(there, hooked))
                    if hooked:
                        tunnels.update(self._tunnels(there))
        return frozenset(self._exits.judged(out, tunnels, namespaces))

    def _tunnels(self, there: There) -> dict[Vif, Tunnel]:
        """Those whose interfaces are there."""
        found = tunnel.observe(there.ns, there.socket, there.links, self._place.pin(underlay(there.ns)))
        return {(o.ns, o.dev): o for o in found}

    def ensure(self, objects: Sequence[AnyObject]) -> Failures:
        """Make or change them.  A change loses nothing that is in flight."""
        failures = self._at_gates(objects, self._gates.ensure)
        every = [o for o in objects if isinstance(o, Shape)]
        if not every:
            return failures
        self._element.end_useless()
        if why := self._element.start() if _by_backend(every)[1] else "":
            failures.update((o.key, why) for o in _by_backend(every)[1])
            every = _by_backend(every)[0]
        tunnels: dict[Vif, Tunnel] = {}
        shaped = self._element.ports_by_namespace()
        with netns.back_home():
            for ns, shapes in _by_namespace(every):
                ports = shaped.get(f"{self._place.mark}.{ns}", {})
                with self._there(ns) as there:
                    if there is None:
                        failures.update((o.key, f"Sliver {ns} has no network namespace.") for o in shapes)
                        continue
                    netem, element = _by_backend(shapes)
                    failures.update(self._netem.ensure(there, netem))
                    failures.update(self._element.ensure(there, element, ports))
                    tunnels.update(self._tunnels(there))
        return failures | self._exits.ensure([o for o in every if o.key not in failures], tunnels)

    def remove(self, objects: Sequence[AnyObject]) -> Failures:
        """Take them away; what an element holds of them is lost."""
        failures = self._at_gates(objects, self._gates.remove)
        self._exits.remove([(o.ns, o.dev) for o in objects if isinstance(o, Shape)])
        with netns.back_home():
            for ns, shapes in _by_namespace([o for o in objects if isinstance(o, Shape)]):
                netem, element = _by_backend(shapes)
                with self._there(ns) as there:
                    if there is None:
                        self._element.forget(ns, element)
                        continue
                    failures.update(self._netem.remove(there, netem))
                    failures.update(self._element.remove(there, element))
        return failures

    def _at_gates(self, objects: Sequence[AnyObject], step: Callable[[There, list[Gate]], Failures]) -> Failures:
        failures: Failures = {}
        with netns.back_home():
            for ns, gates in _by_namespace([o for o in objects if isinstance(o, Gate)]):
                with self._there(ns) as there:
                    if there is not None:
                        failures.update(step(there, gates))
                    elif step == self._gates.ensure:
                        failures.update((o.key, f"Sliver {ns} has no network namespace.") for o in gates)
        return failures

    @contextmanager
    def _there(self, ns: str) -> Iterator[There | None]:
        """In that namespace, or None where there is none; the caller brings the thread home."""
        path = self._place.pin(ns)
        try:
            netns.enter(path)
            inode = path.stat().st_ino
        except OSError:  # never made, deleted meanwhile, or only the file of a half-made one: it isn't there
            yield None
            return
        with Socket() as socket:
            yield There(ns, inode, socket)


def _by_namespace(objects: Sequence[_Object]) -> Iterator[tuple[str, list[_Object]]]:
    for ns, group in groupby(sorted(objects, key=lambda o: o.key), key=lambda o: o.ns):
        yield ns, list(group)


def _by_backend(shapes: Sequence[Shape]) -> tuple[list[Shape], list[Shape]]:
    return [o for o in shapes if o.backend == "netem"], [o for o in shapes if o.backend == "element"]
