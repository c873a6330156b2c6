"""Our programs in C: compiled when first needed, once per source, kept in VINI_CACHE (/var/cache/vini)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from vini.model import DriverError, Unsupported

FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-pthread")


def sources(directory: Path) -> list[Path]:
    """A program's files, in an order that doesn't change."""
    return sorted(directory.glob("*.[ch]"))


def build(name: str, source: Path, libraries: Sequence[str] = ()) -> Path:
    """The program made of all `*.c` in a directory.  Unsupported without a compiler; DriverError with what it says."""
    files = sources(source)
    digest = blake2b(" ".join((*FLAGS, *libraries)).encode(), digest_size=8)
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    program = Path(os.environ.get("VINI_CACHE", "/var/cache/vini")) / f"{name}-{digest.hexdigest()}"
    if program.exists():
        return program
    if shutil.which("gcc") is None:
        raise Unsupported(f"This node can't build its link {name}: it needs gcc (`apt-get install gcc libc6-dev`).")
    program.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    new = program.with_name(f"{program.name}.{os.getpid()}")  # renamed when whole: others may build it too
    units = [path for path in files if path.suffix == ".c"]
    done = subprocess.run(["gcc", *FLAGS, "-o", new, *units, *libraries], capture_output=True, text=True)
    if done.returncode:
        raise DriverError(f"gcc could not build the link {name}: {done.stderr.strip()[-400:]}")
    new.replace(program)
    return program
