"""Network namespaces: make, enter, delete (network_namespaces(7), ip-netns(8)).

Entering costs 4 us and opening a netlink socket 7 us here, so nothing is held open between
passes.  One thread may be inside a namespace while the others stay where they are.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CLONE_NEWNET = 0x40000000
MS_BIND, MS_REC, MS_PRIVATE, MS_SHARED = 1 << 12, 1 << 14, 1 << 18, 1 << 20
MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_void_p]


def _check(result: int, doing: str) -> None:
    if result:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{doing}: {os.strerror(errno)}")


@contextmanager
def inside(path: Path) -> Iterator[None]:
    """This thread is in that namespace until the block ends.  FileNotFoundError where there is none."""
    with back_home():
        enter(path)
        yield


@contextmanager
def back_home() -> Iterator[None]:
    """This thread is back in its namespace when the block ends, wherever it went meanwhile."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        _check(_libc.setns(home, CLONE_NEWNET), "going back to our own network namespace")
        os.close(home)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A file of that namespace.  FileNotFoundError where there is none."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def enter(path: Path) -> None:
    """Move this thread into that namespace, for good."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(fd, CLONE_NEWNET), f"entering {path}")
    finally:
        os.close(fd)


def enter_new() -> None:
    """Move this thread into a new namespace."""
    _check(_libc.unshare(CLONE_NEWNET), "making a network namespace")


def create(path: Path, prepare: Callable[[], None] = lambda: None, new: Callable[[], None] = enter_new) -> None:
    """Enter a `new` namespace, `prepare` it, pin it at `path`, and stay in it; use inside `back_home()`.

    It is pinned last, so that a crash leaves a whole one or none.  A file without a namespace on it, left
    by a crash or a hand, is taken over; one with a namespace is entered.
    """
    if not _made(path) and is_pinned(path):
        enter(path)
        prepare()
        return
    new()
    prepare()
    _bind(Path("/proc/thread-self/ns/net"), path)


def pin(namespace: Path, path: Path) -> None:
    """Pin a namespace that lives already."""
    _made(path)
    _bind(namespace, path)


def _made(path: Path) -> bool:
    """Whether an empty file is made there; False where there is one."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    except FileExistsError:
        return False
    return True


def _bind(namespace: Path, path: Path) -> None:
    _check(_libc.mount(bytes(namespace), bytes(path), b"none", MS_BIND, None), f"pinning {path}")


def is_pinned(path: Path) -> bool:
    """Whether a namespace is mounted there: then it is on another file system than its directory."""
    try:
        return path.stat().st_dev != path.parent.stat().st_dev
    except FileNotFoundError:
        return False


def is_mounted(directory: Path) -> bool:
    """Whether something is mounted there; os.path.ismount can't tell a bind mount of the same file system."""
    table = Path("/proc/thread-self/mountinfo").read_text(encoding="utf-8")
    return any(line.split(" ", 5)[4] == str(directory) for line in table.splitlines())


def mount_itself(directory: Path) -> None:
    """Turn a directory, with what is in it, into a mount of its own."""
    _check(_libc.mount(bytes(directory), bytes(directory), b"none", MS_BIND | MS_REC, None), f"mounting {directory}")


def mount_memory(directory: Path) -> None:
    """Mount an empty file system there that is kept in memory (tmpfs(5))."""
    _check(_libc.mount(b"vini", bytes(directory), b"tmpfs", 0, b"mode=755"), f"mounting {directory}")


def mount_programs(directory: Path) -> None:
    """Mount an empty file system there for pins of eBPF programs and maps, which only root may enter (bpf(2))."""
    _check(_libc.mount(b"vini", bytes(directory), b"bpf", 0, b"mode=700"), f"mounting {directory}")


def share(mount: Path) -> None:
    """Let what is mounted below appear in, and vanish from, the mount namespaces that are made from now on."""
    _check(_libc.mount(b"", bytes(mount), b"none", MS_SHARED | MS_REC, None), f"sharing {mount}")


def make_private(directory: Path) -> None:
    """Turn a directory into a mount of its own whose mounts stay in this mount namespace."""
    _check(_libc.mount(bytes(directory), bytes(directory), b"none", MS_BIND, None), f"mounting {directory}")
    _check(_libc.mount(b"", bytes(directory), b"none", MS_PRIVATE, None), f"making {directory} private")


def delete(path: Path) -> None:
    """Unpin it.  The kernel takes it down, with all that is in it, once nobody uses it any more."""
    unmount(path)
    with suppress(FileNotFoundError):
        path.unlink()


def unmount(path: Path) -> None:
    """Take away all that is mounted there."""
    while _libc.umount2(bytes(path), MNT_DETACH) == 0:
        pass


def pinned(directory: Path, prefix: str) -> list[str]:
    """Names of the pinned namespaces that start with `prefix`, without it.

    One look at the mount table instead of one statfs(2) per name.
    """
    if not directory.is_dir():
        return []
    mounted = set()
    want = f"{directory}/{prefix}"
    with Path("/proc/thread-self/mountinfo").open(encoding="utf-8") as table:
        for line in table:
            target = line.split(" ", 5)[4]
            if target.startswith(want):
                mounted.add(target[len(want) :])
    return sorted(mounted)
