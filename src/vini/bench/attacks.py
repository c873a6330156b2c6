"""A hostile tenant and a neighbour: what the one tries, and what the other notices of it.

The neighbour is a pair of slivers that have processors reserved, and a link with a rate.  The tenant's sliver has what
a testbed for strangers would give it: half a core, some memory, processes, and a disk.  Of each attack the neighbour's
round trips and its TCP are measured before and during, in turns.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

from vini.bench.inside import asked, filled, measuring
from vini.bench.result import Found, Missing, row
from vini.client import Client
from vini.model import Command, End, Impairment, Link, Resources, Sliver, Topology, Value, ViniError
from vini.node import cgroup

Say = Callable[[str], None]
_ADDRESS, _ECHO, _SINK = "10.0.9.1", 7001, 7002
_RATE_MBIT = 50.0
_LINES = "log-flood"  # a file that says that the sliver's service shall print without end
_NEAR_MS = 0.1  # a difference below is no difference, whatever its share


def _frames(*frames: str) -> str:
    """A command that sends these Ethernet frames (hexadecimal) by the tenant's link, one after the other, for ever."""
    padded = [frame.replace(" ", "").ljust(2 * _FRAME, "0") for frame in frames]
    return (
        (
            "exec /usr/bin/python3 -c 'import itertools, socket\n"
            "s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n"
            f's.bind(("{_VIF}", 0))\n'
            f"for frame in itertools.cycle(map(bytes.fromhex, {padded})):\n"
            "    try: s.send(frame)\n"
            "    except OSError: pass'"
        )
        .replace("['", '["')
        .replace("']", '"]')
        .replace("', '", '", "')
    )


_VIF, _FRAME = "to-i", 60
_EVERYBODY, _SOMEBODY = "ffffffffffff", "02deadbeef01"  # MAC addresses; the second is nobody's here
_CALLS = "321, 248, 250, 298, 425, 165, 272, 308, 101, 175"  # bpf, keys, perf, io_uring, mount, unshare, setns, ...

# What is typed in the tenant's sliver; each goes on until it is ended.
ATTACKS = {
    "processor": "for i in 1 2 3 4; do while :; do :; done & done; wait",
    "fork bomb": "while :; do (sleep 1 & sleep 1 & sleep 1 & sleep 1) 2>/dev/null; done",
    "memory bomb": "while :; do /usr/bin/python3 -c 'x = bytearray(10**9)'; done",
    "disk filler": "while :; do cat /dev/zero > /root/full; sync /root/full; rm /root/full; done",
    "inode filler": (
        "cd /root && mkdir -p many && while :; do i=0; while : > many/$i; do i=$((i+1)); done; "
        "rm -r many; mkdir many; done"
    ),
    "log flood": f"trap 'rm -f /srv/{_LINES}' EXIT; touch /srv/{_LINES}; sleep 1000",
    "conntrack flood": (
        "nft add table ip x; nft 'add chain ip x o { type filter hook output priority 0; }'; "
        "nft add rule ip x o ct state new counter accept; "
        "/usr/bin/python3 -c 'import itertools, socket\n"
        "for n in itertools.count():\n"
        "    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        '    s.sendto(b"x", (f"127.{n >> 20 & 127}.{n >> 12 & 255}.1", 1 + n % 4096))\''
    ),
    "output": "while :; do cat /dev/zero; done",
    "broadcast storm": _frames(
        f"{_EVERYBODY} {_SOMEBODY} 88b5",
        f"{_EVERYBODY} {_SOMEBODY} 0806 0001 0800 0604 0001 {_SOMEBODY} 0a000902 000000000000 0a000903",
        f"01005e000005 {_SOMEBODY} 0800 4500002e 0000 0000 01 59 0000 0a000902 e0000005",
    ),
    "MAC, ARP, IP and ND spoofing": _frames(
        f"{_EVERYBODY} {_SOMEBODY} 0806 0001 0800 0604 0002 {_SOMEBODY} 0a000901 {_EVERYBODY} 0a000900",
        f"{_EVERYBODY} {_SOMEBODY} 0800 4500002e 0000 0000 40 11 0000 0a000901 0a000900",
        f"333300000001 {_SOMEBODY} 86dd 60000000 0018 3a ff {'0' * 64} 88",
    ),
    "forbidden system calls": (
        "while :; do mount -t tmpfs x /mnt; unshare -n true; nsenter -t 1 -n true; mknod /tmp/disk b 254 0; done & "
        "exec /usr/bin/python3 -c 'import ctypes\n"
        "call = ctypes.CDLL(None).syscall\n"
        f"while True: [call(n, 0, 0, 0, 0, 0) for n in ({_CALLS})]'"
    ),
    "queues of packets": (  # not as long as what he would be ended for
        "exec /usr/bin/python3 -c 'import fcntl, os, socket, struct, subprocess\n"
        'tun = os.open("/dev/net/tun", os.O_RDWR)\n'
        'fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"long", 0x1001))\n'  # TUNSETIFF, IFF_TUN | IFF_NO_PI
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "while True:\n"
        '    subprocess.run("ip link set long txqueuelen 25000 up; ip addr add 198.51.100.1/24 dev long", '
        "shell=True)\n"
        '    for _ in range(25000): s.sendto(bytes(1400), ("198.51.100.2", 9))\''
    ),
    "reading /proc and /sys": "while :; do timeout 5 find /proc /sys -type f -exec head -qc 65536 {} +; done",
    "links that come and go": "cd /srv && while :; do ln -sfn /proc/1 way; ln -sfn /etc way; mkdir d; rm -r d; done",
}
_FLOOD = f"while :; do if [ -e /srv/{_LINES} ]; then timeout 1 yes what nobody reads; else sleep 0.1; fi; done"


class Sizes(Value, frozen=True):
    """How much is measured of each attack."""

    rounds: int
    seconds: float  # of TCP, before and during
    asked: int  # round trips, before and during
    names: tuple[str, ...] = tuple(ATTACKS)


def neighbour() -> Topology:
    """Who must not suffer."""
    runs = {"x": (), "y": (f"echo {_ECHO}", f"sink {_SINK}")}
    slivers = {name: measuring(name, said, Resources(reserve=0.5)) for name, said in runs.items()}
    ends = (End("x", addresses=("10.0.9.0/31",)), End("y", addresses=("10.0.9.1/31",)))
    return Topology("calm", slivers, (Link(ends, impairment=Impairment(rate_mbit=_RATE_MBIT)),))


def tenant() -> Topology:
    """Who makes it suffer."""
    resources = Resources(cores=0.5, memory_mb=64, pids=100, disk_mb=48, inodes=3000, disk_write_mb=20)
    commands = (Command(_FLOOD, service=True),)
    slivers = {
        "h": Sliver("h", runtime="container", commands=commands, resources=resources),
        "i": Sliver("i", runtime="container", resources=resources),
    }
    return Topology("hostile", slivers, (Link((End("h"), End("i"))),))


async def neighbours(client: Client, sizes: Sizes, say: Say) -> Found:
    """What each attack leaves of a neighbour's TCP, and adds to its round trips."""
    await client.up(neighbour(), timeout_s=60)
    await client.up(tenant(), timeout_s=60)
    out: Found = []
    try:
        for name in sizes.names:
            say(f"a neighbour of: {name}")
            try:
                out += await _suffered(client, name, ATTACKS[name], sizes)
            except ViniError as e:
                out.append(Missing(f"a neighbour of: {name}", str(e).rstrip("."), failed=True))
    finally:
        await client.down("hostile")
        await client.down("calm")
    return out


async def _suffered(client: Client, name: str, command: str, sizes: Sizes) -> Found:
    kept, added, shares = [], [], []
    for _ in range(sizes.rounds):
        calm = await asyncio.to_thread(_measured, client, sizes)
        with attacking(client, command):
            attacked = await asyncio.to_thread(_measured, client, sizes)
        kept.append(100 * attacked[0] / calm[0])
        added.append(attacked[1] - calm[1])
        shares.append(100 * (attacked[1] / calm[1] - 1))
    note = f"{median(shares):+.0f} % of the median"
    return [
        row(f"a neighbour of: {name}: TCP that it keeps", kept, "%", 95.0, "at least"),
        row(f"a neighbour of: {name}: added to its round trips", added, "ms", _NEAR_MS, note=note),
    ]


def _measured(client: Client, sizes: Sizes) -> tuple[float, float]:
    """Mbit/s, and the median of round trips in ms."""
    mbit = filled(client, "calm", "x", _ADDRESS, _SINK, sizes.seconds)
    return mbit, median(filter(None, asked(client, "calm", "x", _ADDRESS, _ECHO, sizes.asked, 3)))


@contextmanager
def attacking(client: Client, command: str, settle_s: float = 0.3) -> Iterator[None]:
    """While it lasts, the tenant does that; then all that it started is ended."""
    entered = client.enter("hostile", "h", ["sh", "-c", command])
    quiet = subprocess.DEVNULL
    with subprocess.Popen(entered, stdin=quiet, stdout=quiet, stderr=quiet) as child:
        try:
            time.sleep(settle_s)
            yield
        finally:
            cgroup.kill(cgroup.of(client.place, "hostile.h", "exec"))  # where commands are, and nothing else
            child.wait()
            tidy = ["sh", "-c", f"rm -rf /srv/{_LINES} /srv/way /srv/d /root/full /root/many"]
            subprocess.run(client.enter("hostile", "h", tidy), stdin=quiet, stdout=quiet, stderr=quiet)
