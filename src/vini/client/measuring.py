"""Links of a testbed, measured: each node sends and awaits packets at its slivers, and here all is put together.

The nodes keep step without a clock: they listen, and say so; all send; when all have sent, all stop to listen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec.structs import replace

from vini import bus, names
from vini.client import commands
from vini.dataplane import probe
from vini.dataplane.probe import Flight, Measurement, Stream
from vini.model import Impairment, Link, NotFound, Topology, Value, ViniError
from vini.rules.nouns import Holder
from vini.truth import Check, Direction, check_lightly, check_thoroughly, directions, to_measure
from vini.truth.apart import aligned, both
from vini.truth.counting import Lapses, began_once, between
from vini.truth.direction import is_opposite, opposite
from vini.truth.here import control, stream
from vini.truth.plan import Sending, drain_s, duration_s
from vini.truth.seen import Frame, Noise, Seen, Taken, frames, noise, others_bytes

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

    from vini.client.remote import RemoteClient

T = TypeVar("T")
MOST_BYTES = 1200  # of a packet in a tunnel: fits where the network between nodes carries what IPv6 needs
_PATIENCE_S = 90.0  # beside the measurement itself: a busy node compiles the probe first
_ENCODE = msgspec.msgpack.Encoder()


async def check_links(
    client: RemoteClient, topology: Topology, links: Sequence[Link], holders: Mapping[str, Holder], load: float,
    for_s: float, say: Callable[[str], None],
) -> Check:  # fmt: skip
    """See `Slices.check_links`."""
    backends = {vif: b for h in holders.values() for vif, b in h.backends.items()}
    where = {sliver: node for node, h in holders.items() for sliver in h.slivers}
    all_ = [
        replace(d, smooths=backends.get(f"{d.source}:{d.vif}") == "netem")
        for d in to_measure(directions(topology, links))
    ]
    bench = Spread(client, topology.name, where)
    all_ = [bench.fitted(d) for d in all_]
    if not for_s:
        return await check_lightly(all_, bench)
    return await check_thoroughly(all_, bench, load, for_s, say)


class _Course(Value, frozen=True):
    """A direction, what is sent over it, and where its flows begin in the plan."""

    direction: Direction
    sendings: tuple[Sending, ...]
    first: int


class Spread:
    """A `truth.measure.Bench` over the nodes of a slice; `where` tells of each sliver the node."""

    def __init__(self, client: RemoteClient, slice_: str, where: Mapping[str, str]):
        self._client, self._slice, self._where = client, slice_, where

    def fitted(self, d: Direction) -> Direction:
        """With frames that fit into a tunnel, where it is one.  Raises NotFound where a sliver is not up."""
        for sliver in (d.source, d.destination):
            if sliver not in self._where:
                raise NotFound(f"Sliver {sliver} isn't up, so its links can't be measured; `vini status` says why.")
        return d if self._is_one(d) else replace(d, most_frame=min(d.most_frame, MOST_BYTES + probe.HEADER_BYTES))

    def _is_one(self, d: Direction) -> bool:
        return self._where[d.source] == self._where[d.destination]

    async def measure(self, all_: Sequence[Direction], sendings: Sequence[Sequence[Sending]]) -> list[Taken]:
        """See Bench.  Over a link between nodes packets go both ways, whatever was asked for."""
        courses = self._courses(all_, sendings)
        lasts_s = duration_s([c.sendings for c in courses])
        waits_s = drain_s([c.direction.asked for c in courses], [c.sendings for c in courses])
        plans = {node: self._plan(node, courses, lasts_s) for node in sorted(self._nodes(courses))}
        before = await self._client.loads(self._slice)
        found = await self._measured(plans, lasts_s, waits_s)
        after = await self._client.loads(self._slice)
        quiet = {node: noise(m.flights[0], m) for node, m in found.items()}
        flown = [self._flown(c, found) for c in courses]
        seen = [frames(f) for f in flown]
        out = []
        for i, c in enumerate(courses[: len(all_)]):
            d = c.direction
            sent = _sent(after, d) - _sent(before, d)
            missed, others = max(f.missed for _, f in flown[i]), others_bytes(flown[i], sent)
            one = Seen(seen[i], missed, others, lapses=between(_lapses(before, d), _lapses(after, d)))
            if self._is_one(d):
                began_ns = began_once(_began_ns(before, d), _began_ns(after, d))
                until_ns = found[self._where[d.source]].began_ns + round((lasts_s + waits_s) * 1e9)
                one = replace(one, began_ns=began_ns, until_ns=until_ns)
            out.append(self._taken(courses, seen, quiet, i, one))
        return out

    def _courses(self, all_: Sequence[Direction], sendings: Sequence[Sequence[Sending]]) -> list[_Course]:
        """Those that are asked for; then the way back of each that has none, with single packets."""
        wanted = [(d, tuple(s)) for d, s in zip(all_, sendings, strict=True)]
        back = [
            (opposite(d, Impairment()), tuple(x for x in s if x.phase == "idle"))
            for d, s in wanted
            if not self._is_one(d) and not any(is_opposite(d, other) for other in all_)
        ]
        courses, first = [], 1
        for d, s in wanted + back:
            courses.append(_Course(d, s, first))
            first += len(s)
        return courses

    def _nodes(self, courses: Iterable[_Course]) -> set[str]:
        return {self._where[sliver] for c in courses for sliver in (c.direction.source, c.direction.destination)}

    # --- what each node is told -------------------------------------------------------------------

    def _plan(self, node: str, courses: Sequence[_Course], lasts_s: float) -> list[tuple[bus.FrameFlow, Stream]]:
        """All flows, on each node with the same numbers."""
        quiet = control(lasts_s)
        out = [(_flow(quiet, "-", "lo", "-", "lo"), quiet)]
        for c in courses:
            d = c.direction
            ends = (*self._end(node, d.source, d.vif), *self._end(node, d.destination, d.peer_vif))
            for s in c.sendings:
                one = stream(s, (probe.ELSEWHERE, d.vif), (probe.ELSEWHERE, d.peer_vif))
                out.append((_flow(one, *ends), one))
        return out

    def _end(self, node: str, sliver: str, vif: str) -> tuple[str, str]:
        return (sliver, vif) if self._where[sliver] == node else ("", names.mac(self._slice, sliver, vif))

    # --- keeping step -----------------------------------------------------------------------------

    async def _measured(
        self, plans: Mapping[str, Sequence[tuple[bus.FrameFlow, Stream]]], lasts_s: float, waits_s: float
    ) -> dict[str, Measurement]:
        try:
            async with asyncio.timeout(2 * lasts_s + waits_s + _PATIENCE_S), AsyncExitStack() as stack:
                parts = {}
                for node, plan in plans.items():
                    sliver = next(s for s, n in self._where.items() if n == node and _is_in(s, plan))
                    socket = await stack.enter_async_context(commands.opened(self._client.login, self._slice, sliver))
                    part = _Part(node, await stack.enter_async_context(aclosing(commands.said(socket))), socket)
                    await part.send(bus.Measure("", tuple(f for f, _ in plan), round(waits_s * 1e9)))
                    parts[node] = part
                for step in (b"L", b"S"):
                    await _each(part.until(step) for part in parts.values())
                    await _each(part.send(bus.Input(b"\n")) for part in parts.values())
                told = await _each(part.rest() for part in parts.values())
                return {n: probe.parsed([s for _, s in plans[n]], t) for n, t in zip(parts, told, strict=True)}
        except TimeoutError as e:
            raise ViniError("The nodes did not end their measurement in time; they are too busy to measure on.") from e

    # --- what came of it --------------------------------------------------------------------------

    def _flown(self, c: _Course, found: Mapping[str, Measurement]) -> list[tuple[str, Flight]]:
        """What left at one node, with what arrived at the other."""
        there, here = found[self._where[c.direction.source]], found[self._where[c.direction.destination]]
        return [
            (s.phase, replace(there.flights[i], arrivals=here.flights[i].arrivals, missed=here.flights[i].missed))
            for i, s in enumerate(c.sendings, c.first)
        ]

    def _taken(
        self, courses: Sequence[_Course], seen: Sequence[Sequence[Frame]], quiet: Mapping[str, Noise], i: int, one: Seen
    ) -> Taken:
        d = courses[i].direction
        here, there = quiet[self._where[d.source]], quiet[self._where[d.destination]]
        if self._is_one(d):
            return Taken(one, here)
        j = next(j for j, c in enumerate(courses) if is_opposite(d, c.direction))
        found = aligned((d.asked, one.frames), (courses[j].direction.asked, seen[j]))
        return Taken(replace(one, frames=found.frames), both(here, there), found.clock, found.unsure_ms)


class _Part:
    """One node's."""

    def __init__(self, node: str, said: AsyncGenerator[bus.Said, None], socket: ClientConnection):
        self._node, self._said, self._socket = node, said, socket
        self._told, self._complaint = bytearray(), bytearray()

    async def send(self, message: bus.Message) -> None:
        await self._socket.send(_ENCODE.encode(message))

    async def until(self, step: bytes) -> None:
        """It has come so far."""
        while not self._told:
            await self._hear()
        if not self._told.startswith(step):
            raise ViniError(f"Node {self._node} measures in another way; upgrade the older of it and this command.")
        del self._told[:1]

    async def rest(self) -> bytes:
        """All that it found."""
        while await self._hear() is None:
            pass
        return bytes(self._told)

    async def _hear(self) -> int | None:
        """The exit code, where that came."""
        match await anext(self._said):
            case bus.Output(1, data):
                self._told += data
            case bus.Output(_, data):
                self._complaint += data
            case bus.Exited(0):
                return 0
            case bus.Exited():
                why = self._complaint.decode(errors="replace").strip()
                raise ViniError(f"The links can't be measured on node {self._node}.  {why}")
        return None


async def _each(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All at once; where one fails the others are cancelled."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except* ViniError as several:
        raise next(e for e in several.exceptions if isinstance(e, ViniError)) from several
    return [task.result() for task in tasks]


def _is_in(sliver: str, plan: Iterable[tuple[bus.FrameFlow, Stream]]) -> bool:
    return any(sliver in (f.source, f.destination) for f, _ in plan)


def _flow(s: Stream, source: str, vif: str, destination: str, peer_vif: str) -> bus.FrameFlow:
    return bus.FrameFlow(source, vif, destination, peer_vif, s.start_ns, s.interval_ns, s.count, s.frame_bytes, s.ahead)


def _began_ns(loads: Mapping[str, bus.SliverLoad], d: Direction) -> int | None:
    """When it began with its trace; None where its node does not tell."""
    return loads[d.source].traces.get(d.vif) if d.asked.trace and d.source in loads else None


def _lapses(loads: Mapping[str, bus.SliverLoad], d: Direction) -> Lapses:
    """So far, of where it is shaped; of what was read late its node tells nothing."""
    return Lapses(*loads[d.source].departed.get(d.vif, ())) if d.source in loads else Lapses()


def _sent(loads: Mapping[str, bus.SliverLoad], d: Direction) -> int:
    """Bytes that left by its vif; nothing is said of a sliver whose node does not tell."""
    return loads[d.source].vifs[d.vif][2] if d.source in loads and d.vif in loads[d.source].vifs else 0
