"""Two machines with one identity, as of a disk that was copied: whoever administers is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_agents import central, eventually, node
from msgspec.structs import replace

from vini import bus
from vini.central import attendance
from vini.central.delivery import Ailing
from vini.central.doubles import QUIET_S, Doubles, sentence


def failing(desk: object) -> list[tuple[str, ...]]:
    """What was told of the node, oldest first."""
    return [m.failing if isinstance(m, bus.Greeting) else m.sentences
            for _, m in list(desk.heard) if isinstance(m, (bus.Greeting, Ailing))]  # type: ignore[attr-defined]  # fmt: skip


async def test_the_administrator_is_told_and_told_when_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attendance, "QUIET_S", 1.0)
    async with central(tmp_path) as c:
        me = c.admit("one")
        async with node(tmp_path / "a", me) as a:
            await eventually(lambda: failing(c.desk) == [()])
            async with node(tmp_path / "b", me) as b:
                b.answers._greeting = replace(b.answers._greeting, pid=a.answers._greeting.pid + 1)
                await eventually(lambda: "two machines are this node in turn" in str(failing(c.desk)))
                await eventually(lambda: "does a second machine use a copy" in a.answers.uplink + b.answers.uplink)
                first = a.answers._greeting.pid  # it stays, and has been found to be one of two
                await eventually(lambda: any(line.pid == first and line.doubt for line in c.hub._lines.values()))
            await eventually(lambda: failing(c.desk)[-1] == ())


class TestDoubles:
    def test_one_machine_that_dials_again_is_none(self) -> None:
        doubles = Doubles()
        assert not any(doubles.displaced("n1", 7, 7) for _ in range(9))
        assert not any(doubles.displaced("n1", pid, pid + 1) for pid in range(7, 16))

    def test_two_are(self) -> None:
        now = [0.0]
        doubles = Doubles(lambda: now[0])
        assert not doubles.displaced("n1", 7, 8)
        assert not doubles.displaced("n2", 8, 7)
        assert doubles.displaced("n1", 8, 7) and doubles.displaced("n1", 7, 8)
        now[0] += QUIET_S
        assert not doubles.displaced("n1", 8, 7)

    def test_both_are_named(self) -> None:
        assert "(192.0.2.1 and 192.0.2.2)" in sentence("192.0.2.1", "192.0.2.2")
        assert "(both from 192.0.2.1)" in sentence("192.0.2.1", "192.0.2.1")
