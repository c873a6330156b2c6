"""File systems in files, each of a fixed size, so what fills one is its owner's, and is there when it is wanted.

ext4 in a file, by a loop device (loop(4)): what every file system below it carries, with a bound on bytes and on files,
and a block device whose rates can be bounded.  No journal: what is lost with a machine's power is a sliver's.
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from vini.model import Disk, Value, Volume
from vini.node import netns, trees
from vini.node.container import io_rates

_MB = 10**6
_OPTIONS = "nosuid,nodev,noatime"
_GIVEN_UP_S = 2.0  # so long the kernel may need to take a loop device away
_PATIENCE_S = 300.0  # for a program that moves as much as a disk holds
Asked = Disk | Volume
_FIRST_S, _LONGEST_S = 2.0, 60.0  # before a copy that had no room is tried again: twice as long each time


class FileSystem(Value, frozen=True):
    """Where one is; nothing of it need be there."""

    there: Path  # a directory: where it is mounted, and where its files are when it is taken away
    image: Path  # the file that it is in
    beside: Path  # begins the names of directories beside `there`: "filling", a new one's mount; "copying", what is
    # taken out of an old one; "kept", all that was in it
    passing: tuple[str, ...] = ()  # patterns of files that mean nothing after a reboot

    @property
    def record(self) -> Path:
        """What was asked of it: written once it is whole."""
        return self.image.with_suffix(".json")

    def aside(self, what: str) -> Path:
        """One of the directories beside it."""
        return self.beside.with_name(f"{self.beside.name}.{what}")


class _Size(msgspec.Struct):
    mb: int
    inodes: int = 0


class Held(Value, frozen=True):
    """What is in one."""

    bytes: int
    most: int  # bytes that it has for files
    files: int


def are_there() -> bool:
    """Whether this machine can make one."""
    return Path("/dev/loop-control").exists() and bool(shutil.which("mke2fs")) and bool(shutil.which("e2fsck"))


def ensure(of: FileSystem, o: Asked, clock: Callable[[], float] = time.monotonic) -> None:
    """Make it, with what is in its directory; or mount it again.  OSError where the machine can't."""
    of.there.mkdir(parents=True, exist_ok=True)
    if of.record.exists() and not _is_whole(of, o):
        _check_fits(of, o)
        take_out(of)  # it is of another size, or another version's: what it holds is taken along
    if not of.there.is_mount():
        if new := not _is_whole(of, o):
            _make_patiently(of, o, clock)
        _mount(of, of.there, new)
    _clear(of.aside("kept"))  # of a removal that a crash ended, and that nobody wants any more


def take_out(of: FileSystem) -> None:
    """Leave what it holds in its directory, as it would be without.

    A crash at any step loses nothing: the next call goes on with the copy where that is complete, else with the image.
    """
    kept = of.aside("kept")
    if not kept.exists():
        if not of.there.is_mount() and of.record.exists() and of.image.exists():
            of.there.mkdir(parents=True, exist_ok=True)
            _mount(of, of.there)
        if of.there.is_mount():
            copying = of.aside("copying")
            _clear(copying)
            copying.mkdir(parents=True)
            _copy(of.there, copying)
            copying.rename(kept)
    if kept.exists():
        unmount(of)
        _clear(of.there)
        kept.rename(of.there)
    forget(of)


def forget(of: FileSystem) -> None:
    """Take it away with all that it holds, and room for it is free."""
    unmount(of)
    _refusals.pop(of.image, None)
    for file in (of.record, of.image, *(of.image.with_suffix(s) for s in (".new", ".note"))):
        file.unlink(missing_ok=True)
    for what in ("filling", "copying", "kept"):
        _clear(of.aside(what))


def unmount(of: FileSystem) -> None:
    """It stays, in its file."""
    while of.there.is_mount():
        io_rates.lift(of.there.stat().st_dev)
        netns.unmount(of.there)


def note(of: FileSystem, o: Asked) -> None:
    """It is as asked."""
    new = of.image.with_suffix(".note")
    new.write_bytes(msgspec.json.encode(o))
    new.rename(of.record)


def held(of: FileSystem) -> Held:
    """Told by itself: nobody need look at each file.  OSError where it is not there."""
    if of.there.is_mount():
        seen = os.statvfs(of.there)
        size = seen.f_frsize
        return Held((seen.f_blocks - seen.f_bfree) * size, seen.f_blocks * size, seen.f_files - seen.f_ffree - _OWN)
    with of.image.open("rb") as f:  # "The Super Block" of the kernel's Documentation/filesystems/ext4
        f.seek(1024)
        block = f.read(1024)
    inodes, blocks, _, free, free_inodes, _, log_size = struct.unpack_from("<7I", block)
    (overhead,) = struct.unpack_from("<I", block, 0x248)
    size = 1024 << log_size
    return Held((blocks - free - overhead) * size, (blocks - overhead) * size, inodes - free_inodes - _OWN)


_KEPT = "what was written before is kept in its directory"
_LITTLE = 32  # blocks or files: a copy that has no more left ended for want of them
_OWN = 10  # inodes that every ext4 has for itself, its root among them


def _clear(directory: Path) -> None:
    """Unmount and delete it.  OSError where something is still mounted in it: that would be emptied."""
    if directory.exists():
        netns.unmount(directory)
        trees.remove(directory)


def _is_whole(of: FileSystem, o: Asked) -> bool:
    try:
        was = msgspec.json.decode(of.record.read_bytes(), type=_Size)
    except (OSError, msgspec.DecodeError):
        return False
    return of.image.exists() and (was.mb, was.inodes) == (o.mb, o.inodes)


class _Full(OSError):
    """Less room than what is to be in it takes."""


class _Refusal(Value, frozen=True):
    """That there was too little room: for what, why, when to try again, and how long was waited for that."""

    asked: tuple[int, int]
    why: str
    due: float
    pause: float


_refusals: dict[Path, _Refusal] = {}  # by image


def _make_patiently(of: FileSystem, o: Asked, clock: Callable[[], float]) -> None:
    """Looks come each second, and to find that all there is is too much costs a walk through it, or half a copy."""
    asked, known = (o.mb, o.inodes), _refusals.get(of.image)
    if known and known.asked != asked:
        known = None
    if known and clock() < known.due:
        raise _Full(known.why)
    try:
        _make(of, o)
    except _Full as e:
        pause = min(_LONGEST_S, 2 * known.pause) if known else _FIRST_S
        _refusals[of.image] = _Refusal(asked, str(e), clock() + pause, pause)
        raise
    _refusals.pop(of.image, None)


def _check_fits(of: FileSystem, o: Asked) -> None:
    """Raises OSError, and it stays as it is, where one as asked could not hold what is in it."""
    try:
        inside = _held_by_now(of)
    except (OSError, struct.error):  # half of one: what it was made of is in its directory yet
        return
    if inside.bytes > o.mb * _MB:
        raise _full(o, f"{-(-inside.bytes // _MB)} MB are in it")
    if o.inodes and inside.files > o.inodes:
        raise _full(o, f"{inside.files} files are in it")


def _held_by_now(of: FileSystem) -> Held:
    """As `held`; where any process's mounts, copied meanwhile, keep it mounted, its file does not tell yet."""
    if of.there.is_mount() or not _mounted_by_device(of.image, of.there):
        return held(of)
    try:
        return held(of)
    finally:
        unmount(of)


def _full(o: Asked, what: str) -> _Full:
    bound = f"{o.mb} MB" + (f" and {o.inodes} files" if o.inodes else "")
    return _Full(f"{what}, which is too much for {bound}; ask for more, or for what it had, and delete some")


def _make(of: FileSystem, o: Asked) -> None:
    """With all that is in its directory by now; the record comes last."""
    of.record.unlink(missing_ok=True)
    data, files_there = _least(of.there)
    _check_holds(o, (data, files_there), (o.mb * _MB, o.inodes or files_there))  # before it takes the node any work
    new = of.image.with_suffix(".new")
    new.parent.mkdir(parents=True, exist_ok=True)
    new.unlink(missing_ok=True)
    _allocate(new, o)
    files = ["-N", str(o.inodes)] if o.inodes else []
    options = "lazy_itable_init=0,nodiscard"  # later the kernel would make holes where it writes zeros
    _run("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-O", "^has_journal", "-E", options, *files, str(new))
    _allocate(new, o)  # again: mke2fs makes holes too
    new.rename(of.image)
    if any(of.there.iterdir()):
        aside = of.aside("filling")
        _clear(aside)
        aside.mkdir(parents=True)
        _mount(of, aside, new=True)
        try:
            room = os.statvfs(aside)
            _check_holds(o, (data, files_there), (room.f_bavail * room.f_frsize, room.f_favail))
            _copy(of.there, aside)
        except OSError as e:
            room = os.statvfs(aside)
            if min(room.f_bavail, room.f_favail) < _LITTLE:
                raise _full(o, _KEPT) from e
            raise
        finally:
            netns.unmount(aside)
            aside.rmdir()
    note(of, o)
    trees.remove(of.there)
    of.there.mkdir()


def _least(top: Path) -> tuple[int, int]:
    """So many bytes and files at least a copy of it takes: what a file system needs for itself comes on top."""
    seen: dict[int, int] = {}
    directories = 0
    for _, fd, below, names in trees.walk(top):
        directories += len(below)
        for name in names:
            with suppress(FileNotFoundError):
                at = os.stat(name, dir_fd=fd, follow_symlinks=False)
                seen[at.st_ino] = min(at.st_size, at.st_blocks * 512) if stat.S_ISREG(at.st_mode) else 0
    return sum(seen.values()), directories + len(seen)


def _check_holds(o: Asked, least: tuple[int, int], most: tuple[int, int]) -> None:
    """Raises OSError where so many bytes and files are more than there is room for."""
    if any(needed > room for needed, room in zip(least, most, strict=True)):
        raise _full(o, _KEPT)


def _allocate(file: Path, o: Asked) -> None:
    """All of it now: what a sliver was promised is not there any more when others write."""
    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, o.mb * _MB // 4096 * 4096)
    except OSError as e:
        file.unlink()
        free = shutil.disk_usage(file.parent).free // _MB
        raise OSError(
            f"it takes {o.mb} MB, and {file.parent} has {free} MB free, {max(0, o.mb - free)} too few; "
            "ask for less, or take another node"
        ) from e
    finally:
        os.close(fd)


def _mount(of: FileSystem, at: Path, new: bool = False) -> None:
    """By the device that has the file already, where one has: two would be two views of it, and spoil it."""
    if _mounted_by_device(of.image, at):
        return
    if not new:
        _run("e2fsck", "-p", str(of.image), fine=(0, 1))
    _run("mount", "-t", "ext4", "-o", f"{_OPTIONS},loop", str(of.image), str(at))
    for pattern in of.passing:
        for record in at.glob(pattern):
            record.unlink()
    with suppress(OSError):
        (at / "lost+found").rmdir()


def _mounted_by_device(file: Path, at: Path) -> bool:
    """False where it has no device, or one that the kernel was just taking away (it does so after the last unmount)."""
    deadline = time.monotonic() + _GIVEN_UP_S
    while device := _device(file):
        try:
            _run("mount", "-t", "ext4", "-o", _OPTIONS, device, str(at))
            return True
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    return False


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
        said = [line for line in (done.stderr or done.stdout).strip().splitlines() if "dmesg(1)" not in line][-1:]
        raise OSError(f"{command[0]} said: {said[0] if said else f'status {done.returncode}'}")
