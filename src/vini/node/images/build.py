"""The reference image: a small Debian with what slivers need, by mmdebstrap(1)."""

from __future__ import annotations

import hashlib
import platform
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import msgspec

from vini.model import Unsupported, Value, ViniError
from vini.node.images.obtain import Say, of_archive
from vini.node.images.store import Image, Store

# Routing, looking, measuring; sh, sleep, tar and ps of the base.  No sshd: slivers are logged in to by the node.
PACKAGES = (
    "bird2", "ca-certificates", "conntrack", "ethtool", "frr", "iperf3", "iproute2", "iputils-ping", "less", "nftables",
    "openssh-sftp-server", "procps", "python3-minimal", "rsync", "tcpdump", "traceroute", "vim-tiny",
)  # fmt: skip
SUITE = "bookworm"
_EMPTIED = ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")


class Recipe(Value, frozen=True):
    """All that decides what is in an image, but for the day on which it is built."""

    suite: str = SUITE
    mirror: str = ""  # Debian's own, with its security updates
    packages: tuple[str, ...] = PACKAGES
    architecture: str = platform.machine()
    version: int = 1  # of this file's way of building

    @property
    def digest(self) -> str:
        """64 hexadecimal digits."""
        return hashlib.sha256(msgspec.json.encode(msgspec.structs.asdict(self), order="sorted")).hexdigest()


def built(store: Store, recipe: Recipe, say: Say, *, again: bool = False) -> Image:
    """The image that is built by this recipe; from the store, unless `again`.  Minutes otherwise.

    Raises Unsupported without mmdebstrap, ViniError with what that said where it fails.
    """
    there = [i for i in store.images() if i.recipe == recipe.digest]
    if there and not again:
        return there[-1]
    if shutil.which("mmdebstrap") is None:
        raise Unsupported("Images are built by mmdebstrap; install it with `apt-get install mmdebstrap`.")
    # Not in the store, which is locked only while it is unpacked: slivers that need other images need not wait.
    with tempfile.TemporaryDirectory(prefix="vini-image-", dir="/var/tmp") as room:
        file = Path(room) / "image.tar"
        _debootstrap(recipe, file, say)
        say(f"unpacking {file.stat().st_size / 10**6:.0f} MB")
        with store.lock():
            what = f"mmdebstrap {recipe.suite}, {len(recipe.packages)} packages"
            return store.describe(of_archive(store, file, what), recipe=recipe.digest)


def _debootstrap(recipe: Recipe, file: Path, say: Say) -> None:
    hooks = [f'--customize-hook=rm -rf "$1"/{d}/*' for d in _EMPTIED]
    command = [
        "mmdebstrap", "--mode=root", "--variant=minbase", "--format=tar", f"--include={','.join(recipe.packages)}",
        "--aptopt=Apt::Install-Recommends \"false\"", *hooks, recipe.suite, str(file),
        *([recipe.mirror] if recipe.mirror else []),
    ]  # fmt: skip
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    said: list[str] = []
    try:
        assert child.stderr
        for line in child.stderr:
            said = [*said[-20:], line.strip()]
            if line.startswith("I: "):
                say(line[3:].strip())
        if child.wait():
            why = next((s for s in reversed(said) if s.startswith("E:")), said[-1] if said else "no reason given")
            raise ViniError(f"The image can't be built; mmdebstrap said: {why}")
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            child.wait()
