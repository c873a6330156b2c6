"""Which programs a run was made with."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
from pathlib import Path

from vini import __version__

# Each prints its version somewhere in its first lines; daemons lie outside of a user's PATH.
COMMANDS = {
    "frr": ("/usr/lib/frr/zebra", "--version"),
    "bird": ("bird", "--version"),
    "iperf3": ("iperf3", "--version"),
    "traceroute": ("traceroute", "--version"),
    "tcpdump": ("tcpdump", "--version"),
}
NUMBER = re.compile(r"\d+(?:\.\d+)*\S*")


async def versions() -> dict[str, str]:
    """Name -> version; "" for what is not installed."""
    found = await asyncio.gather(*(_of(*argv) for argv in COMMANDS.values()))
    return {
        "vini": __version__,
        "commit": await _commit(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        **dict(zip(COMMANDS, found, strict=True)),
    }


async def _of(*argv: str) -> str:
    text = await _output(*argv)
    # "iperf 3.12 (cJSON 1.7.15)", "BIRD version 2.0.12"
    number = NUMBER.search(re.sub(r"\b(iperf|ip)3\b", "", text))
    return number[0].rstrip(",)") if number else ""


async def _commit() -> str:
    """The git commit of our own source, "+" when it has changes; "" for an installed package."""
    source = str(Path(__file__).parent)
    commit = (await _output("git", "-C", source, "rev-parse", "HEAD")).strip()
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        return ""
    dirty = await _output("git", "-C", source, "status", "--porcelain", "--", source)
    return commit + ("+" if dirty.strip() else "")


async def _output(*argv: str) -> str:
    program = shutil.which(argv[0], path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None:
        return ""
    process = await asyncio.create_subprocess_exec(
        program, *argv[1:], stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    return out.decode(errors="replace")
