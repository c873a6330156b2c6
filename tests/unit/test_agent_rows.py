"""What an agent says of a slice whose change concerns a part of it only."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace
from test_mirror import TO_N2, made, star

from vini.bus import Report
from vini.model import File, SliceSpec
from vini.node.fake import FakeDriver
from vini.node.fake_agent import agent_over
from vini.node.ledgers import Ledgers

WHY = "the path between nodes n1 and n2 is down"


def with_a_file(spec: SliceSpec, generation: int, not_before: float = 0.0) -> SliceSpec:
    more = File("s.r3", "x", f"{generation}")
    return replace(spec, generation=generation, objects=spec.objects | {more}, not_before=not_before)


async def test_what_ails_slivers_that_a_change_does_not_concern_is_told_with_it(tmp_path: Path) -> None:
    """Else their links would seem to be back, and to fail again with the next full look."""
    agent = agent_over(FakeDriver(), Ledgers.below(tmp_path))
    agent.listener = lambda _: None
    spec = made(*star())["n1"]

    async def accept(spec: SliceSpec) -> dict[str, dict[str, str]]:
        report = await agent.accept(spec, lambda *_: None, "central")
        assert isinstance(report, Report)
        return {row.sliver: row.faults for row in report.slivers}

    assert await accept(replace(spec, generation=1)) == {"s.h": {}, "s.r3": {}}
    agent._paths.failed = frozenset({TO_N2})
    await agent.work(agent._full_pass)
    assert await accept(with_a_file(spec, 2)) == {"s.h": {"h--r1": WHY}, "s.r3": {}}
    assert await accept(with_a_file(spec, 3, not_before=1e11)) == {"s.h": {"h--r1": WHY}, "s.r3": {}}
    agent._paths.failed = frozenset()
    assert await accept(with_a_file(spec, 4)) == {"s.h": {}, "s.r3": {}}
    assert await accept(replace(spec, generation=5, objects=frozenset())) == {}
    agent.close()
