"""The limits of containers where version 2 of cgroups has the controllers; here version 1 may have them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from vini.model import Container
from vini.node import cgroup
from vini.node.container import limits
from vini.node.place import Place

pytestmark = [pytest.mark.root, pytest.mark.needs_kernel("cgroup2_limits")]
BOX = Container("s.a", cpu_weight=50, cpu_percent=25, memory_mb=64, memory_high_mb=48, pids=20)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    mounted = " cgroup2 " in Path("/proc/mounts").read_text()
    if not mounted:
        subprocess.run(["mount", "-t", "cgroup2", "none", "/sys/fs/cgroup"], check=True)
    cgroup.mount.cache_clear()
    limits._trees.cache_clear()
    place = Place(f"vl{os.getpid()}", tmp_path)
    yield place
    cgroup.delete(cgroup.of(place))
    if not mounted:
        subprocess.run(["umount", "/sys/fs/cgroup"], check=True)
        cgroup.mount.cache_clear()
        limits._trees.cache_clear()


def test_limits_are_those_of_the_slivers_own_group_and_a_lifted_one_is_seen(place: Place) -> None:
    assert limits.are_there()
    assert limits.version_2_apart() is None
    assert limits.joined(place, "s.a") == []
    limits.ensure(place, BOX)
    assert limits.observed(place, BOX) == BOX
    group = cgroup.of(place, "s.a")
    assert (group / "cpu.max").read_text() == "25000 100000\n"
    for file in ("pids.max", "memory.max", "memory.high"):
        (group / file).write_text("max")
        assert limits.observed(place, BOX) != BOX
        limits.ensure(place, BOX)
        assert limits.observed(place, BOX) == BOX
    free = replace(BOX, cpu_percent=0, memory_high_mb=0)
    limits.ensure(place, free)
    assert limits.observed(place, free) == free


def test_who_is_in_a_group_below_is_bound_by_them(place: Place) -> None:
    limits.ensure(place, BOX)
    below = cgroup.of(place, "s.a", "process")
    below.mkdir()
    forks = f"echo 0 > {below}/cgroup.procs; for i in $(seq 40); do sleep 1 & done; wait"
    done = subprocess.run(["sh", "-c", forks], capture_output=True, text=True, timeout=60)
    assert "fork" in done.stderr.lower()
