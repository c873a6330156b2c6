"""Services that a user asks for: `up` tells of one that dies at its start, and makes nobody else wait."""

from __future__ import annotations

import asyncio
import time

import pytest
from own_place import OwnPlace, eventually

from vini.model import Command, Sliver, Topology, ViniError

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2")]


def up(own: OwnPlace, *commands: Command) -> float:
    """How long it took, s."""
    started = time.monotonic()
    asyncio.run(own.client().up(Topology("v", {"a": Sliver("a", commands=commands)})))
    return time.monotonic() - started


@pytest.mark.parametrize("life", ["exit 3", "sleep 0.3; exit 3", "exit 0"])
def test_up_fails_with_a_service_that_dies_at_its_start(own: OwnPlace, life: str) -> None:
    with pytest.raises(ViniError) as failed:
        up(own, Command(f"echo no such colour >&2; {life}", service=True))
    said = str(failed.value)
    assert f"`echo no such colour >&2; {life}` ended soon after its start" in said
    assert "its last lines: no such colour" in said


def test_up_waits_until_a_service_has_lived_for_a_second_and_only_once(own: OwnPlace) -> None:
    lives = Command("sleep 1000", service=True)
    assert up(own, lives) >= 1
    eventually(lambda: up(own, lives) < 1)
    own.kill_agent()
    eventually(lambda: up(own, lives) < 1)  # another agent knows from its record that it lives


def test_who_has_no_service_does_not_wait(own: OwnPlace) -> None:
    up(own)  # starts the agent
    eventually(lambda: up(own, Command("true")) < 1)
