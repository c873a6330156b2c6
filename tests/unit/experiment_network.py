"""A network for tests of experiments: shortest paths instead of daemons, and time that passes at once."""

# ruff: noqa: ARG002 - a fake has the seam's signatures
from __future__ import annotations

import asyncio
import selectors
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from vini.bus import Act
from vini.client.times import NodeClock
from vini.experiment.witness import Asked
from vini.layout import address, layout
from vini.model import End, Impairment, Link, NotFound, Routing, Sliver, Topology
from vini.reach import FibEntry, unreached
from vini.static import static_routes
from vini.truth import Check


def link(a: str, b: str, cost: int = 10, delay_ms: float = 1.0) -> Link:
    return Link(ends=(End(a), End(b)), cost=cost, impairment=Impairment(delay_ms=delay_ms))


def routers(*names: str) -> dict[str, Sliver]:
    return {n: Sliver(n, routing=Routing(protocols=("ospf",))) for n in names}


SQUARE = Topology(
    name="square",
    slivers=routers("west", "north", "south", "east"),
    links=(
        link("west", "north", 10, 5),
        link("north", "east", 10, 5),
        link("west", "south", 20, 10),
        link("south", "east", 20, 10),
    ),
)


class FakeNetwork:
    """One slice at a time.  Its routers notice a carrier fault at once, a silent one after `dead_s`.

    It is its own witness too: all that is asked is in `log`, and `agents` are who answers, look by look.
    """

    def __init__(self, dead_s: float = 3.0, inside: Callable[[str], list[str]] = lambda _: []):
        self.dead_s, self.inside = dead_s, inside
        self.wanted: Topology | None = None
        self.puts: list[tuple[float, Topology]] = []
        self.links: Check | Exception = Check()  # what its links give
        self.checked: list[float] = []
        self.counted: list[dict[str, tuple[int, int]]] | None = None  # what links count, reading by reading
        self.log: list[Asked] = []
        self.befell: list[Asked] = []
        self.agents: list[int | None] = [77]

    async def up(self, topology: Topology, *, wait: bool = True) -> int:
        return await self.put(topology, "up")

    async def put(self, topology: Topology, what: str = "put", who: str = "root") -> int:
        self.wanted = topology
        self.log.append(Asked(time.time(), who, what, len(self.log) + 1))
        self.puts.append((asyncio.get_running_loop().time(), topology))
        return len(self.puts)

    lead_s = 0.0

    async def clocks(self, slice_: str) -> dict[str, NodeClock]:
        return {}

    async def acts(self, slice_: str, after: int = 0) -> dict[str, tuple[Act, ...]]:
        return {}

    async def output(self, slice_: str, sliver: str, argv: Sequence[str]) -> tuple[int, str]:
        return 0, ""

    def script(self, file: Path) -> list[str]:
        return [sys.executable, "-I", str(file)]

    async def edit(self, slice_: str, change: Callable[[Topology], Topology], what: str, at: float = 0.0) -> object:
        return await self.put(change(await self.topology(slice_)), what)

    async def topology(self, slice_: str) -> Topology:
        if self.wanted is None or self.wanted.name != slice_:
            raise NotFound(f"There is no slice {slice_}.")
        return self.wanted

    async def down(self, slice_: str) -> None:
        await self.topology(slice_)
        self.wanted = None
        self.log.append(Asked(time.time(), "root", "down", len(self.log) + 1))

    def hold(self, slice_: str) -> AbstractContextManager[None]:
        return nullcontext()

    def asked(self, slice_: str, since: int) -> list[Asked]:
        return [a for a in self.log if a.generation > since]

    def happened(self, slice_: str, since: float) -> list[Asked]:
        return [a for a in self.befell if a.at > since]

    async def agent(self) -> int | None:
        return self.agents.pop(0) if len(self.agents) > 1 else self.agents[0]

    async def fib_entries(self, slice_: str) -> dict[str, tuple[FibEntry, ...]]:
        topology = await self.topology(slice_)
        known = replace(topology, links=tuple(x for i, x in enumerate(topology.links) if not self._noticed(i)))
        made = layout(known)
        routes = {s: static_routes(made, s) for s in topology.slivers}
        return {s: tuple(FibEntry(to, via, vif.dev) for to, (via, vif) in all_.items()) for s, all_ in routes.items()}

    def _noticed(self, i: int) -> bool:
        assert self.wanted is not None
        fault = self.wanted.links[i].fault
        since = next(t for t, old in reversed(self.puts) if old.links[i].fault != fault or old is self.puts[0][1])
        after = min((t for t, _ in self.puts if t > since), default=since)
        now = asyncio.get_running_loop().time()
        return fault == "carrier" or (fault == "silent" and now - after >= self.dead_s)

    async def converged(self, slice_: str) -> tuple[bool, str]:
        missing = list(unreached(await self.topology(slice_), await self.fib_entries(slice_)))
        return not missing, f"{len(missing)} pairs" if missing else ""

    async def departures(self, slice_: str) -> dict[str, tuple[int, int]] | None:
        if self.counted is None:
            return None
        return self.counted.pop(0) if len(self.counted) > 1 else self.counted[0]

    def enter(self, slice_: str, sliver: str, argv: Sequence[str]) -> list[str]:
        if list(argv[-2:]) == ["monitor", "route"] and not self.inside(sliver):
            return ["true"]  # there is no kernel behind these routers that could report changes
        return [*self.inside(sliver), *argv]

    def address(self, topology: Topology, sliver: str, family: int = 4) -> str:
        return address(layout(topology), sliver, family)

    async def check_links(
        self, topology: Topology, links: Sequence[Link], load: float = 0.0, for_s: float = 0.0
    ) -> Check:
        self.checked.append(for_s)
        if isinstance(self.links, Exception):
            raise self.links
        return self.links

    def capabilities(self) -> frozenset[str]:
        return frozenset()


class _Impatient(selectors.DefaultSelector):
    """Instead of waiting for a timer it moves the loop's clock."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout:
            self.loop.passed += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Sleeping takes no time.  Not for programs: they would find all timers fired at once."""

    def __init__(self) -> None:
        selector = _Impatient()
        selector.loop = self
        self.passed = 1000.0
        super().__init__(selector)

    def time(self) -> float:
        return self.passed

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as e:  # noqa: BLE001 - it is handed to whoever awaits
            future.set_exception(e)
        return future


def virtually(main: Any) -> Any:
    """Run a coroutine to its end on virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
