"""The limits of containers where version 2 of cgroups has the controllers; here version 1 may have them."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from vini.model import Container, Disk
from vini.node import cgroup
from vini.node.container import disks, io_weights, limits, slices
from vini.node.drivers.container import ContainerDriver
from vini.node.place import Place

pytestmark = [pytest.mark.root]
BOX = Container("s.a", cpu_weight=50, cpu_percent=25, memory_mb=64, memory_high_mb=48, pids=20)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    mounted = " cgroup2 " in Path("/proc/mounts").read_text()
    if not mounted:
        subprocess.run(["mount", "-t", "cgroup2", "none", "/sys/fs/cgroup"], check=True)
    cgroup.mount.cache_clear()
    limits._trees.cache_clear()
    limits._mounted.cache_clear()
    place = Place(f"vl{os.getpid()}", tmp_path / "run", tmp_path / "state")
    yield place
    cgroup.delete(cgroup.of(place))
    if not mounted:
        subprocess.run(["umount", "/sys/fs/cgroup"], check=True)
        cgroup.mount.cache_clear()
        limits._trees.cache_clear()


@pytest.mark.needs_kernel("cgroup2_limits")
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


def test_a_bound_of_sockets_that_is_refused_leaves_no_other_unset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With version 1 the kernel refuses (EBUSY) one below what the sockets hold now."""
    place, trees = Place("v", tmp_path / "run", tmp_path / "state"), {c: tmp_path / c for c in limits._CONTROLLERS}
    monkeypatch.setattr(limits, "_trees", lambda: trees)
    refused = trees["memory"] / "v/s.a" / limits._SOCKETS
    refused.mkdir(parents=True)  # whose text can't be written
    with pytest.raises(OSError):
        limits.ensure(place, BOX)
    files = [(file, text) for file, text in limits.files(place, BOX) if file != refused]
    assert files and all(file.read_text() == text for file, text in files)


@pytest.mark.needs_kernel("cgroup2_limits")
def test_who_is_in_a_group_below_is_bound_by_them(place: Place) -> None:
    limits.ensure(place, BOX)
    below = cgroup.of(place, "s.a", "process")
    below.mkdir()
    forks = f"echo 0 > {below}/cgroup.procs; for i in $(seq 40); do sleep 1 & done; wait"
    done = subprocess.run(["sh", "-c", forks], capture_output=True, text=True, timeout=60)
    assert "fork" in done.stderr.lower()


@pytest.mark.needs_kernel("cgroup2_limits")
def test_a_reservation_is_a_cap_and_a_weight_and_its_slivers_outweigh_the_nodes_own_processes(place: Place) -> None:
    reserved = replace(BOX, cpu_percent=40, cpu_reserved=True)
    limits.ensure(place, reserved)
    group = cgroup.of(place, "s.a")
    assert [(group / f).read_text().strip() for f in ("cpu.weight", "cpu.max")] == ["10000", "4000 10000"]
    assert (group.parent / "cpu.weight").read_text() == "1000\n"
    assert limits.observed(place, reserved) == reserved
    (group / "cpu.weight").write_text("100")
    assert limits.observed(place, reserved) != reserved
    limits.ensure(place, replace(BOX, cpu_weight=5000))  # as an earlier version took it
    assert (group / "cpu.weight").read_text() == "1000\n"


@pytest.mark.needs_kernel("cgroup2_limits")
def test_reserved_memory_is_kept_by_the_group_above_too_and_lifted_with_the_last_of_it(place: Place) -> None:
    one, two = replace(BOX, memory_reserved_mb=16), replace(BOX, ns="s.b", memory_reserved_mb=8)
    assert limits.can_reserve_memory()
    for o in (one, two):
        limits.ensure(place, o)
    limits.settle(place)
    above, mine = cgroup.of(place) / "memory.min", cgroup.of(place, "s.a") / "memory.min"
    sizes = [16 * 10**6 // 4096 * 4096, 8 * 10**6 // 4096 * 4096]
    assert (int(mine.read_text()), int(above.read_text())) == (sizes[0], sum(sizes))
    for file in (above, mine):
        file.write_text("0")
        assert limits.observed(place, one) != one
        limits.ensure(place, one)
        limits.settle(place)
        assert limits.observed(place, one) == one
    cgroup.delete(cgroup.of(place, "s.b"))
    limits.remove(place, "s.b")
    limits.settle(place)
    assert int(above.read_text()) == sizes[0]
    limits.ensure(place, replace(one, memory_reserved_mb=0))
    limits.settle(place)
    assert (mine.read_text(), above.read_text()) == ("0\n", "0\n")


@pytest.fixture
def on_a_disk(place: Place, tmp_path: Path) -> Iterator[tuple[Place, Path]]:
    """Its state is on a disk whose scheduler is BFQ; and that scheduler's file."""
    image, at = tmp_path / "disk", tmp_path / "disk-there"
    image.write_bytes(b"")
    os.truncate(image, 8 << 20)
    at.mkdir()
    subprocess.run(["mke2fs", "-q", "-F", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(at)], check=True)
    device = at.stat().st_dev
    yield (
        replace(place, state=at / "state"),
        Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/queue/scheduler"),
    )
    subprocess.run(["umount", str(at)], check=True)
    io_weights.file.cache_clear()


@pytest.mark.needs_kernel("cgroup2_io")
def test_an_io_weight_is_refused_where_the_disk_heeds_none(on_a_disk: tuple[Place, Path]) -> None:
    place, scheduler = on_a_disk
    scheduler.write_text("none")
    assert io_weights.file(place.state) == ""
    with pytest.raises(OSError, match="heeds no weights"):
        limits.ensure(place, replace(BOX, io_weight=500))
    limits.ensure(place, BOX)
    assert limits.observed(place, BOX) == BOX


def test_all_slivers_together_weigh_as_before_when_the_last_reservation_is_over(place: Place) -> None:
    reserved, plain = Container("t.r", cpu_percent=50, cpu_reserved=True), Container("t.p")
    for o in (reserved, plain):
        limits.ensure(place, o)
    first = next(iter(dict(limits.files(place, reserved))))
    assert first.read_text() == limits_text(place, reserved, first)
    limits.ensure(place, replace(reserved, cpu_reserved=False))
    limits.settle(place)
    assert first.read_text().strip() in ("100", "1024")
    limits.ensure(place, reserved)
    limits.ensure(place, plain)
    limits.settle(place)
    assert first.read_text() == limits_text(place, reserved, first), "one is left that has a reservation"
    cgroup.delete(cgroup.of(place, "t.r"))
    limits.remove(place, "t.r")
    limits.settle(place)
    assert first.read_text().strip() in ("100", "1024")
    limits.remove(place, "t.p")


@pytest.mark.parametrize("count", [3, 12])
def test_the_group_above_is_reckoned_once_for_all_that_change_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Each time it looks at every sliver: done for each, the work would grow with the square of their number."""
    place, reckoned = Place("v", tmp_path / "run", tmp_path / "state"), Counter[str]()

    def counted(name: str) -> None:
        real = getattr(limits, name)

        def call(*given: object) -> object:
            reckoned[name] += 1
            return real(*given)

        monkeypatch.setattr(limits, name, call)

    monkeypatch.setattr(cgroup, "mount", lambda: tmp_path)
    monkeypatch.setattr(limits, "_trees", dict)
    monkeypatch.setattr(limits, "can_reserve_memory", lambda: True)
    monkeypatch.setattr(limits, "delegate", lambda *_: True)
    monkeypatch.setattr(limits.slices, "ensure", lambda *_, **__: None)
    monkeypatch.setattr(limits.io_weights, "ensure", lambda *_: None)
    monkeypatch.setattr(limits.io_weights, "holds", lambda *_: True)
    monkeypatch.setattr(limits, "_REMOVED", ())  # a directory has what is written to it
    monkeypatch.setattr(ContainerDriver, "_ensure_one", lambda _, o: _ensured(place, o))
    monkeypatch.setattr(ContainerDriver, "_end", lambda *_: None)
    for name in ("_promised", "_any_has"):
        counted(name)
    boxes = [replace(BOX, ns=f"s.b{n}", memory_reserved_mb=16) for n in range(count)]
    cgroup.of(place).mkdir()
    (cgroup.of(place) / "cpu.weight").write_text("1000")
    assert ContainerDriver(place).ensure(boxes) == {}
    assert reckoned == {"_promised": 1, "_any_has": 1}
    assert int((cgroup.of(place) / "memory.min").read_text()) == count * (16 * 10**6 // 4096 * 4096)
    assert (cgroup.of(place) / "cpu.weight").read_text() == "100"
    reckoned.clear()
    promises = limits.Promises(place)
    for o in boxes:
        assert limits.observed(place, o, promises) == o
    assert reckoned == {"_promised": 1}
    reckoned.clear()
    (cgroup.of(place) / "cpu.weight").write_text("1000")
    assert ContainerDriver(place).remove(boxes) == {}
    assert reckoned == {"_promised": 1, "_any_has": 1}


def _ensured(place: Place, o: Container) -> None:
    cgroup.of(place, o.ns).mkdir(parents=True)
    limits.ensure(place, o)


def limits_text(place: Place, o: Container, file: Path) -> str:
    return dict(limits.files(place, o))[file] + "\n"


@pytest.mark.needs_kernel("cgroup2_io")
def test_a_disk_has_its_size_and_files_and_its_rates_are_those_of_the_slivers_group(place: Place) -> None:
    disk = Disk("s.a", 16, inodes=200, read_mb=50, write_mb=2)
    limits.ensure(place, BOX)
    disks.ensure(place, disk)
    try:
        assert disks.observed(place, "s.a") == disk
        group, at = cgroup.of(place, "s.a"), place.sliver("s.a")
        assert "rbps=50000000 wbps=2000000" in (group / "io.max").read_text()
        (group / "io.max").write_text((group / "io.max").read_text().split()[0] + " rbps=max wbps=max")
        assert disks.observed(place, "s.a") != disk
        disks.ensure(place, disk)
        assert disks.observed(place, "s.a") == disk
        full = subprocess.run(["dd", "if=/dev/zero", f"of={at}/x", "bs=1M"], capture_output=True, text=True, timeout=60)
        assert "No space left" in full.stderr
        (at / "x").unlink()
        written = f"echo 0 > {group}/cgroup.procs; dd if=/dev/zero of={at}/y bs=1M count=4 conv=fsync"
        told = subprocess.run(["sh", "-c", written], capture_output=True, text=True, timeout=60).stderr
        seconds = float(told.split(" copied, ")[1].split()[0])
        assert seconds > 1, told  # 4 MB at 2 MB/s; without the bound some milliseconds
        disks.remove(place, "s.a")
        assert (at / "y").stat().st_size == 4 << 20 and not at.is_mount()
    finally:
        disks.forget(place, "s.a")
    assert disks.slivers(place) == set()


@pytest.mark.skipif(not slices.can_be_short(), reason="this kernel (before Linux 6.12) lets no thread choose its slice")
def test_slices_are_short_as_long_as_there_is_a_reservation(place: Place) -> None:
    reserved = Container("t.r", cpu_percent=50, cpu_reserved=True)
    group = cgroup.of(place, "t.r")
    limits.ensure(place, reserved)
    group.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(["sleep", "60"]) as sleeps:
        try:
            (group / "cgroup.procs").write_text(str(sleeps.pid))
            usual, nice = slices.of(sleeps.pid), os.getpriority(os.PRIO_PROCESS, sleeps.pid)
            assert limits.observed(place, reserved) == reserved
            assert (slices.of(sleeps.pid), os.getpriority(os.PRIO_PROCESS, sleeps.pid)) == (slices.SHORT_NS, nice)
            limits.ensure(place, replace(reserved, cpu_reserved=False))
            assert slices.of(sleeps.pid) == usual
        finally:
            sleeps.kill()
    cgroup.delete(group)
    limits.remove(place, "t.r")
