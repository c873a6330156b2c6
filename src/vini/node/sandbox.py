"""Runs one program as nobody, with nothing in sight but what it was given (namespaces(7), setrlimit(2)).

A program of its own, started as `python -I -S sandbox.py PLAN ARGUMENT...`, since a thread of the agent can't be
put into other namespaces for good.  PLAN is JSON: `bind` (directories, read-only), `copy` (files) and `link`
(symbolic links), each a list of [source, where]; the limits `cpu_s`, `memory_bytes`, `file_bytes`.  The exit code
is the program's, or 128 and the signal that ended it.  Only root can start it.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

_NEW_NAMESPACES = 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000  # mount, pid, net, ipc, uts
_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 32, 1 << 12, 1 << 14, 1 << 18
_SET_PDEATHSIG, _SET_NO_NEW_PRIVS = 1, 38
_NOBODY = 65534
_ROOT = "/tmp"  # the new root is mounted there; in this mount namespace nobody else sees it
_libc = ctypes.CDLL(None, use_errno=True)


def main(plan: dict[str, Any], argv: list[str]) -> int:
    """Build the sandbox, run the program in it, wait for its end."""
    copies = [(Path(source).read_bytes(), where) for source, where in plan["copy"]]
    _check(_libc.unshare(_NEW_NAMESPACES), "making namespaces")
    _furnish(plan["bind"], plan["link"], copies)
    os.chroot(_ROOT)
    os.chdir("/tmp")
    child = os.fork()
    if child == 0:
        _become_nobody(plan)
        os.execve(argv[0], argv, {"PATH": "/usr/bin", "LANG": "C", "TMPDIR": "/tmp"})
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status if status >= 0 else 128 - status


def _furnish(binds: list[tuple[str, str]], links: list[tuple[str, str]], copies: list[tuple[bytes, str]]) -> None:
    _mount("none", "/", "", _REC | _PRIVATE)
    _mount("none", _ROOT, "tmpfs", _NOSUID | _NODEV, "mode=755,size=64m")
    for source, where in binds:
        Path(_ROOT + where).mkdir(parents=True, exist_ok=True)
        _mount(source, _ROOT + where, "", _BIND)
        _mount("none", _ROOT + where, "", _BIND | _REMOUNT | _RDONLY | _NOSUID | _NODEV)
    for target, where in links:
        Path(_ROOT + where).symlink_to(target)
    for content, where in copies:
        path = Path(_ROOT + where)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o444)
    Path(_ROOT + "/tmp").mkdir()
    Path(_ROOT + "/tmp").chmod(0o1777)


def _become_nobody(plan: dict[str, Any]) -> None:
    limits = {
        resource.RLIMIT_CPU: plan["cpu_s"],
        resource.RLIMIT_AS: plan["memory_bytes"],
        resource.RLIMIT_FSIZE: plan["file_bytes"],
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
    }
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, limit))
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    _check(_libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "giving up privileges")
    _check(_libc.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "tying the program to its starter")


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    done = _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    _check(done, f"mounting {target}")


def _check(result: int, doing: str) -> None:
    if result:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{doing}: {os.strerror(errno)}")


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1]), sys.argv[2:]))
