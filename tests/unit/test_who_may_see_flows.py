"""Of which slices a central may ask what a node wrote down: those that it asked for, also when they are long gone."""

from __future__ import annotations

from pathlib import Path

from vini.model import Netns, SliceSpec
from vini.node.fake import FakeDriver
from vini.node.fake_agent import agent_over
from vini.node.ledgers import Ledgers


async def test_of_this_machines_own_slices_the_central_sees_nothing(tmp_path: Path) -> None:
    agent = agent_over(FakeDriver(), Ledgers.below(tmp_path))

    async def up(name: str, asker: str, generation: int = 1) -> None:
        spec = SliceSpec(name, "n", generation, frozenset({Netns(f"{name}.a")}))
        await agent.accept(spec, lambda *_: None, asker)

    await up("own_lab", "here")
    await up("home_a", "central")
    await up("home_b", "central")
    await agent.accept(SliceSpec("home_b", "n", 2), lambda *_: None, "central")
    await up("own_gone", "here")
    await agent.accept(SliceSpec("own_gone", "n", 2), lambda *_: None, "here")
    seen = {
        name: agent.wanted.may_see(name, "central")
        for name in ("own_lab", "own_gone", "home_a", "home_b", "home_forgotten", "lab")
    }
    assert seen == {
        "own_lab": False, "own_gone": False, "home_a": True, "home_b": True, "home_forgotten": True, "lab": False,
    }  # fmt: skip
    assert all(agent.wanted.may_see(name, "here") for name in seen)
    agent.close()
