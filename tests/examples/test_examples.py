"""Every topology file in examples/ comes up with each daemon, keeps its promises, goes down, and leaves nothing."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path

import pytest
from msgspec.structs import replace
from pings import unanswered, up

from vini.api import files
from vini.experiment.reader import load
from vini.model import DAEMONS, SPEAKS, Topology

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.root


@cache
def topology(file: Path) -> Topology:
    """A topology file's, or that of an experiment file."""
    text = file.read_text()
    return load(file).topology if "\nduration:" in text else files.load(file)[0]


def spoken_by(daemon: str, found: Topology) -> bool:
    return all(set(s.routing.protocols) <= SPEAKS[daemon] for s in found.slivers.values() if s.routing)


def with_daemon(daemon: str, found: Topology) -> Topology:
    slivers = {
        n: replace(s, routing=replace(s.routing, daemon=daemon)) if s.routing else s for n, s in found.slivers.items()
    }
    return replace(found, slivers=slivers)


CASES = [
    pytest.param(file, daemon, marks=pytest.mark.needs(daemon), id=f"{file.stem}-{daemon}")
    for file in sorted(EXAMPLES.glob("*.yaml"))
    for daemon in DAEMONS
    if spoken_by(daemon, topology(file))
]


def test_every_example_is_run_with_some_daemon():
    assert {case.values[0] for case in CASES} == set(EXAMPLES.glob("*.yaml"))


@pytest.mark.parametrize(("file", "daemon"), CASES)
def test_example_comes_up_keeps_its_promises_and_leaves_nothing(ours, file, daemon):
    wanted = with_daemon(daemon, topology(file))

    async def live() -> None:
        async with up(ours.client(), wanted) as (client, report):  # ready, and all that it expects can be reached
            assert report.ops > 0
            # Routers that have first ways go on to learn better ones, and while some have and others have not, a
            # packet may go round in a loop for a moment: so they are asked more than once.
            await client.wait_converged(wanted.name)
            assert await unanswered(client, wanted) == []
            again = await client.up(wanted)
            assert again.ops == 0

    asyncio.run(live())
    assert ours.leftovers() == [f"agent {pid}" for pid in ours.agents()]
