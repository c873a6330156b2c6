"""A whole Linux of a test's own, where user-mode Linux lacks something: QEMU on this machine's files.

It emulates the processor, more than ten times slower than this machine's.  The kernel is Debian's;
`tests/kernel/qemu/fetch-kernel` unpacks one, without installing it, where `kernel` looks for it.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from kernel_modules import in_order

HERE = Path(__file__).parent
QEMU = shutil.which("qemu-system-x86_64")
BUSYBOX = Path("/bin/busybox")
ROOT = ("virtio_pci", "9pnet_virtio", "9p")  # modules that the root file system needs
WITHIN_S = 900  # all of its tests take about 200 on an idle machine


def kernel() -> Path | None:
    """Where a Debian kernel package is unpacked, if it is."""
    return max(Path(os.environ.get("VINI_CACHE", "/var/cache/vini")).glob("kernel-[0-9]*"), default=None)


needed = (
    pytest.mark.root,
    pytest.mark.skipif(QEMU is None, reason="needs QEMU (`apt-get install qemu-system-x86`)"),
    pytest.mark.skipif(not BUSYBOX.exists(), reason="needs the package busybox-static"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the kernel is for x86_64"),
    pytest.mark.skipif(kernel() is None, reason="needs a Debian kernel (`tests/kernel/qemu/fetch-kernel`)"),
)


INIT = """\
#!/bin/busybox sh
b=/bin/busybox
for file in {files}; do $b insmod /modules/$file; done
$b mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=524288,cache=loose host /root
$b mount -t devtmpfs none /root/dev
$b ln -s /proc/self/fd/0 /root/dev/stdin
exec </root/dev/console >/root/dev/console 2>&1
export {environment}
exec $b switch_root /root {then}
"""


def boot(directory: Path, modules: Sequence[str], command: Sequence[str]) -> tuple[int, str]:
    """Run a command in QEMU on this machine's files, read-only; its exit status and output."""
    at = kernel()
    assert at
    tree = next((at / "lib/modules").iterdir())
    argv = [str(QEMU), "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1", "-m", "768M"]
    argv += ["-nographic", "-no-reboot", "-nic", "none"]
    argv += ["-kernel", str(next((at / "boot").glob("vmlinuz-*"))), "-append", "console=ttyS0 loglevel=1"]
    argv += ["-initrd", str(_initramfs(directory, tree, _environment(tree, modules, command)))]
    argv += ["-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WITHIN_S)
    output = (done.stdout + done.stderr).replace("\r", "")
    ended = re.search(r"^exit status (\d+)", output, re.MULTILINE)
    return int(ended[1]) if ended else -1, output


def _environment(tree: Path, modules: Sequence[str], command: Sequence[str]) -> dict[str, str]:
    """What kernel/uml/init.py wants to know."""
    root = in_order(tree, ROOT)
    files = ",".join(str(p) for p in in_order(tree, modules) if p not in root)
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "FROM": str(HERE.parent), "RUN": "|".join(command), "MODULES": files}


def _initramfs(directory: Path, tree: Path, environment: dict[str, str]) -> Path:
    """Mounts this machine's root, and goes on there with kernel/uml/init.py."""
    content = directory / "initramfs"
    for name in ("bin", "root", "modules"):
        (content / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, content / "bin/busybox")
    files = in_order(tree, ROOT)
    for file in files:
        shutil.copy(file, content / "modules")
    init = content / "init"
    init.write_text(
        INIT.format(
            files=" ".join(file.name for file in files),
            environment=" ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items()),
            then=shlex.join([sys.executable, "-B", str(HERE / "kernel/uml/init.py")]),
        )
    )
    init.chmod(0o755)
    return _archive(content, directory / "initramfs.cpio")


def _archive(content: Path, image: Path) -> Path:
    names = "".join(f"{p.relative_to(content)}\n" for p in sorted(content.rglob("*")))
    with image.open("wb") as out:
        argv = [str(BUSYBOX), "cpio", "-o", "-H", "newc"]
        subprocess.run(argv, input=names.encode(), stdout=out, stderr=subprocess.DEVNULL, cwd=content, check=True)
    return image
