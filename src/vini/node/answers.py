"""What an agent answers to a request, whichever way it came: over the socket of this machine, or from the central."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from msgspec.structs import replace

from vini import bus
from vini.boot import boot
from vini.bus.streams import Channel
from vini.model import Denied, NotFound, Unsupported, ViniError, is_sliver
from vini.node import rtt, running
from vini.node.agent import Agent
from vini.node.files.service import ConfFileService
from vini.node.ledgers import Asker
from vini.node.machine import Progress
from vini.node.ssh.service import SshService
from vini.node.usage.meter import Meter, Metered
from vini.rules.interfaces import NodeInterface

log = logging.getLogger("vini.agent")


class Answers:
    """One agent's.  The central is answered about its own slices only; root on this machine about all."""

    def __init__(
        self, agent: Agent, greeting: bus.Greeting, prepare: running.Prepare, stop: asyncio.Event,
        clock: Callable[[], float] = time.time, wireguard: Callable[[], str] = lambda: "",
        ssh: SshService | None = None, logs: Callable[[bus.Logs], running.Prepared] | None = None,
        measure: Callable[[str, Mapping[str, str]], dict[str, float | None]] = rtt.measure,
        who: Callable[[bus.AskFlows, Callable[[str], bool]], bus.Flows] = lambda *_: bus.Flows(()),
        measures: Callable[[bus.Measure], running.Prepared] | None = None,
        uplink_mbit: Callable[[], float] = lambda: 0.0,
        meter: Meter | None = None,
        interfaces: Callable[[], tuple[NodeInterface, ...]] = lambda: (),
        files: ConfFileService | None = None,
    ):  # fmt: skip
        self._agent, self._greeting, self._prepare, self._stop, self._clock = agent, greeting, prepare, stop, clock
        self._wireguard = wireguard  # the public key of this node's encrypted tunnels, for its central
        self._ssh, self._read_logs, self._measure, self._who, self._measures = ssh, logs, measure, who, measures
        self._meter, self._files = meter, files
        self._uplink_mbit = uplink_mbit  # what slivers may send together
        self.interfaces = interfaces  # of the machine itself
        self.told_interfaces: tuple[NodeInterface, ...] | None = None  # to the central last; None: nothing yet
        self.node = greeting.node  # the name by which the machine joined; else "local"
        self.uplink = ""  # whether it is connected to its central, and if not why
        self.failing: Callable[[], tuple[str, ...]] = lambda: ()  # a sentence of each part of the agent that failed
        self.ailing: Callable[[], tuple[str, ...]] = lambda: ()  # the same for the central: `Parts.ailing`

    @property
    def ending(self) -> bool:
        """Told to end: whoever asks now is to ask the next agent."""
        return self._stop.is_set()

    def greeting(self, asker: Asker) -> bus.Greeting:
        """Who we are, and what we hold of what this asker asked for."""
        ended = self._agent.wanted.ended(asker)
        if asker == "central":
            self.told_interfaces = self.interfaces()
        return replace(
            self._greeting,
            node=self.node,
            generations=self._agent.wanted.generations(asker),
            ended=ended.generations,
            forgotten=ended.forgotten,
            expired=self._agent.wanted.expired(asker),
            uplink=self.uplink,
            failing=self.failing() if asker == "here" else self.ailing(),
            wireguard=self._wireguard() if asker == "central" else "",
            rate_mbit=self._uplink_mbit(),
            interfaces=(self.told_interfaces or ()) if asker == "central" else (),
            conf_files=self._files.version() if self._files and asker == "central" else "",
        )

    async def to(self, request: bus.Request, asker: Asker, progress: Progress) -> bus.Reply:
        """The final reply; where the request can't be met, a Refusal."""
        try:
            self._may(request, asker)
            return await self._answer(request, asker, progress)
        except ViniError as e:
            return bus.refusal(e)
        except Exception as e:  # the request boundary; whoever asked gets a sentence, the log the traceback
            log.exception("%s failed", type(request).__name__)
            return bus.Refusal("ViniError", f"The agent failed at this: {e!r}; its log says where.")

    async def run(self, command: bus.Stream, asker: Asker, channel: Channel) -> None:
        """Run a command in a sliver, until it has exited or its asker has gone."""
        try:
            self._may(command, asker)
            if isinstance(command, bus.SshThrough):
                await self._through(command, channel)
            elif isinstance(command, bus.Logs):
                await running.run(bus.Run(command.ns, ()), channel, lambda _: self._logs(command))
            elif isinstance(command, bus.Measure):
                prepared = await asyncio.to_thread(self._measuring, command)
                await running.run(bus.Run(command.ns, ()), channel, lambda _: prepared)
            else:
                await running.run(command, channel, self._prepare)
        except ConnectionError:
            pass
        except ViniError as e:
            await channel.send(bus.refusal(e))
        except Exception as e:  # the request boundary
            log.exception("a command failed")
            await channel.send(bus.Refusal("ViniError", f"The agent failed at this: {e!r}; its log says where."))

    def _may(self, request: bus.Request, asker: Asker) -> None:
        if asker == "here":
            return
        match request:
            case bus.Stop():
                raise Denied("Only root on the machine itself ends its agent: `vini agent stop` there.")
            case bus.AskStatus(slice_) | bus.AskFibs(slice_) | bus.AskLoads(slice_) | bus.AskActs(slice_):
                pass
            case (
                bus.AskMaps(ns=ns)
                | bus.WriteRow(ns=ns)
                | bus.Run(ns=ns)
                | bus.Logs(ns=ns)
                | bus.SshThrough(ns=ns)
                | bus.Measure(ns=ns)
            ):
                slice_ = ns.partition(".")[0]
                if not is_sliver(ns):  # the keys of this node's tunnels are there
                    raise NotFound(f"There is no sliver {ns.partition('.')[2]!r}.")
                if not self._agent.wanted.holds(slice_, asker):
                    raise NotFound(f"Node {self.node} holds nothing of slice {slice_!r} now; `vini status` says why.")
            case _:
                pass

    async def _answer(self, request: bus.Request, asker: Asker, progress: Progress) -> bus.Reply:
        agent = self._agent
        match request:
            case bus.Hello():
                return self.greeting(asker)
            case bus.Accept(spec):
                return await agent.accept(spec, progress, asker)
            case bus.Foresee(spec):
                return await agent.foresee(spec)
            case bus.AskStatus(slice_):
                return await agent.status(slice_, asker)
            case bus.AskFibs(slice_):
                return await agent.fibs(slice_, asker)
            case bus.AskLoads(slice_):
                return await agent.loads(slice_, asker)
            case bus.AskActs(slice_, after, linked):
                return await agent.acts(slice_, after, asker, linked)
            case bus.AskFlows():
                return await asyncio.to_thread(self._who, request, lambda slice_: agent.wanted.may_see(slice_, asker))
            case bus.AskUsage():
                return await asyncio.to_thread(self._used, request, asker, agent.metered())
            case bus.AskMaps(ns, names):
                return await agent.maps(ns, names)
            case bus.WriteRow(ns, map_, key, value):
                return await agent.write_row(ns, map_, key, value)
            case bus.AskRtts(local, peers):
                return bus.Rtts(await asyncio.to_thread(self._measure, local, peers))
            case bus.Authorize() | bus.AskSsh() | bus.AskLogins():
                return await asyncio.to_thread(self._admit, request, asker)
            case bus.AskClock():
                received = self._clock()
                changes, logins = (
                    self._files.changes if self._files else 0,
                    self._ssh.newest_login() if self._ssh else 0,
                )
                return bus.Clock(received, self._clock(), self.ailing(), changes, logins, boot())
            case bus.Configure() | bus.AskConfFiles():
                return await self._configured(request, asker)
            case bus.Stop(pid):
                if pid not in (0, self._greeting.pid):
                    return bus.Lines((f"Process {pid} is not the agent any more.",))
                self._stop.set()
                return bus.Lines(("The agent ends; slices run on.",))
            case bus.Run() | bus.Logs() | bus.SshThrough() | bus.Measure():
                raise AssertionError("a command is a stream: see `run`")

    async def _configured(self, request: bus.Configure | bus.AskConfFiles, asker: Asker) -> bus.ConfFiles:
        if self._files is None:
            raise Unsupported(f"Node {self.node} writes no conf files.")
        if isinstance(request, bus.AskConfFiles):
            return self._files.there()
        if asker == "here":
            raise Denied("Only the central that this machine has joined asks for conf files here.")
        return await self._files.configure(request)

    def _used(self, asked: bus.AskUsage, asker: Asker, slivers: Mapping[str, Metered]) -> bus.Usage:
        """As it is now; of the central's question only the first part waits for a look."""
        if self._meter is None:
            raise Unsupported(f"Node {self.node} does not count what slivers use.")
        if not asked.after:
            self._meter.look(slivers)
        return self._meter.told(asked, None if asker == "here" else self._agent.wanted.whose(asker))

    def _logs(self, asked: bus.Logs) -> running.Prepared:
        if self._read_logs is None:
            raise Unsupported(f"Node {self.node} keeps no logs.")
        return self._read_logs(asked)

    async def _through(self, asked: bus.SshThrough, channel: Channel) -> None:
        if self._ssh is None:
            raise Unsupported(f"Node {self.node} has no SSH server.")
        await self._ssh.through(asked.ns, channel)

    def _measuring(self, asked: bus.Measure) -> running.Prepared:
        if self._measures is None:
            raise Unsupported(f"Node {self.node} measures no links.")
        return self._measures(asked)

    def _admit(self, request: bus.Authorize | bus.AskSsh | bus.AskLogins, asker: Asker) -> bus.Ssh | bus.Logins:
        if self._ssh is None:
            raise Unsupported(f"Node {self.node} has no SSH server.")
        if isinstance(request, bus.AskLogins):
            return bus.Logins(self._ssh.logins(request.after))
        return self._ssh.authorize(request.slices, asker) if isinstance(request, bus.Authorize) else self._ssh.look()
