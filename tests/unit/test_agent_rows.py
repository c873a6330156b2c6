"""What an agent says of a slice whose change concerns a part of it only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from msgspec.structs import replace
from test_mirror import TO_N2, made, star

from vini.bus import Report
from vini.model import AnyObject, File, Interface, Netns, SliceSpec
from vini.node.drivers import Failures
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


class Watched(FakeDriver):
    """It notes when it was looked at, and when it acted."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, float]] = []

    def observe(self, namespaces: Collection[str]) -> frozenset[AnyObject]:
        self.calls.append(("observe", time.time()))
        return super().observe(namespaces)

    def ensure(self, objects: Sequence[AnyObject]) -> Failures:
        self.calls.append(("ensure", time.time()))
        return super().ensure(objects)


async def test_what_is_there_is_looked_at_before_a_moment_and_only_acted_on_in_it(tmp_path: Path) -> None:
    driver = Watched()
    agent = agent_over(driver, Ledgers.below(tmp_path))
    spec = made(*star())["n1"]
    await agent.accept(replace(spec, generation=1), lambda *_: None, "central")
    at = time.time() + 1.0
    fallen = next(o for o in spec.objects if isinstance(o, Interface) and o.ns == "s.h" and o.up)
    objects = spec.objects - {fallen} | {replace(fallen, up=False)}
    await agent.accept(replace(spec, generation=2, objects=objects, not_before=at), lambda *_: None, "central")
    driver.calls.clear()
    resting = asyncio.create_task(agent._rest(2.0, 0.0))
    while not (acts := (await agent.acts("s", 1, "central")).acts):
        await asyncio.sleep(0.01)
    await resting
    assert driver.have[fallen.key] == replace(fallen, up=False)
    assert [call for call, _ in driver.calls] == ["observe", "ensure"]
    (_, looked), (_, acted) = driver.calls
    (act,) = acts
    assert looked <= at <= act.began <= acted <= act.linked <= act.done and act.waited
    assert agent._ledgers.central.in_force("s") == 2
    agent.close()


async def test_where_another_thing_is_due_than_was_foreseen_it_is_looked_anew(tmp_path: Path) -> None:
    """As where a slice's time is over in that moment."""
    driver = FakeDriver()
    agent = agent_over(driver, Ledgers.below(tmp_path))
    spec = made(*star())["n1"]
    at = time.time() + 0.05
    await agent.accept(replace(spec, generation=1, expires=at), lambda *_: None, "central")
    await agent.accept(with_a_file(spec, 2, not_before=at), lambda *_: None, "central")
    other = replace(spec, slice="t", generation=1, objects=frozenset({Netns("t.x")}), expires=at)
    await agent.accept(other, lambda *_: None, "central")
    await agent.work(agent._advance)
    slivers = {ns for o in driver.have.values() for ns in o.slivers}
    assert "t.x" not in slivers and "s.h" in slivers and File("s.r3", "x", "2").key in driver.have
    agent.close()


async def test_a_slice_that_is_over_is_not_built_again_by_what_was_to_come_later(tmp_path: Path) -> None:
    driver = FakeDriver()
    agent = agent_over(driver, Ledgers.below(tmp_path))
    spec = made(*star())["n1"]
    over = time.time() + 0.05
    at = over + 0.1
    await agent.accept(replace(spec, generation=1, expires=over), lambda *_: None, "central")
    await agent.accept(replace(with_a_file(spec, 2, at), expires=over), lambda *_: None, "central")
    assert driver.have
    time.sleep(max(0.0, over - time.time()))
    await agent.work(agent._full_pass)
    assert not driver.have
    time.sleep(max(0.0, at - 0.05 - time.time()))
    await agent.work(agent._advance)
    assert time.time() >= at and agent._ledgers.moment() > 1 and not driver.have
    assert (await agent.acts("s", 1, "central")).acts == (), "it was not made"
    agent.close()


class Linking(Watched):
    """Links take their time, or are refused."""

    refuses = slow = False

    def ensure(self, objects: Sequence[AnyObject]) -> Failures:
        links = isinstance(objects[0], Interface)
        if links and self.refuses:
            return {o.key: "the kernel refused" for o in objects}
        failures = super().ensure(objects)
        if links and self.slow:
            time.sleep(0.05)
        return failures


def with_a_link_down(spec: SliceSpec, at: float) -> SliceSpec:
    fallen = next(o for o in spec.objects if isinstance(o, Interface) and o.ns == "s.h" and o.up)
    return replace(spec, generation=2, objects=spec.objects - {fallen} | {replace(fallen, up=False)}, not_before=at)


async def test_a_link_that_was_refused_is_not_told_as_made(tmp_path: Path) -> None:
    driver = Linking()
    agent = agent_over(driver, Ledgers.below(tmp_path))
    spec = made(*star())["n1"]
    await agent.accept(replace(spec, generation=1), lambda *_: None, "central")
    await agent.accept(with_a_link_down(spec, time.time() + 0.05), lambda *_: None, "central")
    driver.refuses = True
    await agent.work(agent._advance)
    (act,) = (await agent.acts("s", 1, "central")).acts
    assert (act.linked, act.failed) == (0.0, "the kernel refused") and act.waited
    agent.close()


async def test_each_slice_is_told_of_its_own_links(tmp_path: Path) -> None:
    """Not of another's in the same moment; and who does not ask is told of none."""
    driver = Linking()
    agent = agent_over(driver, Ledgers.below(tmp_path))
    spec, other = made(*star())["n1"], SliceSpec("t", "n1", 1, frozenset({Netns("t.x")}))
    at = time.time() + 0.09
    await agent.accept(replace(spec, generation=1), lambda *_: None, "central")
    await agent.accept(other, lambda *_: None, "central")
    await agent.accept(with_a_link_down(spec, at), lambda *_: None, "central")
    more = frozenset({Netns("t.x"), Netns("t.y")})
    await agent.accept(replace(other, generation=2, objects=more, not_before=at), lambda *_: None, "central")
    driver.slow = True
    await agent.work(agent._advance)
    (mine,), (its,) = [(await agent.acts(slice_, 1, "central")).acts for slice_ in ("s", "t")]
    assert mine.linked >= at + 0.05 and its.linked == 0.0 and its.waited
    assert [a.linked for a in (await agent.acts("s", 1, "central", linked=False)).acts] == [0.0]
    agent.close()
