"""`vini bench fleet`: how a central does with a thousand nodes, each a real agent over a machine in a dict.

The central, its database and the agents are processes of their own, in directories of their own; nothing of them is
left when it ends.  Moments are of one clock, since all is on one machine.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import IO, Any, Literal

import httpx
import msgspec
from msgspec import structs

from vini import bus
from vini.bench import fleet_postgres, fleet_store, setup
from vini.bench.fleet_agents import Order, states
from vini.bench.ours import PLACE, alone
from vini.bench.result import Found, Missing, row
from vini.central.ca import Authority
from vini.formats import generate
from vini.model import Impairment, Topology, Value, ViniError
from vini.node import identity as identities
from vini.node.reached import trusting
from vini.store.database import Database

Say = Callable[[str], None]
_PATIENCE_S = 180.0
_EACH = 500  # agents in one process
_IDLE = 0.25  # of a core: with less the central has nothing to do but to keep its nodes
_NICE = -10  # of the central and its database: the agents would not be on their machine, nor other people's work
_ONE, _ALL = "home_one", "home_all"
_TICKS = os.sysconf("SC_CLK_TCK")
_JSON = {"Content-Type": "application/json"}


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
    with alone(), _places() as (disk, memory):
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
            url, database_pid = stack.enter_context(fleet_postgres.postgres(bin_, disk / "pg", _NICE))
        else:
            url, database_pid = "", 0
            out.append(Missing("PostgreSQL", "it is not installed (`apt-get install postgresql`); all is on SQLite"))
        central = stack.enter_context(_Central.running(disk / "central", url, sizes.engine))
        keys = {f"n{i:04}": os.urandom(32) for i in range(1, sizes.agents + 1)}
        names = list(keys)
        out += _filled(central, keys, sizes, say)
        fleet = stack.enter_context(_Fleet.running(memory, central, keys, sizes.slices))
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


# --- what is measured -----------------------------------------------------------------------------


def _filled(central: _Central, keys: dict[str, bytes], sizes: Sizes, say: Say) -> Found:
    names = list(keys)
    say(f"the store is filled: {sizes.slices} slices, each on {len(names)} nodes")
    started = time.monotonic()
    fleet_store.join(central.database, keys)
    size = fleet_store.fill(central.database, names, sizes.slices) if sizes.slices else 0
    note = f"{size / 1e6:.0f} MB of specs; written as rows, not by the central"
    return [row(f"the store holds {sizes.slices} x {len(names)} specs: filled in", [time.monotonic() - started], "s",
                note=note)]  # fmt: skip


def _slice_on_all(central: _Central, fleet: _Fleet, names: Sequence[str], sizes: Sizes, say: Say) -> Found:
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
        before = _cpu_s(central.pid)
        generation, started, answered = central.put(topology)
        last = max(fleet.arrived(_ALL, generation, names).values())
        accepted.append(answered - started)
        held.append(max(0.0, last - answered))
        reported.append(central.until_reported(_ALL, generation) - answered)
        cpu.append(_cpu_s(central.pid) - before)
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


def _changes(central: _Central, fleet: _Fleet, names: Sequence[str], sizes: Sizes, say: Say) -> Found:
    """From before the request until the node has the changed spec in its ledger."""
    say("single changes")
    line = structs.replace(generate("line:3"), name=_ONE)
    central.add_slice(_ONE)
    generation, *_ = central.put(_with_delay(line, 0))
    (node,) = fleet.arrived(_ONE, generation, names, 1)
    fleet.settle(central, sizes.settled_s)
    out: Found = []
    before = _cpu_s(central.pid)
    took = [_change(central, fleet, _with_delay(line, i), [node]) for i in range(1, sizes.changes + 1)]
    cpu = (_cpu_s(central.pid) - before) / sizes.changes
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


def _change(central: _Central, fleet: _Fleet, topology: Topology, nodes: Sequence[str]) -> float:
    generation, started, _ = central.put(topology)
    last = max(fleet.arrived(topology.name, generation, nodes).values())
    central.until_reported(topology.name, generation)
    return last - started


_LISTS = ("slices", "nodes", "events", "persons", "sites", "nodegroups", "tags", "leases")


def _pages(central: _Central, sizes: Sizes, say: Say) -> Found:
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


def _page(central: _Central, path: str) -> list[float]:
    took = []
    for _ in range(10):
        started = time.monotonic()
        central.get(path)
        took.append(1000 * (time.monotonic() - started))
    return took


def _idle(central: _Central, fleet: _Fleet, database_pid: int, sizes: Sizes, say: Say) -> Found:
    say(f"nothing to do for {sizes.idle_s:g} s")
    parties = {"the central": [central.pid], "all agents": fleet.pids}
    if database_pid:
        parties["PostgreSQL"] = [database_pid]
    if sizes.engine == "nats":
        parties["nats-server"] = children(central.pid)
    fleet.settle(central, sizes.settled_s)
    before, started = {name: sum(map(_cpu_s, pids)) for name, pids in parties.items()}, time.monotonic()
    time.sleep(sizes.idle_s)
    seconds = time.monotonic() - started
    shares = {name: 100 * (sum(map(_cpu_s, pids)) - before[name]) / seconds for name, pids in parties.items()}
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
        out.append(row("memory of nats-server", [sum(map(_pss_mb, parties["nats-server"]))], "MB"))
    note = "on as many machines, otherwise"
    out.append(row(f"{idle}: the simulated agents together", [shares["all agents"]], "% of a core", note=note))
    out.append(row("memory of the central", [_pss_mb(central.pid)], "MB"))
    return out


def _real_agent(central: _Central, rest_s: float) -> Found:
    """One over the real drivers, that has joined, and holds nothing."""
    name, key = "real", os.urandom(32)
    fleet_store.join(central.database, {name: key}, address="198.19.0.1")
    identities.write(PLACE.state, central.identity(name, key))
    place = {"VINI_MARK": PLACE.mark, "VINI_RUN": str(PLACE.run), "VINI_STATE": str(PLACE.state)}
    with _process(
        [sys.executable, "-m", "vini.node.serve"], PLACE.state / "agent.log", env={**os.environ, **place}
    ) as p:
        deadline = time.monotonic() + _PATIENCE_S
        while b"connected to" not in _read(identities.directory(PLACE.state) / "status.json"):
            if time.monotonic() > deadline or p.poll() is not None:
                return [Missing("a real agent's memory", "it did not connect to the central", failed=True)]
            time.sleep(0.1)
        time.sleep(rest_s)
        return [row("memory of a real agent, connected and idle", [_pss_mb(p.pid)], "MB", 60.0)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _cpu_s(pid: int) -> float:
    """Processor time of a process, and of its children, those that have ended among them (proc_pid_stat(5))."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        fields = _read(path).rpartition(b")")[2].split()
        if not fields:
            continue
        if int(path.parent.name) == pid:
            total += sum(map(int, fields[11:15]))
        elif int(fields[1]) == pid:
            total += sum(map(int, fields[11:13]))
    return total / _TICKS


def children(parent: int) -> list[int]:
    """The processes that it has."""
    stats = {int(p.parent.name): _read(p).rpartition(b")")[2].split() for p in Path("/proc").glob("[0-9]*/stat")}
    return [pid for pid, fields in stats.items() if fields and int(fields[1]) == parent]


def _pss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000


# --- who takes part -------------------------------------------------------------------------------


@contextmanager
def _process(argv: Sequence[str], log: Path, **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """One that ends with the block, or with us, however we end.  A Ctrl-C is for us alone."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig=TERM", *argv], stderr=file, start_new_session=True,
            **{"stdin": subprocess.DEVNULL, "stdout": file, **how},
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class _Central:
    """`vini central run`, and what its administrator asks of it."""

    def __init__(self, directory: Path, port: int, database: Database, pid: int):
        self.pid, self.database = pid, database
        self.url = f"https://127.0.0.1:{port}"
        self._ca = Authority(directory / "ca").pem
        token = fleet_store.people(database)
        self._http = httpx.Client(
            base_url=f"{self.url}/v1", verify=trusting(self._ca), timeout=_PATIENCE_S, trust_env=False,
            limits=httpx.Limits(keepalive_expiry=2.0),
            headers={"Authorization": f"Bearer {token}"},
        )  # fmt: skip

    @staticmethod
    @contextmanager
    def running(directory: Path, url: str, engine: str) -> Iterator[_Central]:
        port, engine_port = _free_port(), _free_port()
        vini = [sys.executable, "-m", "vini.cli", "central"]
        made = subprocess.run(
            [*vini, "init", "--dir", str(directory), "--name", "127.0.0.1", "--port", str(port), "--admin",
             fleet_store.ADMIN, "--site", fleet_store.SITE, *(["--database", url] if url else []),
             *(["--engine", engine, "--engine-port", str(engine_port)] if engine != "hub" else [])],
            capture_output=True,
        )  # fmt: skip
        if made.returncode:
            raise ViniError(f"The benchmark's central could not be made: {made.stderr.decode().strip()}")
        run = [*vini, "run", "--dir", str(directory), "--listen", "127.0.0.1"]
        database = Database(url or f"sqlite:///{directory / 'central.db'}")
        log = directory / "log"
        try:
            with _process(run, log) as process:
                os.setpriority(os.PRIO_PROCESS, process.pid, _NICE)
                central = _Central(directory, port, database, process.pid)
                with central._http:
                    central._wait(process, log)
                    yield central
        finally:
            database.close()

    def _wait(self, process: subprocess.Popen[bytes], log: Path) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            with suppress(httpx.TransportError):
                self.get("sites")
                return
            if process.poll() is not None or time.monotonic() > deadline:
                raise ViniError(f"The benchmark's central did not start: {_read(log).decode()[-1000:]}")
            time.sleep(0.05)

    def identity(self, node: str, key: bytes) -> identities.Identity:
        """What a machine got when it joined."""
        return identities.Identity(node, fleet_store.SITE, self.url, key, self._ca)

    def add_slice(self, name: str) -> None:
        """One without anything in it."""
        self._told(self._http.post("/slices", content=msgspec.json.encode({"name": name}), headers=_JSON))

    def put(self, topology: Topology) -> tuple[int, float, float]:
        """Ask for it; its generation, and the moments before the request and after the answer."""
        self.get("sites")  # the connection is open
        body, path = msgspec.json.encode(topology), f"/slices/{topology.name}/topology"
        started = time.monotonic()
        answer = self._http.put(path, content=body, headers=_JSON)
        answered = time.monotonic()
        report = msgspec.json.decode(self._told(answer), type=bus.Report)
        return report.generation, started, answered

    def asked(self, name: str) -> Topology:
        """What is asked of a slice now."""
        body = msgspec.json.decode(self.get(f"slices/{name}/topology"))
        return msgspec.convert(body["topology"], Topology)

    def get(self, path: str) -> bytes:
        """The answer."""
        return self._told(self._http.get(f"/{path}"))

    def until_reported(self, name: str, generation: int) -> float:
        """The moment when the store has heard of this generation from all nodes of a slice."""
        from vini.store import specs

        deadline = time.monotonic() + _PATIENCE_S
        while True:
            with self.database.reading() as tx:
                behind = [g for g in specs.behind(tx, name).values() if g <= generation]
            if not behind:
                return time.monotonic()
            if time.monotonic() > deadline:
                raise ViniError(f"{len(behind)} nodes did not report of slice {name} generation {generation}.")
            time.sleep(0.02)

    @staticmethod
    def _told(answer: httpx.Response) -> bytes:
        if answer.is_error:
            raise ViniError(f"The benchmark's central refused: {answer.status_code} {answer.text[:1000]}")
        return answer.content


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class _Fleet:
    """Processes full of agents, and what they tell."""

    def __init__(self, count: int, processes: Sequence[subprocess.Popen[bytes]]):
        self.pids, self._count, self._started = [p.pid for p in processes], count, time.monotonic()
        self._news = threading.Condition()
        self._connected = dict.fromkeys(self.pids, 0)
        self._has: dict[tuple[str, int], dict[str, float]] = {}  # slice, generation -> node -> when
        for process in processes:
            assert process.stdout
            threading.Thread(target=self._listen, args=(process.pid, process.stdout), daemon=True).start()

    @staticmethod
    @contextmanager
    def running(directory: Path, central: _Central, keys: dict[str, bytes], claimed: int) -> Iterator[_Fleet]:
        names = sorted(keys)
        for name in names:
            identities.write(states(directory, name), central.identity(name, keys[name]))
        with ExitStack() as stack:
            processes = []
            for at in range(0, len(names), _EACH):
                order = Order(str(directory), tuple(names[at : at + _EACH]), fleet_store.filled(claimed))
                argv = [sys.executable, "-m", "vini.bench.fleet_agents", msgspec.json.encode(order).decode()]
                pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
                processes.append(stack.enter_context(_process(argv, directory / "log", **pipes)))
            yield _Fleet(len(names), processes)

    def _listen(self, pid: int, said: IO[bytes]) -> None:
        for line in said:
            match line.decode().split():
                case ["connected", count]:
                    with self._news:
                        self._connected[pid] = int(count)
                        self._news.notify_all()
                case ["has", slice_, generation, node, at]:
                    with self._news:
                        self._has.setdefault((slice_, int(generation)), {})[node] = float(at)
                        self._news.notify_all()
                case _:
                    pass
        with self._news:
            self._connected[pid] = -self._count  # it has ended
            self._news.notify_all()

    def connect(self) -> float:
        """Wait until all are connected; the seconds since they were started."""
        with self._news:
            if not self._news.wait_for(lambda: sum(self._connected.values()) >= self._count, _PATIENCE_S):
                raise ViniError(f"Of {self._count} agents {sum(self._connected.values())} could connect.")
        return time.monotonic() - self._started

    def settle(self, central: _Central, settled_s: float) -> float:
        """Wait until the central has nothing more to do; the seconds since the agents were started."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            before = _cpu_s(central.pid)
            time.sleep(settled_s)
            if _cpu_s(central.pid) - before < _IDLE * settled_s:
                break
        return time.monotonic() - self._started

    def arrived(self, slice_: str, generation: int, nodes: Sequence[str], least: int = 0) -> dict[str, float]:
        """When each of these nodes had it; with `least`, when so many of them had."""
        least = least or len(nodes)
        with self._news:
            found = self._has.setdefault((slice_, generation), {})
            if not self._news.wait_for(lambda: len(found.keys() & set(nodes)) >= least, _PATIENCE_S):
                raise ViniError(f"{len(found)} of {len(nodes)} nodes got slice {slice_} generation {generation}.")
            return {node: found[node] for node in nodes if node in found}
