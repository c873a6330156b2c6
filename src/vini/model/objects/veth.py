"""Links inside of a node: pairs of interfaces."""

from __future__ import annotations

from vini.model.objects.base import Object
from vini.model.value import Key, Value


class VethEnd(Value, frozen=True):
    """One end of a veth pair; `index` is the interface index, unique inside its namespace."""

    ns: str
    dev: str
    index: int
    mac: str


class Veth(Object, frozen=True):
    """A veth pair.  It is recognised by its two interface indexes, which name-derived hashes choose."""

    ends: tuple[VethEnd, VethEnd]

    @property
    def key(self) -> Key:
        a, b = self.ends
        return ("veth", a.ns, a.dev, b.ns, b.dev)

    @property
    def on(self) -> tuple[Key, ...]:
        return tuple(("netns", e.ns) for e in self.ends)

    @property
    def slivers(self) -> tuple[str, ...]:
        return tuple(e.ns for e in self.ends)
