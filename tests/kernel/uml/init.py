"""PID 1 of user-mode Linux or QEMU on this machine's files, read-only: load modules, run one command, power off.

Environment: MODULES (paths, or paths below user-mode Linux's directory of modules; comma-separated),
RUN (the command, its words separated by "|"), FROM (the directory to run it in), PATH.
The last line of output is "exit status N".
"""

import ctypes
import os
import subprocess
import sys
import termios
import time
import traceback
from pathlib import Path

_FINIT_MODULE = 313  # x86_64
_BIND = 4096  # MS_BIND
_LIBC = ctypes.CDLL(None, use_errno=True)


def mount(kind: str, target: str, source: str = "none", flags: int = 0) -> None:
    if _LIBC.mount(source.encode(), target.encode(), kind.encode(), flags, None):
        raise OSError(ctypes.get_errno(), f"mounting {kind} {source} at {target}")


def bind(source: str, target: str) -> None:
    mount("none", target, source, _BIND)


def insert(module: Path) -> None:
    """As insmod(8), which a small machine may lack; finit_module(2)."""
    with module.open("rb") as file:
        if _LIBC.syscall(_FINIT_MODULE, file.fileno(), b"", 0):
            raise OSError(ctypes.get_errno(), f"inserting {module}")


def prepare() -> None:
    """The file systems that everything needs, the modules, and a place for what is written."""
    for kind, target in (("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/run"), ("cgroup2", "/sys/fs/cgroup")):
        mount(kind, target)
    modules = Path("/usr/lib/uml/modules") / os.uname().release / "kernel"
    for name in os.environ["MODULES"].split(","):
        insert(modules / name)
    Path("/run/tmp").mkdir()  # nothing on /tmp: the checkout, or its Python, may live there


def main() -> int:
    prepare()
    os.environ.update(PYTHONDONTWRITEBYTECODE="1", HOME="/run/tmp", TMPDIR="/run/tmp")
    return subprocess.run(os.environ["RUN"].split("|"), cwd=os.environ["FROM"]).returncode


if __name__ == "__main__":
    try:
        print(f"exit status {main()}", flush=True)
    except Exception:
        traceback.print_exc()
    finally:
        termios.tcdrain(sys.stdout)  # the power goes off at once
        Path("/proc/sysrq-trigger").write_text("o")
        time.sleep(60)  # PID 1 must not end before the power is off
