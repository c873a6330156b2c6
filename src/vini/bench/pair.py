"""Links by themselves: namespaces joined by veth pairs and shaped by the node's own driver, without slice or agent."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from vini.dataplane.element import Element
from vini.model import Gate, Impairment, Shape, ViniError
from vini.node import netns, rtnl, rtnl_addresses
from vini.node.drivers.shape import ShapeDriver
from vini.node.netlink import Socket
from vini.node.pins import Pins
from vini.node.place import Place
from vini.truth import Direction

Backend = Literal["netem", "element"]
_FIRST_INDEX = (70_000, 80_000)


class Pairs:
    """Pairs of namespaces `a<i>` and `b<i>`, with the vif `to-b` in one and `to-a` in the other.

    Their addresses are 10.<i>.0.1 and 10.<i>.0.2.
    """

    def __init__(self, place: Place, count: int):
        self.place, self.count = place, count
        self.driver = ShapeDriver(place)
        self._pins = Pins(place)
        self._names = [f"s.{end}{i}" for i in range(count) for end in "ab"]

    def make(self) -> None:
        """All of them, unshaped."""
        self._pins.prepare(self._names)
        for i in range(self.count):
            with netns.back_home():
                for end in "ab":
                    self._pins.make(f"s.{end}{i}")
            self._join(i)

    def remove(self) -> None:
        """All of them, and the link element of this place."""
        with suppress(OSError), Element(self.place.run) as e:
            os.kill(e.state()["pid"], signal.SIGTERM)
        self._pins.remove(self._names)

    def where(self, sliver: str) -> Path:
        """The namespace of `a0`, `b0`, `a1`, ..."""
        return self.place.netns(f"s.{sliver}")

    def shape(self, i: int, end: str, backend: Backend, **settings: Any) -> Shape:
        """What leaves end "a" or "b" of a pair."""
        return Shape(f"s.{end}{i}", f"to-{_other(end)}", backend, **settings)

    def gate(self, o: Shape) -> Gate:
        """The one behind that Shape, at the pair's other end."""
        end, i = o.ns[2], o.ns[3:]
        return Gate(f"s.{_other(end)}{i}", f"to-{end}", o.ns, o.dev)

    def ensure(self, *shapes: Shape) -> None:
        """With their Gates, as in a slice.  Raises ViniError where one can't be given."""
        if failures := self.driver.ensure(shapes) or self.driver.ensure([self.gate(o) for o in shapes]):
            raise ViniError(next(iter(failures.values())))

    def bare(self, *shapes: Shape) -> None:
        """Without them again."""
        if failures := self.driver.remove([self.gate(o) for o in shapes]) or self.driver.remove(shapes):
            raise ViniError(next(iter(failures.values())))

    def direction(self, i: int, end: str, asked: Impairment) -> Direction:
        """As the measurement wants it."""
        return Direction(f"{end}{i}", f"to-{_other(end)}", f"{_other(end)}{i}", f"to-{end}", asked)

    def _join(self, i: int) -> None:
        ends = [os.open(self.where(f"{end}{i}"), os.O_RDONLY | os.O_CLOEXEC) for end in "ab"]
        macs = tuple(f"02:00:00:{i >> 8:02x}:{i & 255:02x}:0{n}" for n in (1, 2))
        indexes = (_FIRST_INDEX[0] + i, _FIRST_INDEX[1] + i)
        try:
            with Socket() as socket:
                socket.insist([rtnl.add_veth((ends[0], ends[1]), ("to-b", "to-a"), indexes, (macs[0], macs[1]))])
        finally:
            for fd in ends:
                os.close(fd)
        for n, end in enumerate("ab"):
            with netns.inside(self.where(f"{end}{i}")), Socket() as socket:
                up = rtnl.set_link(f"to-{_other(end)}", mtu=1500, up=True, alias="")
                socket.insist([up, rtnl_addresses.add_address(indexes[n], f"10.{i}.0.{n + 1}/24")])


def _other(end: str) -> str:
    return "b" if end == "a" else "a"


@contextmanager
def pairs(place: Place, count: int) -> Iterator[Pairs]:
    """So many pairs, gone when the block ends."""
    place.run.mkdir(parents=True, exist_ok=True)
    made = Pairs(place, count)
    try:
        made.make()
        yield made
    finally:
        made.remove()
