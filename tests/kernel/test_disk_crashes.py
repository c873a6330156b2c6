"""A crash at any step of making, taking out and growing a sliver's disk loses nothing of what was written to it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from vini.model import Disk, Volume
from vini.node import netns, trees
from vini.node.container import disks, filesystems, volumes
from vini.node.container.filesystems import FileSystem

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


def noted(patch: pytest.MonkeyPatch) -> list[str]:
    """The programs that it runs from now on."""
    ran: list[str] = []
    real = filesystems._run

    def run(*command: str, **options) -> None:
        ran.append(command[0])
        real(*command, **options)

    patch.setattr(filesystems, "_run", run)
    return ran


@pytest.mark.skipif(not filesystems.are_there(), reason="this machine can make no disks")
def test_a_volume_that_is_to_hold_less_than_is_in_it_stays_as_it_is_and_says_why(own):
    large = Volume(NS, "data", 24)
    volumes.ensure(own.place, large)
    there = own.place.state / "volumes" / NS / "data"
    (there / "big").write_bytes(bytes(range(256)) * (10 << 12))
    for n in range(150):
        (there / str(n)).touch()
    volumes.release(own.place, NS)
    for small, said in ((replace(large, mb=8), "11 MB are in it.* 8 MB; "), (replace(large, inodes=100), "151 files")):
        with pytest.raises(OSError, match=f"{said}.*ask for more"):
            volumes.ensure(own.place, small)
        assert not any(there.iterdir())  # it is where it was, not in the directory, which has no bound
    with pytest.raises(OSError, match=r"kept in its directory, which is too much for 11 MB; ask for more"):
        volumes.ensure(own.place, replace(large, mb=11))  # without what ext4 needs itself
    assert (there / "big").stat().st_size == 10 << 20
    for too_small, programs in ((replace(large, mb=8), set()), (replace(large, mb=11), {"mke2fs", "mount"})):
        with pytest.MonkeyPatch.context() as patch:  # it is not to copy for nothing
            ran = noted(patch)
            with pytest.raises(OSError, match=r"kept in its directory, which is too much for"):
                volumes.ensure(own.place, too_small)
            assert set(ran) == programs
    volumes.ensure(own.place, large)
    assert there.is_mount()
    assert (there / "big").stat().st_size == 10 << 20
    volumes.release(own.place, NS)
    volumes.remove(own.place, NS, "data")


@pytest.mark.skipif(not filesystems.are_there(), reason="this machine can make no disks")
def test_so_does_one_that_is_still_mounted_for_a_process_that_copied_all_mounts_meanwhile(own):
    """So until that ends, the kernel does not write into its file how much is in it."""
    large = Volume(NS, "data", 24)
    volumes.ensure(own.place, large)
    there = own.place.state / "volumes" / NS / "data"
    (there / "big").write_bytes(bytes(range(256)) * (10 << 12))
    with subprocess.Popen(["unshare", "--mount", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == b"\n"
            volumes.release(own.place, NS)
            with pytest.raises(OSError, match="11 MB are in it.* 8 MB; .*ask for more"):
                volumes.ensure(own.place, replace(large, mb=8))
            assert not any(there.iterdir())
        finally:
            other.kill()
    volumes.ensure(own.place, large)
    assert (there / "big").stat().st_size == 10 << 20
    volumes.release(own.place, NS)
    volumes.remove(own.place, NS, "data")


@pytest.mark.skipif(not filesystems.are_there(), reason="this machine can make no disks")
def test_what_can_not_be_copied_for_want_of_room_is_tried_again_ever_more_seldom(own, monkeypatch):
    """A look comes each second; what is there need not be walked through, or half copied, each time."""
    there = own.place.state / "volumes" / NS / "data"
    there.mkdir(parents=True)
    (there / "big").write_bytes(bytes(range(256)) * (10 << 12))
    of = FileSystem(there, there.with_suffix(".img"), own.place.run / "data")
    now, walks = [0.0], []
    least = filesystems._least
    monkeypatch.setattr(filesystems, "_least", lambda top: (walks.append(now[0]), least(top))[1])

    def refused(mb: int) -> None:
        with pytest.raises(OSError, match=rf"kept in its directory, which is too much for {mb} MB; ask for more"):
            filesystems.ensure(of, Volume(NS, "data", mb), lambda: now[0])

    for second in range(100):
        now[0] = float(second)
        refused(8)
    assert walks == [0, 2, 6, 14, 30, 62]
    refused(9)
    assert walks[-1] == 99, "something else is asked for"
    (there / "big").unlink()
    now[0] = 200.0
    filesystems.ensure(of, Volume(NS, "data", 9), lambda: now[0])
    assert there.is_mount()
    filesystems.forget(of)


def test_one_who_moves_directories_while_volumes_are_counted_hides_nobody_elses(own, monkeypatch):
    """He takes a directory away from where it was found, in the moment in which it is looked into."""
    home = own.place.state / "volumes"
    for path in ("s.a/data/x/y", "s.b/data/z"):
        (home / path).mkdir(parents=True)
    listed = trees._listed

    def moved(fd: int):
        found = listed(fd)
        if found == ([], []) and (home / "s.a/data/x/y").exists():
            (home / "s.a/data/x/y").rename(home / "s.a/data/y")
        return found

    monkeypatch.setattr(trees, "_listed", moved)
    assert [(v.sliver, v.files) for v in volumes.volumes(own.place)] == [("s.a", 2), ("s.b", 1)]
    monkeypatch.undo()
    for ns in ("s.a", "s.b"):
        volumes.remove(own.place, ns, "data")
