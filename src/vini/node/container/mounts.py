"""Mounts that only one container is to see: made in a mount namespace of a thread's own, gone with the thread."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_CLONE_NEWNS, _CLONE_FS = 0x00020000, 0x00000200
BIND, _MS_REC, _MS_SLAVE = 1 << 12, 1 << 14, 1 << 19
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # the same numbers on all of today's architectures
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOUNT_ATTR_IDMAP = 0x00100000
_CAPABILITY_VERSION_3 = 0x20080522  # capget(2)
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_libc = ctypes.CDLL(None, use_errno=True)


def apart(work: Callable[[], T]) -> T:
    """What `work` returns, done by a thread with a mount namespace of its own; programs that it starts share that."""
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            _check(_libc.unshare(_CLONE_FS | _CLONE_NEWNS), "making a mount namespace")
            # Slave, not private: else it would keep every network namespace alive that is pinned now.
            mount("", Path("/"), "", _MS_REC | _MS_SLAVE)
            done.append(work())
        except BaseException as e:  # raised again below, by the thread that asked
            failed.append(e)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


def mount(source: str, target: Path, kind: str, flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    done = _libc.mount(source.encode(), bytes(target), kind.encode(), ctypes.c_ulong(flags), options.encode())
    _check(done, f"mounting {target}")


def overlay(lower: Path, upper: Path, work: Path, target: Path, user: int) -> None:
    """Mount an overlay whose upper layer is mapped, by a thread that `apart` made.

    Whoever mounts it is who writes to that layer ever after, so must be somebody to whom ids are mapped: `user`, who is
    root inside.  The kernel takes root's capabilities over files from whoever becomes another; they are taken back.
    """
    header, powers = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), ctypes.create_string_buffer(24)
    _check(_libc.capget(header, powers), "reading capabilities")
    _libc.setfsgid(user)
    _libc.setfsuid(user)
    try:
        _check(_libc.capset(header, powers), "keeping capabilities")
        mount("vini", target, "overlay", 0, f"lowerdir={lower},upperdir={upper},workdir={work}")
    finally:
        _libc.setfsuid(0)
        _libc.setfsgid(0)


def attach(fd: int, target: Path) -> None:
    """Mount there what `mapped` made, and close it."""
    try:
        done = _libc.syscall(_MOVE_MOUNT, fd, b"", _AT_FDCWD, bytes(target), _MOVE_MOUNT_F_EMPTY_PATH)
        _check(done, f"mounting {target}")
    finally:
        os.close(fd)


def mapped(source: Path, users: int) -> int:
    """A mount of `source` that is nowhere yet, with the owners of its files mapped by a user namespace: what is root's
    on the disk is that of its root (mount_setattr(2), MOUNT_ATTR_IDMAP; Linux 5.12, of an overlay's layers 5.19)."""
    fd = _libc.syscall(_OPEN_TREE, _AT_FDCWD, bytes(source), _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC)
    if fd < 0:
        _check(1, f"cloning the mount of {source}")
    wanted = struct.pack("=QQQQ", _MOUNT_ATTR_IDMAP, 0, 0, users)
    done = _libc.syscall(_MOUNT_SETATTR, fd, b"", _AT_EMPTY_PATH, wanted, ctypes.c_size_t(len(wanted)))
    if done:
        error = OSError(ctypes.get_errno(), f"the file system of {source} can't map owners of files")
        os.close(fd)
        raise error
    return int(fd)


def can_map(source: Path, network: Path) -> bool:
    """Whether the file system of `source` maps owners by the user namespace of a process, by its `ns/user`."""
    users = os.open(network, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.close(mapped(source, users))
    except OSError:
        return False
    finally:
        os.close(users)
    return True


def _check(result: int, doing: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{doing}: {os.strerror(number)}")
