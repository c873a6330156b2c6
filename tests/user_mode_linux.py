"""A kernel of a test's own, and so another init or other modules: user-mode Linux on this machine's files."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from kernel_modules import in_order

HERE = Path(__file__).parent
UML = shutil.which("linux.uml")
WITHIN_S = 900  # the longest takes about 90 on an idle machine

needed = (
    pytest.mark.root,
    pytest.mark.skipif(UML is None, reason="needs linux.uml (`apt-get install user-mode-linux`)"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="user-mode Linux is for x86_64"),
)


def module_files(*names: str) -> list[str]:
    """What `boot` wants: the modules of these names, each after all that it needs."""
    release = subprocess.run([str(UML), "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return [str(p) for p in in_order(Path("/usr/lib/uml/modules") / release, names)]


def boot(
    directory: Path, modules: Sequence[str], command: Sequence[str], init: str = "init.py", *more: str
) -> tuple[int, str]:
    """Run a command in user-mode Linux on this machine's files, read-only; its exit status and output.

    Its first process is `init` of kernel/uml; `more` stands on the kernel's command line.
    """
    preload = directory / "xstate.so"
    flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, "-o", preload, HERE / "kernel/uml/xstate.c", "-ldl"], check=True)
    first = directory / "init"
    first.write_text(f"#!/bin/sh\nexec {sys.executable} -B {HERE / 'kernel/uml' / init}\n")
    first.chmod(0o755)
    argv = [str(UML), "mem=512M", "root=none", "rootfstype=hostfs", "rootflags=/", "ro", "loglevel=1"]
    argv += ["con0=fd:0,fd:1", "con=null", f"init={first}", f"FROM={HERE.parent}"]
    argv += [f"MODULES={','.join(modules)}", f"RUN={'|'.join(command)}", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *more]
    environment = os.environ | {"LD_PRELOAD": str(preload), "TMPDIR": "/dev/shm", "HOME": str(directory)}
    done = subprocess.run(
        argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WITHIN_S
    )
    ended = re.search(r"^exit status (\d+)", done.stdout, re.MULTILINE)
    return int(ended[1]) if ended else -1, done.stdout + done.stderr
