"""`vini bench fleet`: how a central does with a thousand nodes, each a real agent over a machine in a dict.

The central, its database and the agents are processes of their own, in directories of their own; nothing of them is
left when it ends.  Moments are of one clock, since all is on one machine.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Literal

from msgspec import structs

from vini.bench import fleet_postgres, fleet_store, interrupts, setup
from vini.bench.fleet_central import NICE, Central
from vini.bench.fleet_processes import PATIENCE_S, children, cpu_s, pss_mb, read, running
from vini.bench.fleet_told import Fleet
from vini.bench.ours import PLACE, alone
from vini.bench.result import Found, Missing, row
from vini.formats import generate
from vini.model import Impairment, Topology, Value
from vini.node import identity as identities

Say = Callable[[str], None]
_ONE, _ALL = "home_one", "home_all"


class Sizes(Value, frozen=True):
    """How much is measured."""

    agents: int
    slices: int  # in the store, each with a sliver on every node
    rounds: int  # of the slice on all nodes
    changes: int  # of one link in a slice of three slivers
    changes_of_all: int  # of one link in the slice that is on all nodes
    idle_s: float
    settled_s: float = 1.0  # without more to do: the central is idle
    rest_s: float = 5.0  # of a real agent, before its memory is measured
    engine: Literal["hub", "nats"] = "hub"  # what the central reaches its nodes over


FULL = Sizes(agents=1000, slices=600, rounds=3, changes=30, changes_of_all=3, idle_s=10)
QUICK = Sizes(agents=100, slices=60, rounds=3, changes=30, changes_of_all=3, idle_s=10)


def measure(quick: bool, say: Say, sizes: Sizes | None = None) -> dict[str, Any]:
    """All figures, as values that JSON knows: `machine`, `rows`, `missing`.

    A target that speaks of a size is judged at that size only, so not by `quick`.
    """
    chosen = sizes or (QUICK if quick else FULL)
    with alone(), interrupts.tidily(), _places() as (disk, memory):
        return setup.told(chosen, lambda: _all(chosen, disk, memory, say))


@contextmanager
def _places() -> Iterator[tuple[Path, Path]]:
    """A directory on the disk, and one in memory for the agents' ledgers: each would have a disk of its own."""
    disk, memory = PLACE.state / "fleet", Path("/dev/shm/vbench-fleet")
    if not memory.parent.is_dir():
        memory = disk / "agents"
    try:
        for directory in (disk, memory):
            shutil.rmtree(directory, ignore_errors=True)  # of one that was killed; nobody else runs now
            directory.mkdir(parents=True)
        yield disk, memory
    finally:
        for directory in (memory, PLACE.state, PLACE.run):
            shutil.rmtree(directory, ignore_errors=True)


def _all(sizes: Sizes, disk: Path, memory: Path, say: Say) -> Found:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with ExitStack() as stack:
        out: Found = []
        bin_ = fleet_postgres.programs()
        if bin_:
            url, database_pid = stack.enter_context(fleet_postgres.postgres(bin_, disk / "pg", NICE))
        else:
            url, database_pid = "", 0
            out.append(Missing("PostgreSQL", "it is not installed (`apt-get install postgresql`); all is on SQLite"))
        central = stack.enter_context(Central.running(disk / "central", url, sizes.engine))
        keys = {f"n{i:04}": os.urandom(32) for i in range(1, sizes.agents + 1)}
        names = list(keys)
        out += _filled(central, keys, sizes, say)
        fleet = stack.enter_context(Fleet.running(memory, central, keys, sizes.slices))
        say(f"{sizes.agents} agents dial in")
        out.append(row(f"{sizes.agents} nodes dial in at once: all are connected", [fleet.connect()], "s"))
        out.append(
            row(
                f"{sizes.agents} nodes dial in at once: all is said and the central idle",
                [fleet.settle(central, sizes.settled_s)],
                "s",
            )
        )
        out += _slice_on_all(central, fleet, names, sizes, say)
        out += _changes(central, fleet, names, sizes, say)
        out += _pages(central, sizes, say)
        out += _idle(central, fleet, database_pid, sizes, say)
        say("the memory of a real agent")
        out += _real_agent(central, sizes.rest_s)
        return out


def _at(sizes: Sizes, target: float) -> float | None:
    return target if sizes.agents >= FULL.agents else None


def _filled(central: Central, keys: dict[str, bytes], sizes: Sizes, say: Say) -> Found:
    names = list(keys)
    say(f"the store is filled: {sizes.slices} slices, each on {len(names)} nodes")
    started = time.monotonic()
    fleet_store.join(central.database, keys)
    size = fleet_store.fill(central.database, names, sizes.slices) if sizes.slices else 0
    note = f"{size / 1e6:.0f} MB of specs; written as rows, not by the central"
    return [row(f"the store holds {sizes.slices} x {len(names)} specs: filled in", [time.monotonic() - started], "s",
                note=note)]  # fmt: skip


def _slice_on_all(central: Central, fleet: Fleet, names: Sequence[str], sizes: Sizes, say: Say) -> Found:
    """A line with one router on each node: every link leads from node to node."""
    line = generate(f"line:{len(names)}")
    pinned = {
        s.name: structs.replace(s, forward=True, node=node)
        for s, node in zip(line.slivers.values(), names, strict=True)
    }
    topology = structs.replace(line, name=_ALL, slivers=pinned)
    central.add_slice(_ALL)
    accepted, held, reported, ended, gone, cpu = [], [], [], [], [], []
    for i in range(sizes.rounds):
        say(f"a slice on all {len(names)} nodes, {i + 1} of {sizes.rounds}")
        fleet.settle(central, sizes.settled_s)
        before = cpu_s(central.pid)
        generation, started, answered = central.put(topology)
        last = max(fleet.arrived(_ALL, generation, names).values())
        accepted.append(answered - started)
        held.append(max(0.0, last - answered))
        reported.append(central.until_reported(_ALL, generation) - answered)
        cpu.append(cpu_s(central.pid) - before)
        if i == sizes.rounds - 1:
            break
        generation, started, answered = central.put(Topology(_ALL, {}))
        ended.append(answered - started)
        gone.append(max(0.0, max(fleet.arrived(_ALL, generation, names).values()) - answered))
    name = f"a slice on all {len(names)} nodes"
    out: Found = [
        row(f"{name}: accepted", accepted, "s", _at(sizes, 2.0)),
        row(f"{name}: every agent holds its spec, after that", held, "s", _at(sizes, 2.0)),
        row(f"{name}: the store has every report, after that", reported, "s"),
        row(f"{name}: the central's processor time for it all", cpu, "s"),
    ]
    if ended:
        out += [row(f"{name}: its end accepted", ended, "s"), row(f"{name}: everywhere ended, after that", gone, "s")]
    return out


def _changes(central: Central, fleet: Fleet, names: Sequence[str], sizes: Sizes, say: Say) -> Found:
    """From before the request until the node has the changed spec in its ledger."""
    say("single changes")
    line = structs.replace(generate("line:3"), name=_ONE)
    central.add_slice(_ONE)
    generation, *_ = central.put(_with_delay(line, 0))
    (node,) = fleet.arrived(_ONE, generation, names, 1)
    fleet.settle(central, sizes.settled_s)
    out: Found = []
    before = cpu_s(central.pid)
    took = [_change(central, fleet, _with_delay(line, i), [node]) for i in range(1, sizes.changes + 1)]
    cpu = (cpu_s(central.pid) - before) / sizes.changes
    out.append(_slowest("a change of one link, of 3 slivers on a node: the node holds it", took, _at(sizes, 50.0)))
    out.append(row("the same: the central's processor time, each", [1000 * cpu], "ms"))
    asked = central.asked(_ALL)
    took = [_change(central, fleet, _with_delay(asked, i), names[:2]) for i in range(1, sizes.changes_of_all + 1)]
    out.append(_slowest(f"the same in the slice on all {len(names)} nodes: its two nodes hold it", took, None))
    return out


def _slowest(name: str, took_s: Sequence[float], target: float | None) -> Any:
    return row(name, [1000 * t for t in took_s], "ms", target)


def _with_delay(topology: Topology, ms: int) -> Topology:
    first, *others = topology.links
    changed = structs.replace(first, impairment=Impairment(delay_ms=ms))
    return structs.replace(topology, links=(changed, *others))


def _change(central: Central, fleet: Fleet, topology: Topology, nodes: Sequence[str]) -> float:
    generation, started, _ = central.put(topology)
    last = max(fleet.arrived(topology.name, generation, nodes).values())
    central.until_reported(topology.name, generation)
    return last - started


_LISTS = ("slices", "nodes", "events", "persons", "sites", "nodegroups", "tags", "leases")


def _pages(central: Central, sizes: Sizes, say: Say) -> Found:
    say("pages of lists")
    out: Found = []
    for limit, target in ((100, 100.0), (1000, None)):
        took = {what: _page(central, f"{what}?limit={limit}") for what in _LISTS}
        if limit == 100:  # the first and the second half of a list differ in what is skipped
            took["slices, from the middle"] = _page(central, f"slices?limit=100&cursor={_middle(sizes)}")
        slowest = max(took, key=lambda what: median(took[what]))
        note = "; ".join(f"{what} {median(ms):.0f}" for what, ms in took.items())
        out.append(row(f"a page of {limit}, of the slowest list ({slowest})", took[slowest], "ms",
                       _at(sizes, target) if target else None, note=note))  # fmt: skip
    return out


def _middle(sizes: Sizes) -> str:
    names = fleet_store.filled(sizes.slices)
    return names[len(names) // 2] if names else ""


def _page(central: Central, path: str) -> list[float]:
    took = []
    for _ in range(10):
        started = time.monotonic()
        central.get(path)
        took.append(1000 * (time.monotonic() - started))
    return took


def _idle(central: Central, fleet: Fleet, database_pid: int, sizes: Sizes, say: Say) -> Found:
    say(f"nothing to do for {sizes.idle_s:g} s")
    parties = {"the central": [central.pid], "all agents": fleet.pids}
    if database_pid:
        parties["PostgreSQL"] = [database_pid]
    if sizes.engine == "nats":
        parties["nats-server"] = children(central.pid)
    fleet.settle(central, sizes.settled_s)
    before, started = {name: sum(map(cpu_s, pids)) for name, pids in parties.items()}, time.monotonic()
    time.sleep(sizes.idle_s)
    seconds = time.monotonic() - started
    shares = {name: 100 * (sum(map(cpu_s, pids)) - before[name]) / seconds for name, pids in parties.items()}
    idle = f"{sizes.agents} nodes, nothing to do"
    out: Found = [
        row(
            f"{idle}: the central",
            [shares["the central"]],
            "% of a core",
            _at(sizes, 10.0),
            note="with its nats-server" if "nats-server" in parties else "",
        ),
    ]
    if database_pid:
        out.append(row(f"{idle}: PostgreSQL", [shares["PostgreSQL"]], "% of a core"))
    if "nats-server" in parties:
        out.append(row(f"{idle}: nats-server", [shares["nats-server"]], "% of a core"))
        out.append(row("memory of nats-server", [sum(map(pss_mb, parties["nats-server"]))], "MB"))
    note = "on as many machines, otherwise"
    out.append(row(f"{idle}: the simulated agents together", [shares["all agents"]], "% of a core", note=note))
    out.append(row("memory of the central", [pss_mb(central.pid)], "MB"))
    return out


def _real_agent(central: Central, rest_s: float) -> Found:
    """One over the real drivers, that has joined, and holds nothing."""
    name, key = "real", os.urandom(32)
    fleet_store.join(central.database, {name: key}, address="198.19.0.1")
    identities.write(PLACE.state, central.identity(name, key))
    place = {"VINI_MARK": PLACE.mark, "VINI_RUN": str(PLACE.run), "VINI_STATE": str(PLACE.state)}
    with running(
        [sys.executable, "-m", "vini.node.serve"], PLACE.state / "agent.log", env={**os.environ, **place}
    ) as p:
        deadline = time.monotonic() + PATIENCE_S
        while b"connected to" not in read(identities.directory(PLACE.state) / "status.json"):
            if time.monotonic() > deadline or p.poll() is not None:
                return [Missing("a real agent's memory", "it did not connect to the central", failed=True)]
            time.sleep(0.1)
        time.sleep(rest_s)
        return [row("memory of a real agent, connected and idle", [pss_mb(p.pid)], "MB", 60.0)]
