"""What faces ask of slices, wherever these are: the primitives of a client, and all that follows from them."""

from __future__ import annotations

import asyncio
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vini import bus
from vini.client.times import Ahead, NodeClock
from vini.expected import expectations
from vini.layout import address, layout
from vini.model import Link, OutsideGrant, SliverStatus, Topology, Value, ViniError
from vini.reach import FibEntry, lost_path, unreached
from vini.rules.nouns import UsageRow
from vini.rules.usage import UsageAsked

if TYPE_CHECKING:
    from vini.store import Head, Verdict
    from vini.truth import Check

Say = Callable[[str], None]
OnProgress = Callable[[bus.Progress], None] | None
_FAILED_S = 5.0  # a sliver that has failed for so long won't recover by waiting
_SHOWN = 3  # links that failed, in an error


class Event(Value, frozen=True):
    """Something that was asked of a slice, or that happened to the paths below it."""

    at: float  # Unix time, s
    who: str
    what: str
    generation: int = 0  # 0: no desired state came of it


class SshPlace(Value, frozen=True, forbid_unknown_fields=False):
    """How to log in to a sliver by SSH."""

    sliver: str
    user: str  # "SLICE.SLIVER"
    node: str
    host: str  # an address or a name
    port: int
    host_key: str  # "ssh-ed25519 AAAA..."; who shows another one is not that node
    alias: str = ""  # the node's name in known_hosts(5), whatever its address is
    direct: bool = True  # False: only by the command of `ssh_through`


class Slices(ABC):
    """A client.  Methods that are not asynchronous answer from what is stored, at once."""

    def __init__(self, say: Say = lambda _: None):
        self._say = say

    # --- what is asked for --------------------------------------------------------------------

    @abstractmethod
    def topologies(self) -> dict[str, Topology]:
        """All slices that are asked for and that this caller may see, by name; each as it is now."""

    def own(self) -> list[str]:
        """The names of the slices that are up and this caller's own."""
        return list(self.topologies())

    @abstractmethod
    def asked(self, slice_: str) -> Topology:
        """The desired state of a slice as it is now, with all changes since its file.  NotFound where there is none."""

    @abstractmethod
    def unreadable(self) -> list[str]:
        """The names of slices that another version stored so that this one can't read them."""

    @abstractmethod
    def events(self, slice_: str, limit: int = 50) -> list[Event]:
        """What was asked of a slice, and on a testbed which links failed with a path; the newest first."""

    @abstractmethod
    def check_events(self, once: Head | None = None) -> Verdict:
        """Whether events were changed, taken out or put in since they happened; with `once`, what was the head of their
        chain once, also whether they were all made anew."""

    async def topology(self, slice_: str) -> Topology:
        """As `asked`, for those who must not wait."""
        return await asyncio.to_thread(self.asked, slice_)

    # --- desired states -----------------------------------------------------------------------

    @abstractmethod
    async def put(self, topology: Topology, what: str = "put", progress: OnProgress = None) -> bus.Report:
        """Store a new desired state, and have the nodes make one pass towards it."""

    @abstractmethod
    async def edit(
        self, slice_: str, change: Callable[[Topology], Topology], what: str = "edit", at: float = 0.0
    ) -> bus.Report:
        """Change what is asked of a slice now, whoever asked it; of two edits at once none is lost.

        `change` is pure, and keeps the name.  With `at` (Unix time by this machine's clock, s) the nodes are told at
        once, and all act at that moment, each by its own clock as far as the central knows how that goes; returns when
        all know, at that moment at the latest.  Raises NotFound where the slice is not up.
        """

    @abstractmethod
    def granted(self, slice_: str) -> OutsideGrant | None:
        """What a slice may do in the world; None: nothing."""

    @abstractmethod
    async def grant_outside(self, slice_: str, grant: OutsideGrant | None) -> None:
        """From now on a slice may do that in the world; None: nothing."""

    @abstractmethod
    async def who(self, question: bus.AskFlows) -> dict[str, bus.Flows]:
        """Node -> the flows that are written down there, of those that this question is about."""

    @abstractmethod
    async def used(self, asked: UsageAsked) -> list[UsageRow]:
        """What was used, by day (where that is wanted) and name."""

    @abstractmethod
    async def down(self, slice_: str, progress: OnProgress = None) -> bus.Report:
        """Ask for the empty desired state; also of a slice that only another version can read."""

    @abstractmethod
    async def foresee(self, topology: Topology) -> tuple[str, ...]:
        """What `put` would change, step by step; nothing is touched."""

    async def up(self, topology: Topology, *, wait: bool = True, timeout_s: float = 120.0) -> bus.Report:
        """Bring a slice up, or change it into this; with `wait`, return when it has converged."""
        report = await self.put(topology, "up")
        if wait:
            await self.wait_ready(topology.name, timeout_s, report)
            await self.wait_converged(topology.name, timeout_s)
        return report

    # --- observed states ----------------------------------------------------------------------

    @abstractmethod
    async def status(self, slice_: str) -> list[SliverStatus]:
        """One row per sliver, by a fresh look."""

    async def failing(self) -> tuple[str, ...]:
        """A sentence of each part of this machine's agent that failed lately."""
        return ()

    @abstractmethod
    async def fib_entries(self, slice_: str) -> dict[str, tuple[FibEntry, ...]]:
        """Sliver -> its main forwarding table, both IP versions."""

    @abstractmethod
    async def loads(self, slice_: str) -> dict[str, bus.SliverLoad]:
        """Sliver -> what it does to its node: counters of its vifs, CPU, memory, its program's packets."""

    @abstractmethod
    async def maps(self, slice_: str, sliver: str, names: Sequence[str] | None = None) -> bus.Maps:
        """What the maps of a sliver's program hold; these ones, or all.  Raises NotFound where it has none."""

    @abstractmethod
    async def write_row(self, slice_: str, sliver: str, table: str, key: bytes, value: bytes | None) -> None:
        """Set a row of a map of a sliver's program, or with None take it out."""

    @abstractmethod
    def capabilities(self) -> frozenset[str]:
        """What the nodes can do; known after the first request."""

    lead_s: float = 0.0  # how long ahead an edit `at` a moment should be sent at least; 0: all is here, do it then

    def central(self, afresh: bool = False) -> Ahead:  # noqa: ARG002
        """The clock of whoever keeps the log, as it was known when it was last measured."""
        return Ahead()

    async def clocks(self, slice_: str) -> dict[str, NodeClock]:  # noqa: ARG002
        """The nodes of a slice, and how their clocks go; {}: all of it is on this machine, and by its clock."""
        return {}

    async def placed(self, slice_: str) -> dict[str, str]:
        """Sliver -> its node; {}: all are on this machine."""
        return {s: node for node, of in (await self.clocks(slice_)).items() for s in of.slivers}

    async def acts(self, slice_: str, after: int = 0) -> dict[str, tuple[bus.Act, ...]]:  # noqa: ARG002
        """Node -> when it put generations above `after` in force; of nodes that are on other machines and answer."""
        return {}

    def backends(self, slice_: str) -> dict[str, str]:  # noqa: ARG002
        """`sliver:vif` -> who shapes what leaves by it, as far as that is known here."""
        return {}

    def underlay_ms(self, slice_: str) -> dict[str, float]:  # noqa: ARG002
        """Link -> of its delay, what the network between its nodes takes, one way; of those where that is known."""
        return {}

    async def converged(self, slice_: str) -> tuple[bool, str]:
        """Whether every expected destination can be reached; and if not, an example."""
        topology = await self.topology(slice_)
        if not expectations(topology):
            return True, ""
        tables = await self.fib_entries(slice_)
        missing = list(unreached(topology, tables))
        if not missing:
            return True, ""
        source, destination = missing[0]
        where = lost_path(topology, tables, source, destination)
        example = f"{source} -> {destination}" + (f", by {where}" if where else "")
        return False, f"{len(missing)} of the expected pairs can't be reached yet, e.g. {example}"

    async def wait_ready(self, slice_: str, timeout_s: float = 60.0, first: bus.Report | None = None) -> None:
        """Return when all slivers are ready.  Raises ViniError with the cause when one isn't in time."""
        deadline = time.monotonic() + timeout_s
        failing: dict[str, float] = {}  # sliver -> when it failed first; between two attempts it looks well
        rows = list(first.slivers) if first else await self.status(slice_)
        while bad := [r for r in rows if r.state != "ready"]:
            now = time.monotonic()
            failed = [r for r in bad if r.state == "failed"]
            failing = {r.sliver: failing.get(r.sliver, now) for r in bad if r in failed or r.sliver in failing}
            if now > deadline or any(now - failing[r.sliver] > _FAILED_S for r in failed):
                raise ViniError(_not_ready(slice_, failed or bad))
            self._say(
                f"{len(rows) - len(bad)} of {len(rows)} slivers ready; {bad[0].sliver.partition('.')[2]}: {bad[0].why}"
            )
            await asyncio.sleep(0.05 if len(rows) < 50 else 0.2)
            rows = await self.status(slice_)

    async def wait_converged(self, slice_: str, timeout_s: float = 60.0) -> None:
        """Return when the slice has converged.  Raises ViniError with an example when it hasn't in time."""
        deadline = time.monotonic() + timeout_s
        while True:
            started = time.monotonic()
            good, why = await self.converged(slice_)
            if good:
                return
            if time.monotonic() > deadline:
                raise ViniError(
                    f"Slice {slice_!r} has not converged after {timeout_s:g} s: {why}.{await self._fallen(slice_)} "
                    f"`vini neighbors` and `vini routes` show how far routing is{self._where_logs_are(slice_)}."
                )
            self._say(why)
            await asyncio.sleep(max(0.05, 2 * (time.monotonic() - started)))

    async def _fallen(self, slice_: str) -> str:
        """Links that failed though nobody asked for it, in sentences."""
        fallen = sorted({pair for row in await self.status(slice_) for pair in row.faults.items()})
        more = f" So have {len(fallen) - _SHOWN} more." if len(fallen) > _SHOWN else ""
        return "".join(f" Link {link} has failed: {fault}." for link, fault in fallen[:_SHOWN]) + more

    def _where_logs_are(self, slice_: str) -> str:  # noqa: ARG002
        """The end of a sentence."""
        return ""

    # --- measuring ----------------------------------------------------------------------------

    async def departures(self, slice_: str) -> Mapping[str, tuple[int, int]] | None:  # noqa: ARG002
        """ "sliver:vif" -> packets that left by a shaped vif so far, and how many of them more than 1 ms late.

        None where nobody counts that.
        """
        return None

    @abstractmethod
    async def check_links(
        self, topology: Topology, links: Sequence[Link], load: float = 0.0, for_s: float = 0.0
    ) -> Check:
        """Measure what these links give: lightly, in about two seconds; or for `for_s` seconds, at `load` (a share of
        the rate) and full.  It puts traffic on them.  Links that do nothing to packets are left out."""

    # --- inside slivers -----------------------------------------------------------------------

    @abstractmethod
    def enter(self, slice_: str, sliver: str, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` inside a sliver and its cgroup, so that the slice's end is its end too."""

    @abstractmethod
    async def output(self, slice_: str, sliver: str, argv: Sequence[str]) -> tuple[int, str]:
        """Exit code and standard output of a command inside a sliver; `{run}` in its words stands for the sliver's
        directory there (`$VINI_SLIVER_DIR`)."""

    def script(self, file: Path) -> list[str]:
        """The beginning of the command line that runs this Python file, which imports nothing of ours, in a sliver."""
        return [sys.executable, "-I", str(file)]

    @abstractmethod
    def logs(
        self, slice_: str, sliver: str, lines: int, follow: bool, processes: Sequence[str] = (), boot: bool = False
    ) -> list[str]:
        """The command line that prints what the sliver's processes said last, and with `follow` what they say."""

    @abstractmethod
    async def ssh(self, slice_: str) -> list[SshPlace]:
        """How to log in to its slivers, for those that can be at this moment."""

    @abstractmethod
    def grants(self, slice_: str) -> tuple[str, ...]:
        """What processes of the slice may have of its nodes, by the broker in each sliver."""

    @abstractmethod
    def grant(self, slice_: str, words: Sequence[str]) -> None:
        """They may have this, and nothing else.  Raises Invalid for what can't be granted, Denied unless an operator
        asks."""

    def ssh_through(self, slice_: str, sliver: str) -> list[str]:  # noqa: ARG002
        """The command line that is a connection to the SSH server of a sliver's node, by way of the central, as
        ssh_config(5) wants it of a ProxyCommand; []: there is no such way, nor a need of one."""
        return []

    def ssh_identity(self) -> str:
        """The file of a private key that opens what `ssh` named; "": those that the user has anyway."""
        return ""

    def address(self, topology: Topology, sliver: str, family: int = 4) -> str:
        """The address that stands for a sliver."""
        return address(layout(topology), sliver, family)


def _not_ready(slice_: str, bad: Sequence[SliverStatus]) -> str:
    lines = [f"  {r.sliver.partition('.')[2]}: {r.why}" for r in bad[:10]]
    more = [f"  ... and {len(bad) - 10} more"] if len(bad) > 10 else []
    title = f"{len(bad)} sliver{'s' if len(bad) > 1 else ''} of {slice_!r} not ready (`vini status` looks again):"
    return "\n".join([title, *lines, *more])
