"""Whole containers where there is version 2 of cgroups alone, by either runtime; their run directory is on ext4, since
the kernel of that machine (Linux 6.1) maps no owners on tmpfs."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_place import OwnPlace, eventually, place_below

from vini.node import cgroup
from vini.node.container import crun
from vini.topology import parse

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2"), pytest.mark.needs_kernel("cgroup2_io")]
FILE = """
name: two
defaults: {sliver: {runtime: container}}
slivers: {a: {resources: {memory: 64MB, pids: 64}}, b: {}}
links: [a -- b]
"""


@pytest.fixture(params=[crun.CRUN, crun.RUNC])
def own(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnPlace]:
    """A PATH with one of the two only, and a disk."""
    if not shutil.which(request.param):
        pytest.skip(f"needs the package {request.param}")
    programs, image, disk = tmp_path / "bin", tmp_path / "image", tmp_path / "disk"
    programs.mkdir()
    disk.mkdir()
    for directory in map(Path, ("/usr/bin", "/usr/sbin")):
        for file in directory.iterdir():
            if file.name == request.param or file.name not in (crun.CRUN, crun.RUNC):
                (programs / file.name).unlink(missing_ok=True)
                (programs / file.name).symlink_to(file)
    monkeypatch.setenv("PATH", str(programs))
    image.touch()
    os.truncate(image, 256 << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-F", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(disk)], check=True)
    try:
        with place_below(disk) as place:
            yield place
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def inside(own: OwnPlace, command: str, sliver: str = "a") -> str:
    argv = own.client().enter("two", sliver, ["sh", "-c", command])
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    return done.stdout.decode(errors="replace")


def test_they_live_within_their_limits_and_come_back(own: OwnPlace) -> None:
    asyncio.run(own.client().up(parse(FILE)))
    assert "1 received" in inside(own, "ping -c 1 -W 5 b")
    bomb = "/usr/bin/python3 -c 'x = bytearray(300_000_000)'; [ $? = 137 ] && echo Killed"
    eventually(lambda: "Killed" in inside(own, bomb))
    assert cgroup.of(own.place, "two.a", "exec").is_dir()
    group = cgroup.of(own.place, "two.b", crun.GROUP)
    old = cgroup.pids(group)
    assert old
    cgroup.kill(group)
    eventually(lambda: (new := cgroup.pids(group)) and not set(new) & set(old))
    eventually(lambda: "1 received" in inside(own, "ping -c 1 -W 5 a", "b"))
    asyncio.run(own.client().down("two"))
