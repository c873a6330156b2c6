"""Shapes of this machine: what happens to packets that leave a namespace by a vif.

Two backends with one meaning, chosen by each Shape (docs/explanation/links.md): the kernel's
netem, and the link element where the kernel has none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

from vini.model import AnyObject, Shape
from vini.node import netns, tc
from vini.node.drivers import Failures
from vini.node.drivers.shape_element import ElementShapes
from vini.node.drivers.shape_netem import NetemShapes
from vini.node.drivers.silence import Silence
from vini.node.drivers.there import There
from vini.node.netlink import Socket
from vini.node.place import Place


class ShapeDriver:
    """Holds nothing but loaded programs; all else is asked of the kernel and of the element."""

    kinds = (Shape,)

    def __init__(self, place: Place):
        self._place = place
        silence = Silence()
        self._netem = NetemShapes(place, silence)
        self._element = ElementShapes(place, silence)

    def observe(self, namespaces: Collection[str]) -> frozenset[AnyObject]:
        """The shapes in those namespaces, also half-made ones: as what they do to packets."""
        out: set[AnyObject] = set()
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
        return frozenset(out)

    def ensure(self, objects: Sequence[AnyObject]) -> Failures:
        """Make or change them.  A change loses nothing that is in flight."""
        failures: Failures = {}
        self._element.end_useless()
        shaped = self._element.ports_by_namespace()
        with netns.back_home():
            for ns, shapes in _by_namespace(objects):
                ports = shaped.get(f"{self._place.mark}.{ns}", {})
                with self._there(ns) as there:
                    if there is None:
                        failures.update((o.key, f"Sliver {ns} has no network namespace.") for o in shapes)
                        continue
                    netem, element = _by_backend(shapes)
                    failures.update(self._netem.ensure(there, netem))
                    failures.update(self._element.ensure(there, element, ports))
        return failures

    def remove(self, objects: Sequence[AnyObject]) -> Failures:
        """Take them away; what an element holds of them is lost."""
        failures: Failures = {}
        with netns.back_home():
            for ns, shapes in _by_namespace(objects):
                netem, element = _by_backend(shapes)
                with self._there(ns) as there:
                    if there is None:
                        self._element.forget(ns, element)
                        continue
                    failures.update(self._netem.remove(there, netem))
                    failures.update(self._element.remove(there, element))
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


def _by_namespace(objects: Sequence[AnyObject]) -> Iterator[tuple[str, list[Shape]]]:
    shapes = sorted((o for o in objects if isinstance(o, Shape)), key=lambda o: o.key)
    for ns, group in groupby(shapes, key=lambda o: o.ns):
        yield ns, list(group)


def _by_backend(shapes: Sequence[Shape]) -> tuple[list[Shape], list[Shape]]:
    return [o for o in shapes if o.backend == "netem"], [o for o in shapes if o.backend == "element"]
