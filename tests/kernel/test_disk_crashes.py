"""A crash at any step of making, taking out and growing a sliver's disk loses nothing of what was written to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vini.model import Disk
from vini.node import netns
from vini.node.container import disks, filesystems

NS = "s.a"
SMALL, LARGE = Disk(NS, 16), Disk(NS, 20)


class Crash(BaseException):
    pass


@pytest.fixture
def place(own):
    yield own.place
    disks.forget(own.place, NS)


def crashing(patch: pytest.MonkeyPatch, step: int) -> None:
    """The step-th look at, or change of, what is mounted or named is the last."""
    left = step

    def counted(real: Callable) -> Callable:
        def call(*arguments, **options):
            nonlocal left
            left -= 1
            if left == 0:
                raise Crash
            return real(*arguments, **options)

        return call

    for owner, name in ((Path, "rename"), (Path, "unlink"), (Path, "mkdir"), (netns, "unmount"), (filesystems, "_run")):
        patch.setattr(owner, name, counted(getattr(owner, name)))


@pytest.mark.skipif(not filesystems.are_there(), reason="this machine can make no disks")
@pytest.mark.parametrize("deed", ["taken away", "resized", "resized after a reboot"])
def test_what_was_written_is_there_after_a_crash_at_any_step(place, deed):
    for step in range(1, 100):
        disks.ensure(place, SMALL)
        (place.sliver(NS) / "data").write_text("kept")
        if deed == "resized after a reboot":
            netns.unmount(place.sliver(NS))
        done = True
        with pytest.MonkeyPatch.context() as patch:
            crashing(patch, step)
            try:
                act(place, deed)
            except Crash:
                done = False
        act(place, deed)
        assert (place.sliver(NS) / "data").read_text() == "kept", f"{deed}, step {step}"
        assert place.sliver(NS).is_mount() == (deed != "taken away")
        assert not (place.run / "disks").exists() or not any((place.run / "disks").iterdir())
        disks.forget(place, NS)
        if done:
            return
    raise AssertionError("there are more steps than that")


def act(place, deed: str) -> None:
    if deed == "taken away":
        disks.remove(place, NS)
    else:
        disks.ensure(place, LARGE)
