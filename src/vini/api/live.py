"""A network from Python, asynchronously: everything that the API does is done here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, Unpack

from vini import edit, nearby
from vini.api import files, inside, iperf, ping
from vini.api.blueprint import Blueprint, SliverName, name_of
from vini.api.inside import AsyncProcess, Command, Completed
from vini.api.measurement import PORTS_PER_PROBE, Measurement
from vini.api.results import IperfResult, PingResult, table
from vini.api.words import ImpairmentWords, impairments
from vini.bus import Report
from vini.client import Client
from vini.experiment.probe import Probe
from vini.layout import address, layout
from vini.model import Conflict, Mistake, NotFound, SliverStatus, Topology, TopologyError, ViniError
from vini.reach import MOST_LISTED, FibEntry, Walker, Ways
from vini.text import units
from vini.text.mistakes import Wrong
from vini.topology.impairments import no_files

Seconds = float | str  # 0.1, or "100ms"
PINGS_AT_ONCE = 64
LOG_LINES = 10  # of each daemon, in a diagnosis
FIRST_PORT = 5301
FAULTS = ("silent", "carrier")


def seconds(given: Seconds) -> float:
    """A duration in s."""
    if not isinstance(given, str):
        return float(given)
    try:
        return units.read_s(given)
    except Wrong as e:
        raise TopologyError([Mistake(0, 0, str(e), e.hint)]) from e


class AsyncSliver:
    """A sliver of a network: what to link, and where to run things."""

    def __init__(self, name: str, network: AsyncNetwork):
        self.name, self._network = name, network

    def __repr__(self) -> str:
        return f"<sliver {self.name} of {self._network.name}>"

    @property
    def address(self) -> str:
        """The IPv4 address that stands for it."""
        return self._network.address(self)

    async def run(
        self, command: Command, *, check: bool = False, stdin: str = "", timeout_s: float | None = None
    ) -> Completed:
        """Run a shell command line, or a list of words, to its end.

        `check` raises CommandFailed, with what it said on stderr, when its status is not 0.
        """
        return await self._network.run(self, command, check=check, stdin=stdin, timeout_s=timeout_s)

    def popen(self, command: Command) -> AsyncProcess:
        """A program that runs in it while other things are done: `async with`."""
        return self._network.popen(self, command)


class AsyncNetwork(Blueprint[AsyncSliver]):
    """A network that comes up, ready and converged, with `async with`, and is taken down at the end, also on errors."""

    _client: Client | None = None

    # --- up and down ----------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.down()

    async def up(self, *, wait: bool = True, timeout_s: float = 120.0) -> None:
        """Bring it up; with `wait`, until all slivers are ready and it has converged.

        On an error nothing is left, and the error's notes tell what the slivers' daemons said last.
        Raises Conflict where a slice of that name is up already: it is somebody's.
        """
        if self._client is not None:
            raise ViniError(f"Network {self.name} is up already.")
        topology = self.topology
        client = Client(say=self._say)
        if topology.name in [*client.topologies(), *client.unreadable()]:
            raise Conflict(
                f"A slice {topology.name!r} is up already. Give this network another name, "
                f"or take that one down: `vini down -s {topology.name}`."
            )
        self._client, self._lock = client, asyncio.Lock()
        self._exits, self._measuring, self._port = AsyncExitStack(), list[Measurement](), FIRST_PORT
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self.down)
            try:
                await client.up(topology, wait=wait, timeout_s=timeout_s)
            except ViniError as e:
                if said := await self.diagnosis():
                    e.add_note(said)
                raise
            undo.pop_all()

    async def down(self) -> None:
        """End it: programs that were started in it first, then the slice.  Nothing of it stays."""
        client, name = self._live, self.name
        await self._exits.aclose()
        try:
            report = await client.down(name)
        except NotFound:  # refused when it should have come up, or taken down by another hand
            self._client = None
            return
        if report.slivers:
            whys = "\n".join(f"  {r.sliver}: {r.why}" for r in report.slivers[:10])
            raise ViniError(f"Something of slice {name!r} is still there; the agent goes on trying:\n{whys}")
        self._client = None

    @property
    def is_up(self) -> bool:
        """Whether it was brought up, and not taken down since."""
        return self._client is not None

    @property
    def _live(self) -> Client:
        if self._client is None:
            raise ViniError(f"Network {self.name} is not up; do this inside `async with` it, or after `await up()`.")
        return self._client

    def _building(self) -> dict[str, Any]:
        if self.is_up:
            raise ViniError(
                f"Network {self.name} is up; add slivers and links before that, or give it another topology with put()."
            )
        return super()._building()

    # --- changes --------------------------------------------------------------------------------

    async def put(self, topology: Topology, what: str = "put") -> int:
        """Change the network into this topology, whatever it is; returns the number of steps that took."""
        async with self._lock:
            return await self._put(files.renamed(topology, self.name), what)

    async def _put(self, topology: Topology, what: str) -> int:
        report = await self._live.put(topology, what)
        await self._changed(topology, report)
        return report.ops

    async def _edit(self, what: str, change: Callable[[Topology], Topology]) -> None:
        async with self._lock:  # on top of what is asked for now, be it by a command of another person
            report = await self._live.edit(self.name, change, what)
            await self._changed(await self._live.topology(self.name), report)

    async def _changed(self, topology: Topology, report: Report) -> None:
        self._topology, self._words = topology, None
        for measurement in self._measuring:
            measurement.changed(topology)
        await self._live.wait_ready(self.name, 30.0, report)

    async def fail(self, a: SliverName, b: SliverName = "", *, how: Literal["silent", "carrier"] = "silent") -> None:
        """Fail the link between two slivers, or the link named `a`.

        silent: packets vanish and nobody is told; carrier: both ends go down.
        """
        if how not in FAULTS:
            raise ViniError(f"A link fails 'silent' or 'carrier', not {how!r}.")
        await self._edit(f"fail {how}", lambda t: edit.set_fault(t, name_of(a), name_of(b), how))

    async def restore(self, a: SliverName, b: SliverName = "") -> None:
        """End the fault of a link."""
        await self._edit("restore", lambda t: edit.set_fault(t, name_of(a), name_of(b), "none"))

    async def shape(
        self, a: SliverName, b: SliverName = "", *, one_way: bool = False, **words: Unpack[ImpairmentWords]
    ) -> None:
        """Give a link another delay, loss, rate, trace and so on; with `one_way` only from `a` to `b`.

        What is not named stays. A trace's path is relative to the working directory.
        """
        wishes = impairments(words, f"shape {name_of(a)} -- {name_of(b)}", nearby.reader(Path.cwd()))
        change = lambda t: edit.set_impairment(t, name_of(a), name_of(b), one_way=one_way, **wishes)  # noqa: E731
        await self._edit("shape", change)

    async def cost(self, a: SliverName, b: SliverName, cost: int) -> None:
        """Give a link another routing metric, in both directions."""
        await self._edit("cost", lambda t: edit.set_cost(t, name_of(a), name_of(b), cost))

    # --- how it is ------------------------------------------------------------------------------

    async def status(self) -> tuple[SliverStatus, ...]:
        """One row per sliver, by a fresh look."""
        return tuple(await self._live.status(self.name))

    async def converged(self) -> bool:
        """Whether every expected destination can be reached."""
        return (await self._live.converged(self.name))[0]

    async def wait_converged(self, timeout_s: float = 60.0) -> None:
        """Return when it has converged.  Raises ViniError with an example when it hasn't in time."""
        await self._live.wait_converged(self.name, timeout_s)

    async def wait_path(self, *slivers: SliverName, timeout_s: float = 60.0) -> None:
        """Return when packets from the first to the last of these slivers cross exactly those between.

        And when it has converged: after a repair the way there may be right while the way back is not.
        """
        want = tuple(self._known(name_of(s)) for s in slivers)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while (ways := _told(await self._ways(want[0], want[-1]))) != " -> ".join(want) or not await self.converged():
            if loop.time() > deadline:
                state = f"the path is {ways}, " + ("but not all converged" if ways == " -> ".join(want) else "")
                raise ViniError(f"After {timeout_s:g} s {state.rstrip(', ')}; waited for {' -> '.join(want)}.")
            await asyncio.sleep(0.05)

    async def routes(self, sliver: SliverName) -> tuple[FibEntry, ...]:
        """A sliver's main forwarding table, both IP versions."""
        return (await self._live.fib_entries(self.name))[self._known(name_of(sliver))]

    async def path(self, source: SliverName, destination: SliverName, *, family: int = 4) -> tuple[str, ...]:
        """The slivers that packets cross, by the forwarding tables; it ends early where the way does.

        Raises ViniError where there are several equal-cost paths, of which each flow takes one: see `paths`.
        """
        found = await self._ways(source, destination, family)
        if len(paths := found.listed()) == 1:
            return paths[0].slivers
        where = f"from {name_of(source)} to {name_of(destination)}"
        raise ViniError(f"There are several equal paths {where}: {_told(found)}. Ask for all of them with paths().")

    async def paths(
        self, source: SliverName, destination: SliverName, *, family: int = 4
    ) -> tuple[tuple[str, ...], ...]:
        """All equal-cost paths, by name; the kernel's hash over its addresses and ports decides which a flow takes.

        At most 17: there may be exponentially many.
        """
        found = await self._ways(source, destination, family)
        return tuple(path.slivers for path in islice(found.paths(), MOST_LISTED + 1))

    async def _ways(self, source: SliverName, destination: SliverName, family: int = 4) -> Ways:
        a, b = self._known(name_of(source)), self._known(name_of(destination))
        made = layout(self.topology)
        return Walker(made, await self._live.fib_entries(self.name)).ways(a, address(made, b, family))

    async def diagnosis(self) -> str:
        """Slivers that are not ready and why, and the last lines of every daemon's log: for a failed test."""
        client = self._live
        with suppress(NotFound):  # it was refused: then there is nothing to tell
            rows = await client.status(self.name)
            bad = [f"  {r.sliver.partition('.')[2]}: {r.state}: {r.why}" for r in rows if r.state != "ready"]
            lines = [f"{self.name}: {len(rows) - len(bad)} of {len(rows)} slivers ready", *bad]
            lines += [f"  link {name} has failed ({link.fault}), as asked" for name, link in
                      layout(self.topology).links.items() if link.fault != "none"]  # fmt: skip
            for sliver in self._names():
                for log in sorted(client.place.sliver(f"{self.name}.{sliver}").glob("*.log")):
                    lines += await asyncio.to_thread(_tail, sliver, log)
            return "\n".join(lines)
        return ""

    def capabilities(self) -> frozenset[str]:
        """What this machine can do: "netem", "element", "bird", ...; `vini doctor` explains them."""
        return self._live.capabilities()

    # --- inside slivers -------------------------------------------------------------------------

    def _sliver(self, name: str) -> AsyncSliver:
        return AsyncSliver(name, self)

    def _argv(self, sliver: str, command: Command) -> list[str]:
        return inside.command_line(self._live, self.name, self._known(sliver), command)

    async def run(
        self, sliver: SliverName, command: Command, *, check: bool = False, stdin: str = "",
        timeout_s: float | None = None,
    ) -> Completed:  # fmt: skip
        """Run a shell command line, or a list of words, in a sliver to its end; see AsyncSliver.run."""
        name = name_of(sliver)
        argv = self._argv(name, command)
        return await inside.run(argv, name, command, check=check, stdin=stdin, timeout_s=timeout_s)

    def popen(self, sliver: SliverName, command: Command) -> AsyncProcess:
        """A program that runs in a sliver while other things are done; it ends with the network at the latest."""
        process = AsyncProcess(self._argv(name_of(sliver), command), name_of(sliver), command)
        self._exits.push_async_callback(process.stop_if_started)
        return process

    # --- measurements ---------------------------------------------------------------------------

    async def ping(
        self, source: SliverName, destination: SliverName, *, count: int = 3, every: Seconds = 0.2, size: int = 56,
        family: int = 4,
    ) -> PingResult:  # fmt: skip
        """Echo requests from the address of one sliver to that of another; `size` is bytes of payload."""
        a, b = name_of(source), name_of(destination)
        return ping.result(a, b, await self._ping(a, b, count, seconds(every), size, family))

    async def ping_all(self, *, count: int = 1, family: int = 4) -> tuple[PingResult, ...]:
        """From every sliver that has an address to every other."""
        gate = asyncio.Semaphore(PINGS_AT_ONCE)

        async def one(a: str, b: str) -> PingResult:
            async with gate:
                return await self.ping(a, b, count=count, family=family)

        names = [n for n in self._names() if self._has_address(n, family)]
        return tuple(await asyncio.gather(*(one(a, b) for a in names for b in names if a != b)))

    async def ping_series(
        self, source: SliverName, destination: SliverName, *, count: int = 20, every: Seconds = 0.1, size: int = 56
    ) -> Any:
        """Echo requests as a `pyarrow.Table`, a row each: t (s since the first), seq, rtt_ms (null: lost), ttl, why."""
        table([])  # refuses before the measurement, not after it
        period = seconds(every)
        done = await self._ping(name_of(source), name_of(destination), count, period, size, 4)
        return table(ping.rows(done.stdout, period), ping.COLUMNS)

    async def _ping(self, a: str, b: str, count: int, every_s: float, size: int, family: int) -> Completed:
        argv = ping.argv(self.address(a, family), self.address(b, family), family, count, every_s, size)
        return await self.run(a, argv)

    def _has_address(self, name: str, family: int) -> bool:
        made = layout(self.topology)
        own = [*made.loopbacks.get(name, ()), *(a for v in made.vifs[name] for a in v.addresses)]
        return any((":" in a) == (family == 6) for a in own)

    async def iperf(
        self, source: SliverName, destination: SliverName, *, seconds: float = 3.0, window: int = 0, rate: str = ""
    ) -> IperfResult:
        """The goodput of one TCP connection (iperf3).

        `window` is bytes asked of both ends' socket buffers, 0 for the kernel's own tuning; `rate` bounds
        what the sender offers, e.g. "10mbit".  Raises CommandFailed with what iperf3 said.
        """
        a, b, port = name_of(source), name_of(destination), self._ports(1)
        offered = impairments({"rate": rate}, "iperf", no_files)["rate_mbit"] if rate else 0.0
        client = iperf.client_argv(self.address(a), self.address(b), port, seconds, window, offered)
        async with self.popen(b, iperf.server_argv(self.address(b), port)) as server:
            await server.wait_for(iperf.LISTENING)
            done = await self.run(a, client, timeout_s=seconds + 30)
        return iperf.result(a, b, done)

    def measure(self, **probes: Probe) -> Measurement:
        """Probes of `vini.experiment.probes` that measure while the `async with` block goes on."""
        port = self._ports(PORTS_PER_PROBE * len(probes))
        measurement = Measurement(self._live, self.topology, probes, port)
        self._measuring.append(measurement)
        return measurement

    def _ports(self, count: int) -> int:
        first, self._port = self._port, self._port + count
        return first


def _told(ways: Ways) -> str:
    return " | ".join(map(str, ways.listed())) or f"one of more than {MOST_LISTED}"


def _tail(sliver: str, log: Path) -> list[str]:
    lines = log.read_text(errors="replace").strip().splitlines()[-LOG_LINES:]
    return [f"{sliver}/{log.name} ends:", *(f"  {line}" for line in lines)] if lines else []
