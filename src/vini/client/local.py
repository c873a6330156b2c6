"""The slices of this machine: the central is this object, in the caller's process: store -> embed -> bus -> agent."""

from __future__ import annotations

import asyncio
import getpass
import os
import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from vini import bus
from vini.client import ssh_keys
from vini.client.agent import OwnAgent, by_now
from vini.client.child import output
from vini.client.slices import Event, OnProgress, Say, Slices, SshPlace
from vini.dataplane.element import Element
from vini.edit import lived_on
from vini.model import (
    Denied,
    Link,
    Node,
    OutsideGrant,
    Shape,
    SliceSpec,
    SliverStatus,
    Stale,
    Topology,
    Unsupported,
    ViniError,
)
from vini.node import cgroup, environment, service
from vini.node.broker import policy
from vini.node.container.config import RUN as CONTAINED_RUN
from vini.node.container.crun import is_contained
from vini.node.drivers.contents import enter
from vini.node.flows import ask
from vini.node.flows.book import directory
from vini.node.place import Place, from_environment
from vini.node.running import reads_logs
from vini.node.ssh import authorized
from vini.placement import check_own_rates, check_reserved, check_reserved_memory
from vini.reach import FibEntry, hosts
from vini.rules import grants, outside
from vini.rules.nouns import UsageRow
from vini.rules.usage import UsageAsked, sums, wanted
from vini.store import Head, Store, Verdict
from vini.usage import DAY_S, SliceUse

if TYPE_CHECKING:
    from vini.truth import Check


class Client(Slices):
    """Talks to the store and the agent of one place."""

    def __init__(self, place: Place | None = None, say: Say = lambda _: None):
        super().__init__(say)
        self.place = place or from_environment()
        self._agent = OwnAgent(self.place, say)
        self._opened: Store | None = None
        self._greeting: bus.Greeting | None = None

    @property
    def store(self) -> Store:
        """Opened when first needed, so that help and mistakes cost nothing."""
        if self._opened is None:
            _need_root()
            self._opened = Store(self.place.state / "vini.db")
        return self._opened

    # --- desired states -----------------------------------------------------------------------

    async def put(self, topology: Topology, what: str = "put", progress: OnProgress = None) -> bus.Report:
        """Store a new desired state, and have the agent make one pass towards it."""
        return await self._put(topology.name, lambda: topology, what, progress)

    async def edit(
        self, slice_: str, change: Callable[[Topology], Topology], what: str = "edit", at: float = 0.0
    ) -> bus.Report:
        """Change what is asked of a slice now, whoever asked it; of two edits at once none is lost.

        `change` is pure, and keeps the name.  Raises NotFound where the slice is not up.
        """
        return await self._put(slice_, lambda: change(self.store.get(slice_).topology), what, at=at)

    async def _put(
        self, name: str, wanted: Callable[[], Topology], what: str, progress: OnProgress = None, at: float = 0.0
    ) -> bus.Report:
        def stored(greeting: bus.Greeting) -> SliceSpec:
            with self.store.transaction():
                topology = self._lived_on(wanted())
                if any(s.outside for s in topology.slivers.values()):
                    outside.refuse(topology, self._before(name), self.store.granted(name))
                known = (greeting.ended | greeting.generations).get(name, greeting.forgotten)
                spec = self._embed(topology, greeting, max(self.store.generation(name), known) + 1)
                spec = replace(spec, not_before=at) if at else spec
                self.store.put(topology, spec, _who(), what)
                return spec

        def tried(greeting: bus.Greeting) -> None:
            self._embed(self._lived_on(wanted()), greeting, 1)

        return await self._accept(await self._able(stored, tried), progress)

    async def _able(
        self, stored: Callable[[bus.Greeting], SliceSpec], tried: Callable[[bus.Greeting], None]
    ) -> SliceSpec:
        """What `stored` makes of the agent's greeting.  Where that can do too little, and this machine enough by now as
        `tried` finds, because somebody followed our advice, another agent takes its place: each looks once."""
        greeting = await self.greeting()
        try:
            return stored(greeting)
        except Unsupported:
            tried(await by_now(greeting))
            self._say("This machine can do more than when the agent was started; it is replaced, slices run on.")
            service.learn_path(self.place)
            await self._agent.end(greeting.pid)
            self._greeting = None
            return stored(await self.greeting())

    def _lived_on(self, topology: Topology) -> Topology:
        before = self._before(topology.name) if topology.slivers else None
        return lived_on(before, topology) if before else topology

    def _before(self, name: str) -> Topology | None:
        """What is asked of a slice until now; None: nothing, or what another version stored."""
        with suppress(ViniError):
            stored = self.store.find(name)
            return stored.topology if stored else None
        return None

    def _embed(self, topology: Topology, greeting: bus.Greeting, generation: int) -> SliceSpec:
        from vini.embed import embed  # only what changes a slice waits for the compilers of all that may be in one

        def others() -> list[Topology]:
            return [s.topology for s in self.store.slices() if s.topology.name != topology.name]

        check_reserved(topology, others, os.cpu_count() or 1)
        check_reserved_memory(topology, others, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 10**6)
        check_own_rates(topology, others, greeting.rate_mbit)
        node = Node(greeting.node, greeting.capabilities, rate_mbit=greeting.rate_mbit)
        asks = any(s.outside for s in topology.slivers.values())
        grant = self.store.granted(topology.name) if asks else None
        return embed(topology, [node], generation, grant=grant)[greeting.node]

    async def _accept(self, spec: SliceSpec, progress: OnProgress = None) -> bus.Report:
        """The agent's report; of a newer desired state, where another command stored one and it came there first."""
        try:
            reply = await self._ask(bus.Accept(spec), progress)
        except Stale:
            newest = self.store.find(spec.slice)
            if newest is None or newest.generation <= spec.generation:
                raise
            return await self._accept(newest.spec, progress)
        assert isinstance(reply, bus.Report)
        return reply

    def granted(self, slice_: str) -> OutsideGrant | None:
        """What a slice may do in the world; None: nothing."""
        return self.store.granted(slice_)

    async def grant_outside(self, slice_: str, grant: OutsideGrant | None) -> None:
        """From now on a slice may do that in the world; None: nothing.  It need not be up.  Of one that is up and that
        another version stored nothing is granted, and what was is taken back with its end only."""
        if grant is not None:
            outside.check(grant)
        greeting = await self.greeting()
        if grant is None and slice_ in self.store.unreadable():
            with self.store.transaction():
                self.store.grant(slice_, None)
                self.store.note(slice_, _who(), "revoke outside")
            raise ViniError(
                f"Slice {slice_!r} is granted nothing any more, but another version of VINI stored what it is, so its "
                f"slivers keep their way out until it is another: `vini down -s {slice_}`, or bring it up anew."
            )
        what = "grant outside" if grant else "revoke outside"
        with self.store.transaction():
            self.store.grant(slice_, grant)
            stored = self.store.find(slice_)
            if stored is None or not any(s.outside for s in stored.topology.slivers.values()):
                self.store.note(slice_, _who(), what)
                return
            spec = self._embed(stored.topology, greeting, stored.generation + 1)
            self.store.put(stored.topology, spec, _who(), what)
        await self._accept(spec)

    async def who(self, question: bus.AskFlows) -> dict[str, bus.Flows]:
        """From the files of this machine, whether or not an agent runs."""
        _need_root()
        return {"this machine": await asyncio.to_thread(ask.who, directory(self.place.state), question)}

    async def used(self, asked: UsageAsked) -> list[UsageRow]:
        """As the agent's book has it, which also has what a central asked for."""
        wish = wanted(asked, int(time.time()) // DAY_S)
        question, rows = bus.AskUsage(wish.first), list[SliceUse]()
        while True:
            reply = await self._ask(question)
            assert isinstance(reply, bus.Usage)
            rows += reply.rows
            if not reply.more or not reply.rows:
                return sums(rows, wish, (await self.greeting()).node)
            question = bus.AskUsage(rows[-1].day, rows[-1].slice)

    async def down(self, slice_: str, progress: OnProgress = None) -> bus.Report:
        """Ask for the empty desired state; also of a slice that only another version can read."""
        try:
            self.store.get(slice_)
        except ViniError:
            if slice_ not in self.store.unreadable():
                raise
        return await self.put(Topology(slice_), "down", progress)

    async def foresee(self, topology: Topology) -> tuple[str, ...]:
        """What `put` would change, step by step; nothing is touched."""
        topology = self._lived_on(topology)
        if any(s.outside for s in topology.slivers.values()):
            outside.refuse(topology, self._before(topology.name), self.store.granted(topology.name))
        greeting = await self.greeting()
        try:
            spec = self._embed(topology, greeting, 1)
        except Unsupported:
            spec = self._embed(topology, await by_now(greeting), 1)
        reply = await self._ask(bus.Foresee(spec))
        assert isinstance(reply, bus.Lines)
        return reply.lines

    # --- observed states ----------------------------------------------------------------------

    def topologies(self) -> dict[str, Topology]:
        """All slices of this machine that are asked for."""
        return {s.name: s.topology for s in self.store.slices()}

    def asked(self, slice_: str) -> Topology:
        """The desired state of a slice as it is now, with all changes since its file."""
        return self.store.get(slice_).topology

    async def topology(self, slice_: str) -> Topology:
        """The same: the store is this thread's, and quick."""
        return self.asked(slice_)

    def unreadable(self) -> list[str]:
        """The names of slices that another version stored so that this one can't read them."""
        return self.store.unreadable()

    def events(self, slice_: str, limit: int = 50) -> list[Event]:
        """What was asked of a slice; the newest first."""
        return [Event(*row) for row in self.store.events(slice_, limit)]

    def check_events(self, once: Head | None = None) -> Verdict:
        """Of this machine, all slices together."""
        return self.store.check_events(once)

    def backends(self, slice_: str) -> dict[str, str]:
        """`sliver:vif` -> who shapes what leaves by it; without those that nobody does."""
        shapes = (o for o in self.store.get(slice_).spec.objects if isinstance(o, Shape))
        return {f"{o.ns.partition('.')[2]}:{o.dev}": o.backend for o in shapes}

    def _where_logs_are(self, slice_: str) -> str:
        return f"; what the daemons say is in {self.place.sliver(slice_)}.SLIVER/*.log"

    async def status(self, slice_: str) -> list[SliverStatus]:
        """One row per sliver, by a fresh look."""
        self.store.get(slice_)
        await self.greeting()  # else a state that never reached the agent would be told of as ready
        reply = await self._ask(bus.AskStatus(slice_))
        assert isinstance(reply, bus.Report)
        return list(reply.slivers)

    async def failing(self) -> tuple[str, ...]:
        """As of when the agent was first asked."""
        return (await self.greeting()).failing

    async def fib_entries(self, slice_: str) -> dict[str, tuple[FibEntry, ...]]:
        """Sliver -> its main forwarding table, both IP versions."""
        reply = await self._ask(bus.AskFibs(slice_))
        assert isinstance(reply, bus.Fibs)
        return reply.tables

    async def loads(self, slice_: str) -> dict[str, bus.SliverLoad]:
        """Sliver -> what it does to this machine."""
        await self.greeting()
        reply = await self._ask(bus.AskLoads(slice_))
        assert isinstance(reply, bus.Loads)
        return reply.slivers

    async def maps(self, slice_: str, sliver: str, names: Sequence[str] | None = None) -> bus.Maps:
        """What the maps of a sliver's program hold; these ones, or all.  Raises NotFound where it has none."""
        await self.greeting()
        reply = await self._ask(bus.AskMaps(f"{slice_}.{sliver}", None if names is None else tuple(names)))
        assert isinstance(reply, bus.Maps)
        return reply

    async def write_row(self, slice_: str, sliver: str, table: str, key: bytes, value: bytes | None) -> None:
        """Set a row of a map of a sliver's program, or with None take it out."""
        await self.greeting()
        await self._ask(bus.WriteRow(f"{slice_}.{sliver}", table, key, value))

    async def departures(self, slice_: str) -> dict[str, tuple[int, int]] | None:
        """ "sliver:vif" -> packets that left by a shaped vif so far, and how many of them more than 1 ms late.

        None where nobody counts that: the kernel's netem does not.
        """
        if any(isinstance(o, Shape) and o.backend == "netem" for o in self.store.get(slice_).spec.objects):
            return None
        return await asyncio.to_thread(self._departures, slice_)

    def _departures(self, slice_: str) -> dict[str, tuple[int, int]]:
        ours = self.place.netns(f"{slice_}.").name
        try:
            with Element(self.place.run) as running:
                ports = running.stats()
        except OSError:  # none runs, since no link needs it, or it is about to be started again
            return {}
        of_slice = {(ns.removeprefix(ours), dev): n for (ns, dev), n in ports.items() if ns.startswith(ours)}
        return {f"{sliver}:{dev}": (n["sent"], n["late"]) for (sliver, dev), n in of_slice.items()}

    async def check_links(
        self, topology: Topology, links: Sequence[Link], load: float = 0.0, for_s: float = 0.0
    ) -> Check:
        """Measure what these links give: lightly, in about two seconds; or for `for_s` seconds, at `load` (a share of
        the rate) and full.  It puts traffic on them.  Links that do nothing to packets are left out."""
        from vini import truth  # only those who measure pay for its start

        by = self.backends(topology.name)
        all_ = [
            replace(d, smooths=by.get(f"{d.source}:{d.vif}") == "netem")
            for d in truth.to_measure(truth.directions(topology, links))
        ]

        def where(sliver: str) -> Path:
            return self.place.netns(f"{topology.name}.{sliver}")

        bench = truth.Here(where, truth.ByElement(self.place.run, where))
        if not for_s:
            return await truth.check_lightly(all_, bench)
        return await truth.check_thoroughly(all_, bench, load, for_s, self._say)

    def capabilities(self) -> frozenset[str]:
        """What the node can do; known after the first request."""
        return self._greeting.capabilities if self._greeting else frozenset()

    # --- inside slivers -----------------------------------------------------------------------

    def enter(self, slice_: str, sliver: str, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` inside a sliver and its cgroup, so that the slice's end is its end too."""
        ns = f"{slice_}.{sliver}"
        command = enter(self.place, ns, environment.given(self.place, ns, argv))
        if not self.place.netns(ns).exists():  # the command will say so; nothing is made for it
            return command
        group = cgroup.of(self.place, ns, "exec")
        group.mkdir(parents=True, exist_ok=True)
        join = f'echo 0 > {shlex.quote(str(group / "cgroup.procs"))} && exec "$@"'
        return ["sh", "-c", join, "sh", *command]

    async def output(self, slice_: str, sliver: str, argv: Sequence[str]) -> tuple[int, str]:
        """Exit code and standard output of a command inside a sliver; `{run}` in its words stands for its directory."""
        ns = f"{slice_}.{sliver}"
        run = CONTAINED_RUN if is_contained(self.place, ns) else str(self.place.sockets(ns))
        return await output(self.enter(slice_, sliver, [word.replace("{run}", run) for word in argv]))

    def logs(
        self, slice_: str, sliver: str, lines: int, follow: bool, processes: Sequence[str] = (), boot: bool = False
    ) -> list[str]:
        """The command line that prints what the sliver's processes said last, and with `follow` what they say."""
        asked = bus.Logs(f"{slice_}.{sliver}", lines, follow, tuple(processes), boot)
        return list(reads_logs(self.place)(asked).argv)

    async def ssh(self, slice_: str) -> list[SshPlace]:
        """How to log in to its slivers: with this user's own keys, and with one that VINI has for the purpose."""
        topology = self.store.get(slice_).topology
        await self.greeting()
        reply = await self._ask(bus.Authorize(self._admissions()))
        if not isinstance(reply, bus.Ssh) or not reply.port:
            raise ViniError(f"Slice {slice_!r} is not there at the moment; `vini status` says why.")
        alias = f"{self.place.mark}.this-machine"
        return [
            SshPlace(name, f"{slice_}.{name}", "this machine", "127.0.0.1", reply.port, reply.host_key, alias)
            for name in topology.slivers
            if self.place.netns(f"{slice_}.{name}").exists()
        ]

    def ssh_identity(self) -> str:
        """A key pair of this place; only root can read it."""
        return str(ssh_keys.own(authorized.directory(self.place.state)))

    def grants(self, slice_: str) -> tuple[str, ...]:
        """As root of this machine said."""
        return policy.read(self.place.state).get(slice_, ())

    def grant(self, slice_: str, words: Sequence[str]) -> None:
        """In force at once."""
        _need_root()
        self.store.get(slice_)
        made = tuple(map(str, grants.parsed(" ".join(words))))
        with self.store.transaction():
            self.store.note(slice_, _who(), f"grant {' '.join(made) or 'nothing'}")
            policy.write(self.place.state, {**policy.read(self.place.state), slice_: made})

    def _admissions(self) -> dict[str, bus.Admission]:
        """To all slices of this machine; those who came in before by keys of their own still may."""
        who, before = _who(), authorized.read(self.place.state, "here")
        own = Path(self.ssh_identity() + ".pub").read_text()
        mine = [bus.AuthorizedKey(key, who) for key in ssh_keys.of_user(own)]
        out = {}
        for name, topology in self.topologies().items():
            others = [k for k in before.get(name, bus.Admission()).keys if k.person != who]
            out[name] = bus.Admission((*mine, *others), hosts(topology))
        return out

    # --- the agent ----------------------------------------------------------------------------

    async def greeting(self) -> bus.Greeting:
        """Who the agent is.  Started, or replaced by one of our version, if need be; told what it missed."""
        if self._greeting is None:
            _need_root()
            self._greeting = await self._agent.greeting()
            await self._resend(self._greeting)
        return self._greeting

    async def _resend(self, greeting: bus.Greeting) -> None:
        """What was stored but never reached the agent: whoever wrote it was killed in between."""
        have = greeting.generations | greeting.ended
        for stored in self.store._all():
            newer = stored.generation > have.get(stored.name, greeting.forgotten)
            if newer and (stored.topology.slivers or stored.name in have):
                await self._accept(stored.spec)

    async def _ask(self, request: bus.Request, progress: OnProgress = None) -> bus.Reply:
        _need_root()
        return await self._agent.ask(request, progress)


def _need_root() -> None:
    if os.geteuid() != 0:
        raise Denied("VINI makes network namespaces, which only root may; run this with sudo.")


def _who() -> str:
    return os.environ.get("SUDO_USER") or getpass.getuser()
