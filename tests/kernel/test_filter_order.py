"""Users' programs at a vif's way out run before its shaping, also where an earlier version's shaping ran first."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from own_place import OwnPlace
from test_programs import TO_B, R, Row

from vini.dataplane.element import Element
from vini.model import Hook, Shape
from vini.node import bpf, netns, tc
from vini.node.drivers.shape import ShapeDriver
from vini.node.netlink import Socket

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.needs("element", "programs"),
]
LEAVING = Hook(R, "to-b", "output", "tc", "leaving")


@pytest.fixture
def row() -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="fo-", dir="/run") as run:
        own = OwnPlace(Path(run))
        made = Row(own.place)
        try:
            yield made
        finally:
            with suppress(OSError), Element(made.place.run) as e:
                os.kill(e.state()["pid"], signal.SIGTERM)
            made.close()
            own.destroy()


def filters() -> list[tuple[int, str]]:
    with Socket() as s:
        seen = tc.filters(s, TO_B)
    return sorted((f.priority, f.name.split()[0]) for f in seen if f.name)


def test_a_program_sees_what_leaves_once_and_before_it_is_delayed(row: Row) -> None:
    shaping, shape = ShapeDriver(row.place), Shape(R, "to-b", "element", delay_us=20_000)
    assert shaping.ensure([shape]) == {}
    row.run(R, "ip addr add 10.9.0.3/24 dev to-b")
    row.ensure(row.bpf(), LEAVING)
    with netns.inside(row.place.pin(R)):
        assert filters() == [(6, bpf.RELEASED), (8, "vini_program"), (16, bpf.REDIRECT)]
    before = row.programs.spent(R)
    said = row.run(R, "ping -n -i 0.02 -W 5 -c 40 10.9.0.2")
    assert " 40 received" in said and float(said.rpartition("= ")[2].split("/")[0]) >= 20
    others = 30  # ARP, router solicitations
    assert 40 <= row.programs.spent(R).passed - before.passed < 40 + others
    assert shaping.observe([R]) == {shape}
    assert shaping.remove([shape]) == {}
    assert LEAVING in row.observed(), "the hooks at the vif are not only the shape's"
    row.remove(LEAVING)
    with netns.inside(row.place.pin(R)):
        assert "clsact" not in row.run(R, "tc qdisc show dev to-b")


def test_the_shaping_of_an_earlier_version_is_known_and_replaced(row: Row) -> None:
    shaping, shape = ShapeDriver(row.place), Shape(R, "to-b", "element", delay_us=20_000)
    assert shaping.ensure([shape]) == {}
    fd = bpf.load(bpf.REDIRECT)
    with netns.inside(row.place.pin(R)), Socket() as s:
        old = tc.set_filter(TO_B, fd, bpf.REDIRECT, priority=tc.OLD_SHAPE_PRIORITY)
        new = [tc.delete_filter(TO_B), tc.delete_filter(TO_B, priority=tc.SHAPED_PRIORITY)]
        assert s.transact([old, *new]) == [0, 0, 0]
        assert filters() == [(1, bpf.REDIRECT)]
    os.close(fd)
    assert shaping.observe([R]) != {shape}
    assert shaping.ensure([shape]) == {}
    assert shaping.observe([R]) == {shape}
    with netns.inside(row.place.pin(R)):
        assert filters() == [(6, bpf.RELEASED), (16, bpf.REDIRECT)]
