"""What a central does with slices: authorise, embed over the nodes, store, tell the nodes, and ask them how it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Address
from typing import TypeVar

import msgspec

from vini import bandwidth, bus, placement
from vini.bus import Bus
from vini.central import admission
from vini.edit import lived_on
from vini.embed import embed
from vini.model import (
    CapacityError,
    Conflict,
    Netns,
    Node,
    NotFound,
    Outside,
    OutsideGrant,
    Shape,
    SliceSpec,
    SliverStatus,
    Topology,
    Unsupported,
    Value,
    ViniError,
    is_sliver,
)
from vini.plan import plan
from vini.plugins.tunnels import TunnelKind, kind_of
from vini.reach import FibEntry, hosts, is_renamed
from vini.rules import access, mesh, outside, quota, strangers, underlay
from vini.rules.caller import Caller
from vini.rules.errors import Invalid
from vini.rules.leases import moment
from vini.rules.nouns import Holder, Lease, NodeRow, SliceRow
from vini.rules.substrate import Substrate
from vini.store import (
    calendar,
    events,
    initscripts,
    latencies,
    nodes,
    sites,
    slices,
    specs,
    substrate,
    takings,
    tunnels,
)
from vini.store import outside as grants
from vini.store.database import Database, Tx

T = TypeVar("T")
_POLL_S = 0.02  # between looks whether the nodes have taken a change


class Asked(Value, frozen=True):
    """A slice's desired state, and which one it is."""

    generation: int
    topology: Topology


class Seen(Value, frozen=True):
    """How the slivers of a slice are; and of which nodes only an older report is known, with the reason."""

    slivers: tuple[SliverStatus, ...]
    away: dict[str, str] = {}


class SshAddress(Value, frozen=True):
    """How to log in to a sliver by SSH."""

    sliver: str
    user: str
    node: str
    host: str
    port: int
    host_key: str  # "ssh-ed25519 AAAA..."
    direct: bool = True  # False: only through the central, since the node is not reached from outside


class Change(Value, frozen=True):
    """A desired state that is stored: its generation, and the nodes that hold some of it or are to give it up."""

    generation: int
    nodes: frozenset[str]
    written: frozenset[str]  # those for which that is another than it was


class Testbed:
    """Slices over nodes.  What touches the database runs in a thread; no transaction is open while nodes are asked."""

    def __init__(
        self, database: Database, talk: Bus, clock: Callable[[], float] = time.time, tunnel: TunnelKind = "vxlan",
        strangers: bool = False,
    ):  # fmt: skip
        """`tunnel`: what links between nodes are made of, in slices that don't say.  `strangers`: its people don't know
        each other, so slices may not ask for everything (`rules.strangers`)."""
        self._database, self._bus, self._clock = database, talk, clock
        self._tunnel, self._strangers = tunnel, strangers

    # --- what is asked for --------------------------------------------------------------------

    def topologies(self, caller: Caller) -> dict[str, Topology]:
        """Of all slices that he may see and that have something in them, but for those that another version stored."""
        with self._database.reading() as tx:
            rows = [row for row in slices.all(tx) if access.allows(caller, "see slice", access.of_slice(row))]
        return {row.name: topology for row in rows if (topology := _before(row)).slivers}

    def asked(self, caller: Caller, name: str) -> Asked:
        """What is asked of a slice now.  NotFound where it has nothing, or he may not know."""
        with self._database.reading() as tx:
            row = _seen(tx, caller, name)
        if not row.topology.slivers:
            raise NotFound(f"Slice {name!r} is not up; `vini up FILE --slice {name}` brings it up.")
        return Asked(row.generation, row.topology)

    # --- desired states -----------------------------------------------------------------------

    async def put(
        self,
        caller: Caller,
        topology: Topology,
        what: str,
        after: int | None = None,
        wait_s: float = 0.0,
        at: float = 0.0,
    ) -> bus.Report:
        """Store a new desired state, tell its nodes, and return how it is there, after `wait_s` at the latest.

        With `after`, only on top of that generation: Conflict where somebody was faster.  With `at` (Unix time, s) the
        nodes act at that moment.
        """
        started = time.monotonic()
        change = await asyncio.to_thread(self._put, caller, topology, what, after, at)
        self._bus.wake(change.written)
        await self._taken(topology.name, change, started + wait_s, later=at > 0)
        rows = await asyncio.to_thread(self._last_heard, topology.name)
        return bus.Report(rows, len(change.nodes), time.monotonic() - started, topology.name, change.generation)

    def _put(self, caller: Caller, topology: Topology, what: str, after: int | None, at: float) -> Change:
        name, now = topology.name, self._clock()
        with self._database.transaction() as tx:
            if topology.slivers:
                takings.turn(tx)
            row = _seen(tx, caller, name, lock=True)
            access.may(caller, "use slice", access.of_slice(row))
            if after is not None and after != row.generation:
                raise Conflict(f"Slice {name!r} is at generation {row.generation}, not {after}; look, and try again.")
            before = _before(row)
            topology = lived_on(before, topology)
            generation = slices.after(tx, row)
            held, lost = specs.known(tx, name)
            outside.refuse(topology, before, _grant_of(tx, topology))
            wanted = self._embedded(tx, topology, generation, row, before, held, max(now, at))
            wanted = _at(at, wanted, nodes.all(tx)) if at else wanted
            renamed = _is_renamed(before, topology)
            written = slices.put_topology(tx, name, topology, wanted, now, generation, held, renamed)
            events.add(tx, at=now, who=caller.email, what=what, kind="slice", target=name, detail=f"{generation}")
        return Change(generation, lost | frozenset(wanted) | {n for n, s in held.items() if s.objects}, written)

    def granted(self, caller: Caller, name: str) -> OutsideGrant:
        """What the slice may do in the world.  NotFound where that is nothing."""
        with self._database.reading() as tx:
            _seen(tx, caller, name)
            grant = grants.get(tx, name)
        if grant is None:
            raise NotFound(f"Slice {name!r} may do nothing in the world; an admin grants it with `vini outside grant`.")
        return grant

    async def grant(self, caller: Caller, name: str, grant: OutsideGrant | None) -> None:
        """From now on the slice may do that in the world; None: nothing.  Its nodes are told at once."""
        self._bus.wake(await asyncio.to_thread(self._grant, caller, name, grant))

    def _grant(self, caller: Caller, name: str, grant: OutsideGrant | None) -> frozenset[str]:
        """The nodes that have something to do.  What is taken away is taken away whatever else has become of the
        testbed: the slice is not placed anew for it."""
        now = self._clock()
        with self._database.transaction() as tx:
            takings.turn(tx)
            row = _seen(tx, caller, name, lock=True)
            access.may(caller, "grant outside to slice", access.of_slice(row))
            if grant is not None:
                outside.check(grant)
            grants.put(tx, row.id, grant, caller.email, now)
            what = f"grant outside: {', '.join(grant.to)}" if grant else "revoke outside"
            told = self._let_out(tx, row, now) if grant else _shut_in(tx, name)
            generation = slices.generation(tx, name)
            events.add(tx, at=now, who=caller.email, what=what, kind="slice", target=name, detail=f"{generation}")
        return told

    def _let_out(self, tx: Tx, row: SliceRow, now: float) -> frozenset[str]:
        """As far as its slivers ask for that; the nodes that have something to do."""
        name, topology = row.name, row.topology
        if not any(s.outside for s in topology.slivers.values()):
            return frozenset()
        held, generation = specs.of_slice(tx, name), slices.next_generation(tx, name)
        wanted = self._embedded(tx, topology, generation, row, topology, held, now)
        slices.put_topology(tx, name, topology, wanted, now, above=generation)
        return frozenset(wanted) | frozenset(held)

    def _embedded(
        self,
        tx: Tx,
        topology: Topology,
        generation: int,
        row: SliceRow,
        before: Topology,
        held: dict[str, SliceSpec],
        at: float,
    ) -> dict[str, SliceSpec]:
        """The specs of the nodes that hold some of it, from that time on; `before` was asked for until then.  It is our
        turn (`takings.turn`)."""
        if not topology.slivers:
            tunnels.give_back(tx, topology.name)
            return {}
        if self._strangers:
            strangers.check(topology)
        topology = msgspec.structs.replace(topology, tunnel=topology.tunnel or self._tunnel)
        site = sites.get(tx, row.site)
        others = takings.others(tx, site.id, row.id)
        quota.check(row.shown, site, others, quota.taken(topology, {}))
        ahead, there = calendar.ahead(tx, at), {n for n, s in held.items() if s.objects}
        ends = calendar.stays(ahead, topology.name, row.expires, at, there)
        able, below, placed = self._placed(tx, topology, before, placement.places(held), ends, ahead, at)
        quota.check(row.shown, site, others, quota.taken(topology, placed))
        quota.check_bounded(site, bandwidth.unbounded(topology, placed))
        below.check(topology, placed, substrate.others(tx, topology.name) if below.links else {})
        crossing = placement.crossing(topology, placed)
        if self._strangers:
            strangers.check_between(crossing, kind_of(topology))
        vnis = tunnels.lease(tx, topology.name, crossing)
        port = tunnels.lease_port(tx, topology.name, wanted=bool(crossing) and kind_of(topology) == "wireguard")
        own = underlay.taken(topology, placed, below.measured, held)
        topology = initscripts.resolved(tx, topology, placed)
        granted = _grant_of(tx, topology)
        never = nodes.addresses(tx) if granted else ()
        made = embed(
            topology, able, generation, placed=placed, vnis=vnis, port=port, underlay=own, grant=granted, never=never
        )
        mine = {n: below.marked(s) for n, s in made.items() if s.objects}
        return {n: msgspec.structs.replace(s, expires=ends.get(n, row.expires)) for n, s in mine.items()}

    def _placed(
        self,
        tx: Tx,
        topology: Topology,
        before: Topology,
        held: Mapping[str, str],
        ends: Mapping[str, float],
        ahead: Mapping[str, Sequence[Lease]],
        at: float,
    ) -> tuple[list[Node], Substrate, dict[str, str]]:
        """Nodes that may be given something, those of the slice among them; what is known of the substrate there; and
        each sliver's node.

        A change mostly leaves all slivers where they are: then only their nodes are looked at, and the ways between
        them, however many there are.
        """
        settled = placement.as_before(before, topology)

        def among(names: Collection[str] | None) -> tuple[list[Node], Substrate, dict[str, str]]:
            rows = nodes.all(tx) if names is None else nodes.named(tx, names)
            able = admission.unleased(topology, _able(rows), ends, ahead, at)
            there = {node.name for node in able}
            below = substrate.picture(tx, mesh.one_way(latencies.all(tx, self._clock(), there)))
            used = specs.used(tx, topology.name, names)
            placed = placement.place(topology, able, used, held, below.distances(there), settled)
            below.check_delays(topology, placed, held, settled, there)
            return able, below, placed

        staying = placement.staying(topology, held)
        if staying is not None:
            with suppress(CapacityError, Unsupported):  # who looks at all nodes finds another, or can say what is full
                able, below, placed = among(frozenset(staying.values()))
                if placed == staying:
                    return able, below, placed
        return among(None)

    async def foresee(self, caller: Caller, topology: Topology) -> list[str]:
        """What `put` would change, step by step, as far as is known from what is stored; nothing is touched."""
        return await asyncio.to_thread(self._foresee, caller, topology)

    def _foresee(self, caller: Caller, topology: Topology) -> list[str]:
        steps: list[str] = []
        try:
            with self._database.transaction() as tx:
                takings.turn(tx)
                row = _seen(tx, caller, topology.name)
                access.may(caller, "use slice", access.of_slice(row))
                held, _ = specs.known(tx, topology.name)
                before = _before(row)
                topology = lived_on(before, topology)
                outside.refuse(topology, before, _grant_of(tx, topology))
                wanted = self._embedded(tx, topology, row.generation + 1, row, before, held, self._clock())
                for node in sorted({*held, *wanted}):
                    want = wanted[node].objects if node in wanted else frozenset()
                    have = held[node].objects if node in held else frozenset()
                    steps += [f"{node}: {op}" for op in plan(want, have)]
                raise _Undone
        except _Undone:
            return steps

    # --- observed states ----------------------------------------------------------------------

    async def _taken(self, name: str, change: Change, deadline: float, later: bool) -> None:
        """Until all nodes of a change that are connected have taken it, or a newer one; or know of one for later."""
        look = self._unaware if later else self._behind
        while time.monotonic() < deadline:
            behind = await asyncio.to_thread(look, name, change.generation)
            if not behind & self._bus.connected():
                return
            await asyncio.sleep(_POLL_S)

    def _behind(self, name: str, generation: int) -> frozenset[str]:
        with self._database.reading() as tx:
            return frozenset(n for n, g in specs.behind(tx, name).items() if g <= generation)

    def _unaware(self, name: str, generation: int) -> frozenset[str]:
        """Those that have not even told that they have it on disk."""
        with self._database.reading() as tx:
            behind = {n for n, g in specs.behind(tx, name).items() if g <= generation}
            bodies = {n: body for n, (_, body, _) in specs.reports(tx, name).items() if n in behind}
        said = {n: _reported(body) for n, body in bodies.items()}
        aware = {n for n, report in said.items() if report and report.accepted >= generation}
        return frozenset(behind - aware)

    def _last_heard(self, name: str) -> tuple[SliverStatus, ...]:
        """What the nodes reported of the newest change; of a node that did not yet, that."""
        with self._database.reading() as tx:
            answers = specs.answers(tx, name)
        rows: list[SliverStatus] = []
        for answer in answers:
            report = _reported(answer.report)
            if answer.is_of_newest and report:
                rows += report.slivers
            else:
                rows += _waiting(answer.spec, self._why_waiting(answer.node, report))
        return tuple(rows)

    def _why_waiting(self, node: str, report: bus.Report | None) -> str:
        if node not in self._bus.connected():
            return f"node {node} is not connected"
        refused = report.refused if report else ""
        return f"node {node} refuses: {refused}" if refused else f"node {node} has not taken it yet"

    async def status(self, caller: Caller, name: str) -> Seen:
        """By a fresh look at each node; of a node that is away its slivers as `configuring`, with the reason."""
        every = await asyncio.to_thread(self._held, caller, name, "see slice")
        held = {n: s for n, s in every.items() if not 0 < s.expires <= self._clock()}
        replies = await self._each(held, lambda node: self._bus.ask(node, bus.AskStatus(name)))
        rows: list[SliverStatus] = []
        away: dict[str, str] = {}
        for node in every.keys() - held.keys():
            over = moment(every[node].expires)
            why = f"its time on node {node} was over at {over}; where its slice lives on, `vini up` finds another place"
            rows += _waiting(every[node], why)
        for node, reply in replies.items():
            if isinstance(reply, bus.Report) and reply.generation >= held[node].generation:
                rows += reply.slivers
            else:
                why = str(reply) if isinstance(reply, ViniError) else f"node {node} has not taken the newest change yet"
                away[node] = why
                rows += _waiting(held[node], why)
        return Seen(tuple(sorted(rows, key=lambda r: r.sliver)), away)

    async def fibs(self, caller: Caller, name: str) -> dict[str, tuple[FibEntry, ...]]:
        """Sliver -> its main forwarding table; without those whose node is away."""
        held = await asyncio.to_thread(self._held, caller, name, "see slice")
        replies = await self._each(held, lambda node: self._bus.ask(node, bus.AskFibs(name)))
        tables: dict[str, tuple[FibEntry, ...]] = {}
        for reply in replies.values():
            if isinstance(reply, bus.Fibs):
                tables |= reply.tables
        return tables

    async def loads(self, caller: Caller, name: str) -> dict[str, bus.SliverLoad]:
        """Sliver -> its counters; without those whose node is away."""
        held = await asyncio.to_thread(self._held, caller, name, "see slice")
        replies = await self._each(held, lambda node: self._bus.ask(node, bus.AskLoads(name)))
        found: dict[str, bus.SliverLoad] = {}
        for reply in replies.values():
            if isinstance(reply, bus.Loads):
                found |= reply.slivers
        return found

    async def acts(self, caller: Caller, name: str, after: int) -> dict[str, tuple[bus.Act, ...]]:
        """Node -> when it put what generations above `after` in force; without those that are away."""
        held = await asyncio.to_thread(self._held, caller, name, "see slice")
        replies = await self._each(held, lambda node: self._bus.ask(node, bus.AskActs(name, after)))
        return {node: reply.acts for node, reply in replies.items() if isinstance(reply, bus.Acts)}

    def holders(self, caller: Caller, name: str) -> dict[str, Holder]:
        """Node -> what it is asked to have of the slice."""
        held = self._held(caller, name, "see slice")
        with self._database.reading() as tx:
            clocks = {row.name: (row.clock_offset_s, row.clock_error_s) for row in nodes.all(tx)}
        return {
            n: Holder(_slivers(s), *clocks.get(n, (0.0, 0.0)), _backends(s), s.underlay_ms) for n, s in held.items()
        }

    async def _each(
        self, held: Iterable[str], ask: Callable[[str], Coroutine[object, object, T]]
    ) -> dict[str, T | ViniError]:
        """Every node's answer, or why there is none; all are asked at once."""

        async def one(node: str) -> T | ViniError:
            try:
                return await ask(node)
            except ViniError as e:
                return e

        names = sorted(held)
        return dict(zip(names, await asyncio.gather(*(one(n) for n in names)), strict=True))

    def _held(self, caller: Caller, name: str, action: str, sliver: str = "") -> dict[str, SliceSpec]:
        """Node -> the spec of it, of those that hold something of the slice.  Of a `sliver` he must be allowed it."""
        with self._database.reading() as tx:
            row = _seen(tx, caller, name)
            access.may(caller, action, access.of_sliver(row, sliver) if sliver else access.of_slice(row))
            return {n: s for n, s in specs.of_slice(tx, name).items() if s.objects}

    async def who(self, caller: Caller, question: bus.AskFlows) -> dict[str, bus.Flows]:
        """Node -> the flows that it wrote down, of those asked for; of one that doesn't answer, why."""
        if not 0 < question.most <= 10_000 or not all(map(_is_ipv4, (question.source, question.destination))):
            raise Invalid("Flows are between two IPv4 addresses, and at most 10000 of them are told.")
        target = access.Target("flows", f"{question.source} to {question.destination}")
        access.may(caller, "see flows", target)

        def note() -> None:
            with self._database.transaction() as tx:
                events.add(tx, at=self._clock(), who=caller.email, what="see flows", kind="flows", target=target.name)

        await asyncio.to_thread(note)
        replies = await self._each(self._bus.connected(), lambda node: self._bus.ask(node, question))
        now = self._clock()
        return {
            node: reply if isinstance(reply, bus.Flows) else bus.Flows((), ((0.0, now, f"{reply}".rstrip(".")),))
            for node, reply in replies.items()
        }

    # --- inside slivers -----------------------------------------------------------------------

    def check(self, caller: Caller, name: str, sliver: str, action: str) -> None:
        """Raises NotFound or Denied where he may not do that in a sliver, be it there or not."""
        with self._database.reading() as tx:
            access.may(caller, action, access.of_sliver(_seen(tx, caller, name), sliver))

    async def node_of(self, caller: Caller, name: str, sliver: str, action: str = "use slice") -> str:
        """The node that a sliver is on.  Raises NotFound, or Denied where he may not."""
        held = await asyncio.to_thread(self._held, caller, name, action, sliver)
        for node, spec in held.items() if is_sliver(f"{name}.{sliver}") else ():
            if Netns(f"{name}.{sliver}").key in {o.key for o in spec.objects if isinstance(o, Netns)}:
                return node
        raise NotFound(f"There is no sliver {sliver!r} in slice {name!r}; `vini status -s {name} -v` lists them.")

    async def ssh(self, caller: Caller, name: str) -> list[SshAddress]:
        """How to log in to its slivers; without those on nodes that are away, or that let nobody in."""
        held = await asyncio.to_thread(self._held, caller, name, "enter slice")
        replies = await self._each(held, lambda node: self._bus.ask(node, bus.AskSsh()))
        addresses, row = await asyncio.to_thread(self._addresses), await asyncio.to_thread(self._slice, name)
        return [
            SshAddress(
                o.ns.partition(".")[2],
                o.ns,
                node,
                addresses.get(node) or node,
                reply.port,
                reply.host_key,
                direct=reply.outside and bool(addresses.get(node)),
            )  # fmt: skip
            for node, reply in replies.items()
            if isinstance(reply, bus.Ssh) and reply.port
            for o in sorted(held[node].objects, key=str)
            if isinstance(o, Netns)
            and access.allows(caller, "enter slice", access.of_sliver(row, o.ns.partition(".")[2]))
        ]

    def _slice(self, name: str) -> SliceRow:
        with self._database.reading() as tx:
            return slices.get(tx, name)

    def _addresses(self) -> dict[str, str]:
        with self._database.reading() as tx:
            return {row.name: row.address for row in nodes.all(tx)}

    async def ask_sliver(self, caller: Caller, name: str, sliver: str, request: bus.Request) -> bus.Reply:
        """The reply of the node that a sliver is on."""
        return await self._bus.ask(await self.node_of(caller, name, sliver), request)

    async def run(self, node: str, command: bus.Stream, typed: AsyncIterator[bus.Typed]) -> AsyncIterator[bus.Said]:
        """A command in a sliver on that node; it knows the slivers of its slice by their names."""
        if isinstance(command, bus.Run):
            command = msgspec.structs.replace(command, hosts=await asyncio.to_thread(self._hosts, command.ns))
        async for said in self._bus.run(node, command, typed):
            yield said

    def _hosts(self, ns: str) -> str:
        """For hosts(5); "" where the sliver's image brings its own names and tools."""
        name, _, sliver = ns.partition(".")
        with self._database.reading() as tx:
            topology = slices.get(tx, name).topology
        asked = topology.slivers.get(sliver)
        return "" if asked is None or asked.image else hosts(topology)


def _before(row: SliceRow) -> Topology:
    """What was asked for until now; nothing, where another version stored it that we can't read."""
    try:
        return row.topology
    except ViniError:
        return Topology(row.name)


def _is_renamed(before: Topology, now: Topology) -> bool:
    """Whether those who log in know its slivers by other names or addresses now."""
    try:
        return is_renamed(before, now)
    except ViniError:  # another version stored it, which took it
        return True


class _Undone(Exception):
    """Whatever the transaction did is not to be."""


def _seen(tx: Tx, caller: Caller, name: str, lock: bool = False) -> SliceRow:
    """Raises NotFound where it is not there, or he may not know that it is."""
    row = slices.get(tx, name, lock)
    access.seen(caller, access.of_slice(row))
    return row


def _at(at: float, wanted: dict[str, SliceSpec], rows: Iterable[NodeRow]) -> dict[str, SliceSpec]:
    """Each node acts by its own clock, so each is told the moment as its clock will show it."""
    ahead = {row.name: row.clock_offset_s for row in rows}
    return {n: msgspec.structs.replace(s, not_before=at + ahead.get(n, 0.0)) for n, s in wanted.items()}


def _reported(body: bytes) -> bus.Report | None:
    """None where the node said nothing, or what another version wrote down."""
    try:
        return msgspec.json.decode(body, type=bus.Report) if body else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _grant_of(tx: Tx, topology: Topology) -> OutsideGrant | None:
    """What its slice may do in the world, where it asks for any of that."""
    return grants.get(tx, topology.name) if any(s.outside for s in topology.slivers.values()) else None


def _shut_in(tx: Tx, name: str) -> frozenset[str]:
    """No sliver of it has a way to the world any more; the nodes that have something to do.

    Where another version stored what a node holds of it, it ends on that node: nothing can be taken out of what can't
    be read.
    """
    held, lost = specs.known(tx, name)
    if not lost and not any(isinstance(o, Outside) for s in held.values() for o in s.objects):
        return frozenset()
    generation = slices.next_generation(tx, name)
    specs.put(tx, name, generation, {n: _without_outside(s, generation) for n, s in held.items() if s.objects})
    slices.change(tx, name, {"generation": generation})
    return lost | frozenset(held)


def _without_outside(spec: SliceSpec, generation: int) -> SliceSpec:
    left = frozenset(o for o in spec.objects if not isinstance(o, Outside))
    return msgspec.structs.replace(spec, objects=left, generation=generation, not_before=0.0)


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def _slivers(spec: SliceSpec) -> tuple[str, ...]:
    return tuple(sorted(o.ns.partition(".")[2] for o in spec.objects if isinstance(o, Netns)))


def _backends(spec: SliceSpec) -> dict[str, str]:
    shapes = (o for o in spec.objects if isinstance(o, Shape))
    return {f"{o.ns.partition('.')[2]}:{o.dev}": o.backend for o in shapes}


def _able(rows: Iterable[NodeRow]) -> list[Node]:
    """The nodes that may be given something."""
    able = [row.node for row in rows if row.boot_state == "boot"]
    if not able:
        raise CapacityError(
            "No node of this testbed may be given slivers; let a machine join it: `vini node token`, `vini node join`, "
            "or look at `vini nodes`."
        )
    return able


def _waiting(spec: SliceSpec, why: str) -> list[SliverStatus]:
    return [SliverStatus(o.ns, "configuring", why) for o in spec.objects if isinstance(o, Netns) and is_sliver(o.ns)]
