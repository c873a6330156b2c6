"""The netem backend where the machine's own kernel lacks netem: test_shape.py inside user-mode Linux."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vini.node.probe import capabilities

HERE = Path(__file__).parent
UML = shutil.which("linux.uml")
WITHIN_S = 240  # it takes about 60 on an idle machine

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif("netem" in capabilities(), reason="this kernel has netem: test_shape.py has run it"),
    pytest.mark.skipif(UML is None, reason="needs linux.uml (`apt-get install user-mode-linux`)"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="user-mode Linux is for x86_64"),
]


def boot(directory: Path, modules: list[str], command: list[str]) -> tuple[int, str]:
    """Run a command in user-mode Linux on this machine's files, read-only; its exit status and output."""
    preload = directory / "xstate.so"
    flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, "-o", preload, HERE / "uml/xstate.c", "-ldl"], check=True)
    init = directory / "init"
    init.write_text(f"#!/bin/sh\nexec {sys.executable} {HERE / 'uml/init.py'}\n")
    init.chmod(0o755)
    argv = [str(UML), "mem=512M", "root=none", "rootfstype=hostfs", "rootflags=/", "ro", "quiet"]
    argv += ["con0=fd:0,fd:1", "con=null", f"init={init}", f"FROM={HERE.parent.parent}"]
    argv += [f"MODULES={','.join(modules)}", f"RUN={'|'.join(command)}", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
    environment = os.environ | {"LD_PRELOAD": str(preload), "TMPDIR": "/dev/shm", "HOME": str(directory)}
    done = subprocess.run(
        argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WITHIN_S
    )
    ended = re.search(r"^exit status (\d+)", done.stdout, re.MULTILINE)
    return int(ended[1]) if ended else -1, done.stdout + done.stderr


def test_the_netem_backend_means_the_same(tmp_path: Path) -> None:
    modules = ["drivers/net/veth.ko", "net/sched/sch_netem.ko"]
    pytest_netem = [sys.executable, "-m", "pytest", "--color=no", "-p", "no:cacheprovider", "-k", "netem"]
    status, output = boot(tmp_path, modules, [*pytest_netem, "tests/kernel/test_shape.py"])
    assert status == 0, output
    assert re.search(r"\d+ passed", output), output
