"""nft(8), and the number that the kernel gives to each state of a namespace's rules."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from hashlib import sha256

from vini.model import DriverError
from vini.node import netlink as nl

_PATIENCE_S = 30.0
_NETFILTER = 12  # NETLINK_NETFILTER
_GETGEN = 10 << 8 | 16  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN: linux/netfilter/nf_tables.h
_GEN_ID = 1  # NFTA_GEN_ID


def generation() -> int:
    """Counts on with every change of any rule in this thread's namespace; 0 where the kernel doesn't say."""
    with nl.Socket(_NETFILTER) as socket:
        answer = socket.ask(nl.message(_GETGEN, 0, struct.pack("=BBH", 0, 0, 0)))
    value = nl.attributes(answer, 20).get(_GEN_ID) if answer else None
    return int.from_bytes(value, "big") if value else 0


def load(text: str) -> None:
    """All of it at one moment, or nothing.  Raises DriverError."""
    done = _run(["-f", "-"], text)
    if done.returncode:
        said = " ".join(line.strip() for line in done.stderr.splitlines()[:1])
        raise DriverError(f"nft refused: {said}")


def printed(name: str) -> str:
    """A digest of what the kernel has of the tables of that name, without their counters; "" where one is missing."""
    out = [printed_of(family, name) for family in ("netdev", "inet")]
    return " ".join(out) if all(out) else ""


def printed_of(family: str, name: str) -> str:
    """The part of `printed` that is of that table."""
    done = _run(["-s", "list", "table", family, name])
    return "" if done.returncode else sha256(done.stdout.encode()).hexdigest()


def used(name: str) -> int:
    """Bytes of today's that were spent already; 0 where nobody counts."""
    done = _run(["-j", "list", "quotas", "table", "netdev", name])
    if done.returncode:
        return 0
    found = [item["quota"]["used"] for item in json.loads(done.stdout)["nftables"] if "quota" in item]
    return int(found[0]) if found else 0


def counters(name: str) -> dict[str, int]:
    """Counter -> packets that were dropped for that reason, in both tables together."""
    out: dict[str, int] = {}
    for family in ("netdev", "inet"):
        done = _run(["-j", "list", "counters", "table", family, name])
        for item in json.loads(done.stdout)["nftables"] if done.returncode == 0 else ():
            if "counter" in item:
                counter = item["counter"]
                out[counter["name"]] = out.get(counter["name"], 0) + int(counter["packets"])
    return out


def new_day(name: str) -> None:
    """Today's bytes are counted from 0 again."""
    _run(["reset", "quotas", "table", "netdev", name])


def _run(words: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    if shutil.which("nft") is None:
        raise DriverError("this node lacks nft; `apt-get install nftables` there")
    try:
        return subprocess.run(["nft", *words], input=text, capture_output=True, text=True, timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired as e:  # it is killed: what it began at one moment did not happen
        raise DriverError(f"nft did not end within {_PATIENCE_S:g} s") from e
