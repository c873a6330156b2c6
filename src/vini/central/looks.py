"""How slices are now, by asking their nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address

from msgspec.structs import replace

from vini import bus
from vini.bus import Bus
from vini.central.asking import every
from vini.central.slice_rows import held
from vini.central.uptake import reported, waiting
from vini.model import Netns, Shape, SliceSpec, SliverStatus, Value, ViniError, is_sliver
from vini.reach import FibEntry
from vini.rules import access
from vini.rules.caller import Caller
from vini.rules.errors import Invalid
from vini.rules.leases import moment
from vini.rules.nouns import Holder
from vini.store import events, nodes, slices, specs
from vini.store.database import Database


class Seen(Value, frozen=True):
    """How the slivers of a slice are; and of which nodes only an older report is known, with the reason."""

    slivers: tuple[SliverStatus, ...]
    away: dict[str, str] = {}


class Looks:
    """At the slices of one testbed."""

    def __init__(self, database: Database, talk: Bus, clock: Callable[[], float]):
        self._database, self._bus, self._clock = database, talk, clock

    async def status(self, caller: Caller, name: str) -> Seen:
        """By a fresh look at each node; of a node that is away its slivers as `configuring`, with the reason."""
        there = await asyncio.to_thread(held, self._database, caller, name, "see slice")
        ends = await asyncio.to_thread(self._expires, name)
        alive = {n: s for n, s in there.items() if not 0 < s.expires <= self._clock()}
        replies = await every(alive, lambda node: self._bus.ask(node, bus.AskStatus(name)))
        rows: list[SliverStatus] = []
        away: dict[str, str] = {}
        for node in there.keys() - alive.keys():
            over = moment(there[node].expires)
            why = f"its time on node {node} was over at {over}; where its slice lives on, `vini up` finds another place"
            rows += waiting(there[node], why)
        behind: list[str] = []
        for node, reply in replies.items():
            if isinstance(reply, ViniError):
                away[node] = str(reply)
            elif isinstance(reply, bus.Report) and reply.generation >= alive[node].generation:
                rows += _leaving(reply.slivers, alive[node], ends)
            else:
                behind.append(node)
        refused = await asyncio.to_thread(self._refused, name) if behind else {}
        for node in behind:
            yet = f"node {node} has not taken the newest change yet"
            away[node] = f"node {node} refuses: {refused[node]}" if node in refused else yet
        for node, why in away.items():
            rows += waiting(alive[node], why)
        return Seen(tuple(sorted(rows, key=lambda r: r.sliver)), away)

    def _expires(self, name: str) -> float:
        with self._database.reading() as tx:
            return slices.get(tx, name).expires

    def _refused(self, name: str) -> dict[str, str]:
        """Why nodes do not take what is asked of them, as they said last."""
        with self._database.reading() as tx:
            said = {a.node: reported(a.report) for a in specs.answers(tx, name) if not a.is_of_newest}
        return {node: report.refused for node, report in said.items() if report and report.refused}

    async def fibs(self, caller: Caller, name: str) -> dict[str, tuple[FibEntry, ...]]:
        """Sliver -> its main forwarding table; without those whose node is away."""
        replies = await self._replies(caller, name, bus.AskFibs(name))
        tables: dict[str, tuple[FibEntry, ...]] = {}
        for reply in replies.values():
            if isinstance(reply, bus.Fibs):
                tables |= reply.tables
        return tables

    async def loads(self, caller: Caller, name: str) -> dict[str, bus.SliverLoad]:
        """Sliver -> its counters; without those whose node is away."""
        replies = await self._replies(caller, name, bus.AskLoads(name))
        found: dict[str, bus.SliverLoad] = {}
        for reply in replies.values():
            if isinstance(reply, bus.Loads):
                found |= reply.slivers
        return found

    async def acts(self, caller: Caller, name: str, after: int, linked: bool) -> dict[str, tuple[bus.Act, ...]]:
        """Node -> when it put what generations above `after` in force; without those that are away.  `linked`: with
        how their links came about."""
        replies = await self._replies(caller, name, bus.AskActs(name, after, linked))
        return {node: reply.acts for node, reply in replies.items() if isinstance(reply, bus.Acts)}

    async def _replies(self, caller: Caller, name: str, question: bus.Request) -> dict[str, bus.Reply | ViniError]:
        """Node -> what it answers, of those that hold something of the slice."""
        there = await asyncio.to_thread(held, self._database, caller, name, "see slice")
        return await every(there, lambda node: self._bus.ask(node, question))

    def holders(self, caller: Caller, name: str) -> dict[str, Holder]:
        """Node -> what it is asked to have of the slice."""
        there = held(self._database, caller, name, "see slice")
        with self._database.reading() as tx:
            clocks = {row.name: (row.clock_offset_s, row.clock_error_s) for row in nodes.all(tx)}
        return {
            n: Holder(_slivers(s), *clocks.get(n, (0.0, 0.0)), _backends(s), s.underlay_ms) for n, s in there.items()
        }

    async def who(self, caller: Caller, question: bus.AskFlows) -> dict[str, bus.Flows]:
        """Node -> the flows that it wrote down, of those asked for; of one that doesn't answer, why."""
        if not 0 < question.most <= 10_000 or not all(map(_is_ipv4, (question.source, question.destination))):
            raise Invalid("Flows are between two IPv4 addresses, and at most 10000 of them are told.")
        target = access.Target("flows", f"{question.source} to {question.destination}")
        access.may(caller, "see flows", target)

        def note() -> None:
            with self._database.transaction() as tx:
                events.add(
                    tx, at=self._clock(), who=caller.email, what="see flows", kind="flows", target=target.name,
                    source=caller.source,
                )  # fmt: skip

        await asyncio.to_thread(note)
        replies = await every(self._bus.connected(), lambda node: self._bus.ask(node, question))
        now = self._clock()
        return {
            node: reply if isinstance(reply, bus.Flows) else bus.Flows((), ((0.0, now, f"{reply}".rstrip(".")),))
            for node, reply in replies.items()
        }


def _slivers(spec: SliceSpec) -> tuple[str, ...]:
    return tuple(sorted(o.ns.partition(".")[2] for o in spec.objects if isinstance(o, Netns) and is_sliver(o.ns)))


def _backends(spec: SliceSpec) -> dict[str, str]:
    shapes = (o for o in spec.objects if isinstance(o, Shape))
    return {f"{o.ns.partition('.')[2]}:{o.dev}": o.backend for o in shapes}


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def _leaving(rows: Iterable[SliverStatus], spec: SliceSpec, ends: float) -> Iterable[SliverStatus]:
    """The same rows, with when they go, where that is before their slice ends."""
    if not 0 < spec.expires < ends:
        return rows
    why = f"until {moment(spec.expires)}: from then on another slice has leased node {spec.node}"
    return [replace(row, leaves=why) for row in rows]
