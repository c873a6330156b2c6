"""File systems of slivers: each in a file of its size, so what one of them fills is its own, and is there when wanted.

ext4 in a file, by a loop device (loop(4)): what every file system below it carries, with a bound on bytes and on files,
and a block device whose rates can be bounded.  No journal: what is lost with a machine's power is a sliver's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import msgspec

from vini.model import Disk
from vini.node import netns
from vini.node.container import io_rates
from vini.node.place import Place

_MB = 10**6
_OPTIONS = "nosuid,nodev,noatime"
_OF_THIS_BOOT = ("*.process", "*.status")  # records of processes; after a reboot none of them has run
_PATIENCE_S = 300.0  # for a program that moves as much as a disk holds


def are_there() -> bool:
    """Whether this machine can make one."""
    return Path("/dev/loop-control").exists() and bool(shutil.which("mke2fs")) and bool(shutil.which("e2fsck"))


def image(place: Place, ns: str) -> Path:
    """The file that it is in."""
    return place.state / "disks" / f"{ns}.img"


def _record(place: Place, ns: str) -> Path:
    """What was asked of it: written once it is whole."""
    return image(place, ns).with_suffix(".json")


def _aside(place: Place, ns: str, what: str) -> Path:
    """A directory beside that of the sliver: "filling", a new disk's mount; "copying", what is taken out of an old one;
    "kept", all that was in it."""
    return place.run / "disks" / f"{ns}.{what}"


def slivers(place: Place) -> set[str]:
    """`slice.sliver` of all that have one, or half of one."""
    homes = [home for home in (place.state / "disks", place.run / "disks") if home.is_dir()]
    return {p.name.rpartition(".")[0] for home in homes for p in home.iterdir()}


def observed(place: Place, ns: str) -> Disk | None:
    """The disk, with the rates that hold; one that is not mounted has rates that nobody wants, so that it is mounted,
    or what it holds is taken out."""
    there = place.sliver(ns)
    try:
        o = msgspec.json.decode(_record(place, ns).read_bytes(), type=Disk)
        if there.is_mount() and io_rates.hold(place, o, there.stat().st_dev):
            return o
        return msgspec.structs.replace(o, read_mb=-1) if image(place, ns).exists() else None
    except (OSError, msgspec.DecodeError):
        return None


def ensure(place: Place, o: Disk) -> None:
    """Make it, with what is in the sliver's directory; or mount it again; or change its rates.

    OSError where the machine can't.
    """
    there = place.sliver(o.ns)
    there.mkdir(parents=True, exist_ok=True)
    if _record(place, o.ns).exists() and not _is_whole(place, o):
        remove(place, o.ns)  # it is of another size, or another version's: what it holds is taken along
    if not there.is_mount():
        if new := not _is_whole(place, o):
            _make(place, o)
        _mount(image(place, o.ns), there, new)
    _clear(_aside(place, o.ns, "kept"))  # of a removal that a crash ended, and that nobody wants any more
    io_rates.ensure(place, o, there.stat().st_dev)
    _note(place, o)


def remove(place: Place, ns: str) -> None:
    """Leave what it holds in the sliver's directory, as it would be without a disk.

    A crash at any step loses nothing: the next call goes on with the copy where that is complete, else with the disk.
    """
    there, kept = place.sliver(ns), _aside(place, ns, "kept")
    if not kept.exists():
        if not there.is_mount() and _record(place, ns).exists() and image(place, ns).exists():
            there.mkdir(parents=True, exist_ok=True)
            _mount(image(place, ns), there)
        if there.is_mount():
            copying = _aside(place, ns, "copying")
            _clear(copying)
            copying.mkdir(parents=True)
            _copy(there, copying)
            copying.rename(kept)
    if kept.exists():
        _unmount(there)
        _clear(there)
        kept.rename(there)
    forget(place, ns)


def forget(place: Place, ns: str) -> None:
    """Take it away with all that it holds, and room for it is free."""
    _unmount(place.sliver(ns))
    for file in (_record(place, ns), image(place, ns), *(image(place, ns).with_suffix(s) for s in (".new", ".note"))):
        file.unlink(missing_ok=True)
    for what in ("filling", "copying", "kept"):
        _clear(_aside(place, ns, what))
    with suppress(OSError):  # the last one takes it along
        (place.run / "disks").rmdir()


def _unmount(there: Path) -> None:
    while there.is_mount():
        io_rates.lift(there.stat().st_dev)
        netns.unmount(there)


def _clear(directory: Path) -> None:
    """Unmount and delete it.  OSError where something is still mounted in it: that would be emptied."""
    if not directory.exists():
        return
    netns.unmount(directory)
    for entry in directory.iterdir():
        _delete(entry)
    directory.rmdir()


def _delete(entry: Path) -> None:
    if entry.is_mount():
        raise OSError(f"something is mounted at {entry}; unmount it")
    shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def _is_whole(place: Place, o: Disk) -> bool:
    try:
        was = msgspec.json.decode(_record(place, o.ns).read_bytes(), type=Disk)
    except (OSError, msgspec.DecodeError):
        return False
    return image(place, o.ns).exists() and (was.mb, was.inodes) == (o.mb, o.inodes)


def _make(place: Place, o: Disk) -> None:
    """With all that is in the sliver's directory by now; the record comes last."""
    at, there = image(place, o.ns), place.sliver(o.ns)
    _record(place, o.ns).unlink(missing_ok=True)
    new = at.with_suffix(".new")
    new.parent.mkdir(parents=True, exist_ok=True)
    new.unlink(missing_ok=True)
    _allocate(new, o)
    files = ["-N", str(o.inodes)] if o.inodes else []
    options = "lazy_itable_init=0,nodiscard"  # later the kernel would make holes where it writes zeros
    _run("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-O", "^has_journal", "-E", options, *files, str(new))
    _allocate(new, o)  # again: mke2fs makes holes too
    new.rename(at)
    if any(there.iterdir()):
        aside = _aside(place, o.ns, "filling")
        _clear(aside)
        aside.mkdir(parents=True)
        _mount(at, aside, new=True)
        try:
            _copy(there, aside)
        finally:
            netns.unmount(aside)
            aside.rmdir()
    _note(place, o)
    for entry in there.iterdir():
        _delete(entry)


def _allocate(file: Path, o: Disk) -> None:
    """All of it now: what a sliver was promised is not there any more when others write."""
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, o.mb * _MB // 4096 * 4096)
    except OSError as e:
        file.unlink()
        free = shutil.disk_usage(file.parent).free // _MB
        raise OSError(
            f"its disk takes {o.mb} MB, and {file.parent} has {free} MB free, {max(0, o.mb - free)} too few; "
            "ask for less, or take another node"
        ) from e
    finally:
        os.close(fd)


def _mount(file: Path, at: Path, new: bool = False) -> None:
    """By the device that has the file already, where one has: two would be two views of it, and spoil it."""
    device = _device(file)
    if not device and not new:
        _run("e2fsck", "-p", str(file), fine=(0, 1))
    _run("mount", "-t", "ext4", "-o", _OPTIONS + ("" if device else ",loop"), device or str(file), str(at))
    if not device:
        for pattern in _OF_THIS_BOOT:
            for record in at.glob(pattern):
                record.unlink()
        with suppress(OSError):
            (at / "lost+found").rmdir()


def _device(file: Path) -> str:
    """The loop device of a file; "": it has none."""
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):
            if backing.read_text().strip() == str(file.resolve()):
                return f"/dev/{backing.parts[3]}"
    return ""


def _copy(source: Path, target: Path) -> None:
    """With owners, modes, links and the marks of the overlay; what is not of it (another mount) stays out."""
    _run("cp", "-a", "--one-file-system", "--sparse=auto", f"{source}/.", str(target))


def _note(place: Place, o: Disk) -> None:
    at = _record(place, o.ns)
    new = at.with_suffix(".note")
    new.write_bytes(msgspec.json.encode(o))
    new.rename(at)


def _run(*command: str, fine: tuple[int, ...] = (0,)) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired as e:
        raise OSError(f"{command[0]} did not end within {_PATIENCE_S:g} s; is the node's disk that slow?") from e
    if done.returncode not in fine:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise OSError(f"{command[0]} said: {said[0] if said else f'status {done.returncode}'}")
