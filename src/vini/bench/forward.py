"""`vini bench forward`: how fast slivers forward, in each mode, beside the kernel's own forwarding in one namespace.

Packets of 64 bytes from a generator in the kernel to a counter in the kernel; the same two ends for every row, so that
only what is between them differs.  What the ends cost by themselves is measured too, over one veth pair: taking it off
gives the forwarder alone.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from socket import if_nametoindex
from tempfile import TemporaryDirectory
from typing import Any

from vini.bench import ours, setup
from vini.bench.between_hosts import between_hosts
from vini.bench.generator import Ends, take_off
from vini.bench.native import Path3, native
from vini.bench.process_forwarding import WARM_S, compile_example, lacking, process_forwarding
from vini.bench.result import Found, Missing, ratios, row
from vini.bench.slice_path import LOOKUP, TABLE, ends, kpps, line, path_through, speak
from vini.client import Client
from vini.edit import set_program
from vini.model import Program, Topology, Value, ViniError
from vini.node import netns

Say = Callable[[str], None]


class Sizes(Value, frozen=True):
    """How much is measured."""

    rounds: int
    seconds: float  # for each figure of packets
    tcp_seconds: float
    chain: int  # routers between the ends of the long chain; 0: left out


FULL = Sizes(rounds=5, seconds=1.0, tcp_seconds=3.0, chain=16)
QUICK = Sizes(rounds=2, seconds=0.4, tcp_seconds=1.0, chain=4)

OVER_SOCKETS = "forwarding by C over AF_XDP"
TUNNEL = {
    "b0": """input(to-a) -> t :: dec-ttl -> e
e :: vxlan-encap(vni=7, local=192.0.2.1, remote=192.0.2.2) -> out(to-b1)
t[expired] -> kernel
""",
    "b1": """input(to-b0) -> d :: vxlan-decap(vni=7, local=192.0.2.2) -> out(to-c)
d[other] -> kernel
""",
}


def measure(quick: bool, say: Say, sizes: Sizes | None = None) -> dict[str, Any]:
    """All figures, as values that JSON knows: `machine`, `rows`, `missing`, and the comparison of 2006 as `summary`."""
    chosen = sizes or (QUICK if quick else FULL)
    with ours.alone():
        results = setup.told(chosen, lambda: asyncio.run(_all(chosen, say)))
    return results | {"summary": summary(results["rows"])}


async def _all(sizes: Sizes, say: Say) -> Found:
    async with ours.agent() as client:
        packets = await _packets(client, sizes, say)
        return [
            *_rows(packets), *await between_hosts(sizes.rounds, sizes.seconds, say), *_processes(sizes, say),
            *await _over_sockets(client, sizes, say),
            *await _streams(client, sizes, say), *await _chains(client, sizes, say),
        ]  # fmt: skip


def _processes(sizes: Sizes, say: Say) -> Found:
    """A process in place of the kernel, in the native path's middle."""
    say("a process that forwards, in C and in Python")
    with native() as raw:
        speak(raw)

        def kernel_forwards(on: bool) -> None:
            with netns.inside(raw.middle):
                subprocess.run(["sysctl", "-qw", f"net.ipv4.ip_forward={int(on)}"], check=True)

        with ends(raw, takes_in=True) as made:
            return process_forwarding(
                raw.middle, kernel_forwards, lambda s: made.run(raw.first, s), sizes.seconds, sizes.rounds
            )


async def _over_sockets(client: Client, sizes: Sizes, say: Say) -> Found:
    """A process in C that has its sliver's vifs as AF_XDP sockets, beside the native path."""
    say("a process that forwards over AF_XDP")
    if why := lacking():
        return [Missing("a process over AF_XDP", why)]
    base, over = [], []
    with TemporaryDirectory() as directory:
        command = f"exec {compile_example('xsk-forwarder', Path(directory))}"
        topology = set_program(line(1), "b", Program("process", command, af_xdp=True))
        for _ in range(sizes.rounds):
            with native() as raw:
                base.append(kpps(raw, sizes.seconds, takes_in=True))
            await ours.put(client, topology)
            of = path(client, topology)
            speak(of)
            with ends(of, takes_in=False) as made:
                made.run(of.first, WARM_S)
                over.append(made.run(of.first, sizes.seconds).arrived_kpps)
            await client.down(topology.name)
    return [
        row(OVER_SOCKETS, over, "kpps"),
        row("a process in C over AF_XDP, of the native rate", ratios(over, base), "x", 0.6, "at least"),
    ]


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """The comparison that the first VINI's authors drew, with today's figures."""
    at = {r["name"]: r["value"] for r in rows}
    names = {"user space": OVER_SOCKETS, "programmable": "64-byte packets: program, kernel's table, XDP",
             "kernel": "64-byte packets: kernel", "native": "64-byte packets: native"}  # fmt: skip
    told = [f"{word} {at[name]:.0f}" for word, name in names.items() if name in at]
    return f"10^3 packets/s: {', '.join(told)} (2006: user space 20, kernel 500, native 750)"


# --- 64-byte packets --------------------------------------------------------------------------


def path(client: Client, topology: Topology) -> Path3:
    """From `a` to `c` through a slice on this machine."""
    return path_through(topology, {s: client.place.netns(f"{topology.name}.{s}") for s in topology.slivers})


def _one_hop(of: Path3, seconds: float) -> float:
    """What the ends can do by themselves: the first vif's packets end at the next one."""
    with netns.inside(of.first):
        made = Ends(if_nametoindex(of.first_dev), of.flow)
    made.put_sink(of.middle, of.middle_dev)
    try:
        return made.run(of.first, seconds).arrived_kpps
    finally:
        take_off(of.middle, of.middle_dev)
        made.close()


async def _packets(client: Client, sizes: Sizes, say: Say) -> dict[str, list[float]]:
    """Name of a way -> 10**3 packets per second, round by round."""
    out: dict[str, list[float]] = defaultdict(list)
    topology = line(1)
    await ours.put(client, topology)
    programs = {
        "program, kernel's table, XDP": Program("elements", LOOKUP, hook="xdp"),
        "program, kernel's table, tc": Program("elements", LOOKUP, hook="tc"),
        "program, table of its own, XDP": Program("elements", TABLE.format(out="to-c"), hook="xdp"),
    }
    for i in range(sizes.rounds):
        say(f"64-byte packets, round {i + 1} of {sizes.rounds}")
        with native() as raw:
            out["the two ends alone"].append(_one_hop(raw, sizes.seconds))
            out["native"].append(kpps(raw, sizes.seconds, takes_in=True))
        await client.edit(topology.name, lambda t: set_program(t, "b", None))
        out["kernel"].append(kpps(path(client, topology), sizes.seconds, takes_in=True))
        for name, program in programs.items():
            changed = set_program(topology, "b", program)
            await ours.put(client, changed)
            of = path(client, changed)
            if "kernel's" in name:  # the others know one direction only, and need no neighbours
                speak(of)
            with ends(of, takes_in="tc" in name) as made:
                out[name].append(made.run(of.first, sizes.seconds).arrived_kpps)
        await client.down(topology.name)
        out[_TUNNEL].append(await _tunnel(client, sizes.seconds))
        await ours.put(client, topology)
    await client.down(topology.name)
    return out


async def _tunnel(client: Client, seconds: float) -> float:
    """Into a VXLAN tunnel at one sliver, out of it at the next."""
    topology = line(2)
    for name, text in TUNNEL.items():
        topology = set_program(topology, name, Program("elements", text, hook="xdp"))
    await ours.put(client, topology)
    of = path(client, topology)
    with ends(of, takes_in=False) as made:
        found = made.run(of.first, seconds).arrived_kpps
    await client.down(topology.name)
    return found


_TUNNEL = "program, VXLAN put on and taken off inside one node, XDP"
_TARGETS = {"kernel": 0.97, "program, kernel's table, XDP": 2.0, "program, table of its own, XDP": 3.0}  # fmt: skip


def _rows(packets: dict[str, list[float]]) -> Found:
    alone, base = packets.pop("the two ends alone"), packets["native"]
    out: Found = [row("64-byte packets: the two ends alone", alone, "kpps")]
    out += [row(f"64-byte packets: {name}", found, "kpps") for name, found in packets.items()]
    for name, found in packets.items():
        if name != "native":
            out.append(row(f"{name} / native, ends included", ratios(found, base), "x", _TARGETS.get(name), "at least"))
            out.append(row(f"{name} / native, the forwarder alone", _alone(found, base, alone), "x",
                           note="what the two ends cost by themselves taken off both"))  # fmt: skip
    return out


def _alone(found: list[float], base: list[float], ends_alone: list[float]) -> list[float]:
    """Ratios of what a packet costs beyond the two ends; a forwarder that costs nothing measurable counts as 1 ns."""
    return [(1e6 / b - 1e6 / e) / max(1e6 / f - 1e6 / e, 1.0) for f, b, e in zip(found, base, ends_alone, strict=True)]


# --- one bulk TCP stream ----------------------------------------------------------------------


async def _streams(client: Client, sizes: Sizes, say: Say) -> Found:
    if shutil.which("iperf3") is None:
        return [Missing("one TCP stream", "there is no iperf3 (`apt-get install iperf3`)")]
    base, kernel, program = [], [], []
    topology = line(1)
    for i in range(sizes.rounds):
        say(f"one TCP stream, round {i + 1} of {sizes.rounds}")
        with native() as raw:
            base.append(_gbit(raw, sizes.tcp_seconds))
        await ours.put(client, topology)
        kernel.append(_gbit(path(client, topology), sizes.tcp_seconds))
        changed = set_program(topology, "b", Program("elements", LOOKUP, hook="tc"))
        await ours.put(client, changed)
        program.append(_gbit(path(client, changed), sizes.tcp_seconds))
    await client.down(topology.name)
    return [
        row("one TCP stream: native", base, "Gbit/s"),
        row("one TCP stream: kernel", kernel, "Gbit/s"),
        row("one TCP stream: program, kernel's table, tc", program, "Gbit/s"),
        row("one TCP stream: kernel / native", ratios(kernel, base), "x"),
        row("one TCP stream: program at tc / native", ratios(program, base), "x", 0.95, "at least"),
    ]


def _gbit(of: Path3, seconds: float) -> float:
    """Of one stream from the first namespace to the last.  Raises ViniError where none comes about."""
    with netns.inside(of.last):
        server = subprocess.Popen(["iperf3", "-s"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    argv = ["iperf3", "-c", of.flow.destination, "-t", f"{seconds:g}", "-J", "--connect-timeout", "3000"]
    try:
        speak(of)
        for _ in range(20):
            with netns.inside(of.first):
                done = subprocess.run(argv, capture_output=True, text=True, check=False)
            found = json.loads(done.stdout).get("end", {}).get("sum_received")
            if found:
                return float(found["bits_per_second"]) / 1e9
            time.sleep(0.1)  # the server is not listening yet
        raise ViniError(f"iperf3 gave no figure: {json.loads(done.stdout).get('error', 'it does not say why')}.")
    finally:
        server.kill()
        server.wait()


# --- chains -----------------------------------------------------------------------------------


async def _chains(client: Client, sizes: Sizes, say: Say) -> Found:
    if not sizes.chain:
        return []
    kernel, program = [], []
    topology = line(sizes.chain)
    programmed = topology
    for name, sliver in topology.slivers.items():
        if sliver.routing:
            programmed = set_program(programmed, name, Program("elements", LOOKUP, hook="xdp"))
    for i in range(sizes.rounds):
        say(f"chain of {sizes.chain} routers, round {i + 1} of {sizes.rounds}")
        await ours.put(client, topology)
        kernel.append(kpps(path(client, topology), sizes.seconds, takes_in=True))
        await ours.put(client, programmed)
        program.append(kpps(path(client, programmed), sizes.seconds, takes_in=False))
    await client.down(topology.name)
    name = f"chain of {sizes.chain} routers"
    return [
        row(f"{name}: kernel", kernel, "kpps"),
        row(f"{name}: program, kernel's table, XDP", program, "kpps"),
        row(f"{name}: program / kernel", ratios(program, kernel), "x", 2.5, "at least"),
    ]
