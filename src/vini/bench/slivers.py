"""Slivers as containers, beside the same as plain ones: what a tenant's walls cost."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from msgspec import structs

from vini.bench import daemons, ours, setup
from vini.bench.finished import wait_finished
from vini.bench.result import Found, Missing, ratios, row
from vini.client import Client
from vini.model import Topology, Value, ViniError
from vini.node import cgroup
from vini.node.container import crun
from vini.topology import parse

Say = Callable[[str], None]
Runtime = Literal["light", "container"]
RUNTIMES: tuple[Runtime, ...] = ("light", "container")


class Sizes(Value, frozen=True):
    """How much is measured."""

    slivers: int  # in the line that goes up and down
    rounds: int  # repetitions of that, by each runtime in turns
    execs: int  # commands in one sliver
    abilene_rounds: int  # repetitions of Abilene with FRR, likewise; 0: left out


FULL = Sizes(slivers=100, rounds=3, execs=20, abilene_rounds=3)
QUICK = Sizes(slivers=10, rounds=2, execs=10, abilene_rounds=0)


def measure(quick: bool, say: Say, sizes: Sizes | None = None) -> dict[str, Any]:
    """All figures, as values that JSON knows: `machine`, `rows`, `missing`."""
    chosen = sizes or (QUICK if quick else FULL)
    with ours.alone():
        return setup.told(chosen, lambda: asyncio.run(_all(chosen, say)))


async def _all(sizes: Sizes, say: Say) -> Found:
    async with ours.agent() as client:
        if "containers" not in client.capabilities():
            return [
                Missing("slivers as containers", "this machine lacks containers; `vini doctor` says what is needed")
            ]
        out = await _line(client, sizes, say)
        return out + (await _abilene(client, sizes.abilene_rounds, say) if sizes.abilene_rounds else [])


def by(topology: Topology, runtime: Runtime) -> Topology:
    """The same, with that runtime everywhere."""
    return structs.replace(
        topology, slivers={n: structs.replace(s, runtime=runtime) for n, s in topology.slivers.items()}
    )


async def _line(client: Client, sizes: Sizes, say: Say) -> Found:
    n = sizes.slivers
    line = ours.routers(f"line:{n}")
    laps: dict[Runtime, list[ours.Lap]] = {runtime: [] for runtime in RUNTIMES}
    for i in range(sizes.rounds):
        for runtime, found in laps.items():
            say(f"line of {n}, {runtime}: round {i + 1} of {sizes.rounds}")
            found.append(await ours.lap(client, by(line, runtime)))
    up = {runtime: [lap.up_s for lap in found] for runtime, found in laps.items()}
    each_ms = [1000 * (c - light) / n for c, light in zip(up["container"], up["light"], strict=True)]
    say(f"line of {n}, container: what it takes, and commands in it")
    await ours.put(client, by(line, "container"))
    memory, execs = _memory_mb(client, line), {"container": _execs_ms(client, sizes.execs)}
    await client.down(line.name)
    await ours.put(client, by(line, "light"))
    execs["light"] = _execs_ms(client, sizes.execs)
    await client.down(line.name)
    wait_finished(client.place.mark)
    return [
        row(f"{n} containers: up", up["container"], "s", 4.0 if n == 100 else None),
        row(f"{n} light: up", up["light"], "s"),
        row("a container's start, beyond light", each_ms, "ms", 40.0),
        row(f"{n} containers: down returned", [lap.down_s for lap in laps["container"]], "s"),
        row("a container's memory (PSS of its first process and what keeps it)", [memory], "MB", 1.0),
        row("a command in a container", execs["container"], "ms", 15.0, note="the first sliver's; `true`"),
        row("a command in a light sliver", execs["light"], "ms"),
        row("a command: container / light", ratios(execs["container"], execs["light"]), "x"),
    ]


def _memory_mb(client: Client, topology: Topology) -> float:
    """10**6 bytes, the mean of all: their first processes' proportional share of pages (proc(5), smaps_rollup)."""
    groups = [cgroup.of(client.place, f"{topology.name}.{name}", crun.GROUP) for name in topology.slivers]
    return sum(_pss_kib(pid) for group in groups for pid in cgroup.pids(group)) * 1024 / 1e6 / len(groups)


def _pss_kib(pid: int) -> int:
    with suppress(OSError):
        for text in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if text.startswith("Pss:"):
                return int(text.split()[1])
    return 0


def _execs_ms(client: Client, times: int) -> Sequence[float]:
    command = client.enter(ours.SLICE, "r1", ["true"])
    out = []
    for _ in range(times):
        started = time.perf_counter()
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        out.append(1000 * (time.perf_counter() - started))
        if done.returncode:
            raise ViniError(f"A command in a sliver ended with status {done.returncode}: {done.stderr.strip()}")
    return out


async def _abilene(client: Client, rounds: int, say: Say) -> Found:
    """The example of 11 routers with OSPF by FRR, by each runtime in turns."""
    name = "Abilene with OSPF by FRR"
    if not daemons.ABILENE.exists() or "frr" not in client.capabilities():
        return [Missing(name, "it needs FRR, and a checkout")]
    text = daemons.ABILENE.read_text(encoding="utf-8")
    topology = daemons.with_daemon(parse(text, source=str(daemons.ABILENE), default_name="abilene"), "frr")
    times: dict[Runtime, list[float]] = {runtime: [] for runtime in RUNTIMES}
    try:
        for i in range(rounds):
            for runtime, seconds in times.items():
                say(f"{name}, {runtime}: round {i + 1} of {rounds}")
                seconds.append(await daemons.converge(client, by(topology, runtime)))
    except ViniError as e:
        return [Missing(name, str(e).splitlines()[0], failed=True)]
    later = [c - light for c, light in zip(times["container"], times["light"], strict=True)]
    return [
        *(row(f"{name}, {runtime}: up to converged", seconds, "s") for runtime, seconds in times.items()),
        row(f"{name}: containers later than light", later, "s", 1.0),
    ]
