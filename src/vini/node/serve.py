"""The agent as a program: `python -m vini.node.serve`.  It answers on a socket that only root may open."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from vini import bus
from vini.model import ViniError
from vini.node import cgroup, interfaces, probe, wireguard_key
from vini.node.agent import Agent
from vini.node.answers import Answers
from vini.node.arrivals import Arrivals
from vini.node.broker.service import Broker
from vini.node.carried import Carried
from vini.node.container import wires
from vini.node.drivers import Driver
from vini.node.drivers.container import ContainerDriver
from vini.node.drivers.contents import FileDriver, RootDriver
from vini.node.drivers.disk import DiskDriver
from vini.node.drivers.halt import HaltDriver
from vini.node.drivers.network import NetworkDriver
from vini.node.drivers.outside import OutsideDriver
from vini.node.drivers.process import ProcessDriver
from vini.node.drivers.program import ProgramDriver
from vini.node.drivers.shape import ShapeDriver
from vini.node.drivers.share import ShareDriver
from vini.node.drivers.volume import VolumeDriver
from vini.node.drivers.vxlan_xdp import VxlanXdpDriver
from vini.node.drivers.wireguard import WireguardDriver
from vini.node.files.service import ConfFileService
from vini.node.flows import ask
from vini.node.flows.book import directory
from vini.node.flows.service import FlowsService
from vini.node.ledgers import Ledgers
from vini.node.lock import is_named, locked
from vini.node.machine import Machine
from vini.node.measuring import measures
from vini.node.parts import Parts
from vini.node.paths import Paths
from vini.node.pins import Pins
from vini.node.place import Place, from_environment
from vini.node.programs import Programs
from vini.node.running import in_sliver, reads_logs
from vini.node.shares import settings
from vini.node.ssh.service import SshService
from vini.node.trace import Traces
from vini.node.uplink import Uplink
from vini.node.usage.meter import Meter
from vini.node.version import digest
from vini.node.widths import Widths

log = logging.getLogger("vini.agent")
_LOOK_S = 1.0  # between looks whether the socket is still ours
_LAST_STEPS_S = 20.0  # what an agent that has been told to end may need for it


def build(place: Place, meter: Meter | None = None) -> Agent:
    """An agent over the real drivers."""
    processes, ledgers = ProcessDriver(place), Ledgers.below(place.state)
    containers = ContainerDriver(place, lambda ns: wires.wanted(ledgers.wanted(), ns))
    drivers: list[Driver] = [
        NetworkDriver(place), WireguardDriver(place), VxlanXdpDriver(place), ShareDriver(place), OutsideDriver(place),
        ShapeDriver(place), FileDriver(place), ProgramDriver(place), DiskDriver(place), VolumeDriver(place),
        RootDriver(place), containers, processes, HaltDriver(place),
    ]  # fmt: skip
    traces = Traces(place, processes)
    paths = Paths(place.state / "paths.json", ears=Arrivals(Carried(place).packets))
    widths = Widths(place.state / "widths.json", paths.changed, silent=lambda: paths.failed)
    return Agent(Machine(drivers), ledgers, traces, Programs(place), paths, meter, widths)


async def serve(place: Place) -> None:
    """Answer requests and keep watch until told to stop."""
    Pins(place).adopt()
    meter = Meter(place)
    agent = build(place, meter)
    greeting = bus.Greeting(digest(), os.getpid(), "local", probe.capabilities(), {})
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    path = place.run / "agent.socket"
    path.unlink(missing_ok=True)
    mask = os.umask(0o177)  # from its first moment, the socket is for root only
    ssh, files = SshService(place), ConfFileService(place, lambda: agent.wanted.owner)
    answers = Answers(
        agent, greeting, in_sliver(place), stop,
        wireguard=lambda: _public_key(place, greeting), ssh=ssh, logs=reads_logs(place),
        who=lambda asked, may: ask.who(directory(place.state), asked, may), measures=measures(place),
        uplink_mbit=lambda: settings.read(place.state).rate_mbit, meter=meter,
        interfaces=interfaces.own, files=files,
    )  # fmt: skip
    server = await asyncio.start_unix_server(lambda r, w: _converse(answers, r, w), path)
    os.umask(mask)
    log.info("agent %s listens on %s; capabilities: %s", os.getpid(), path, ", ".join(sorted(greeting.capabilities)))
    watch = asyncio.create_task(agent.run())
    parts = Parts({
        "The connection to the central": Uplink(agent, answers, place.state).run,
        "The SSH server's care": ssh.run,
        "The flow recorder's care": FlowsService(place).run,
        "The keeping of conf files": files.run,
        "The account of what slivers use": lambda: meter.run(agent.metered),
        "The broker of slivers": Broker(place, agent, lambda: answers.node).run,
        "The look how long packets to other nodes may be": lambda: agent.widths.run(agent.wanted.longest),
    })  # fmt: skip
    answers.failing = lambda: parts.failing() + agent.widths.told()
    answers.ailing = lambda: parts.ailing() + agent.widths.told()
    services = asyncio.create_task(parts.run())
    ends = [asyncio.create_task(stop.wait()), asyncio.create_task(_displaced(path))]
    await asyncio.wait([watch, *ends], return_when=asyncio.FIRST_COMPLETED)
    server.close()
    watch.cancel()
    services.cancel()
    await asyncio.gather(watch, services, return_exceptions=True)  # our last steps are done all the same
    agent.close()  # while we still hold the lock: no other agent may start before our last step is done
    if not watch.cancelled():
        watch.result()  # a watch that failed is the agent's failure, which whoever started it sees by its exit code


def _public_key(place: Place, greeting: bus.Greeting) -> str:
    """Of this node's encrypted tunnels; "" where it can have none."""
    if "wireguard" not in greeting.capabilities:
        return ""
    try:
        return wireguard_key.public(wireguard_key.private(place.state))
    except ViniError as e:
        log.warning("%s", e)
        return ""


async def _displaced(path: Path) -> None:
    """Returns when our socket is gone: nobody can reach us any more, and another agent may have taken over."""
    ours = _inode(path)
    while _inode(path) == ours:
        await asyncio.sleep(_LOOK_S)
    log.warning("%s is not ours any more; this agent ends, the next command starts another", path)


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0


async def _converse(answers: Answers, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    progress = _progress(writer)
    try:
        while (request := await bus.receive_request(reader)) is not None and not answers.ending:
            if isinstance(request, bus.Stream):
                await answers.run(request, "here", bus.LineChannel(reader, writer, bus.ToNode))
                break
            await bus.send(writer, await answers.to(request, "here", progress))
    except (ConnectionError, asyncio.CancelledError):  # they hung up, or we end
        pass
    finally:
        writer.close()


def _progress(writer: asyncio.StreamWriter) -> Callable[[int, int, str], None]:
    """From the worker thread: steps are reported without waiting for whoever listens."""
    loop = asyncio.get_running_loop()

    def tell(done: int, total: int, what: str) -> None:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(
                lambda: asyncio.ensure_future(_try(bus.send(writer, bus.Progress(done, total, what))))
            )

    return tell


async def _try(sending: Awaitable[None]) -> None:
    with suppress(ConnectionError):
        await sending


def main() -> None:
    """Run as the only agent of this place; a second one ends at once, quietly."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    place = from_environment()
    os.umask(0o022)  # whoever started us may have another
    place.run.mkdir(parents=True, exist_ok=True)
    place.state.mkdir(parents=True, exist_ok=True)
    place.state.chmod(0o700)  # topologies may hold the keys of routing protocols
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    lock = _lock(place)
    if lock is None:
        log.info("another agent runs here already")
        return
    with lock:
        Path("/proc/self/comm").write_text("vini-agent")
        asyncio.run(serve(place))
        _leave(place, lock)


def _lock(place: Place) -> IO[str] | None:
    """That of the only agent of a place; None where another one listens.  For one that is about to end we wait."""
    deadline = time.monotonic() + _LAST_STEPS_S
    while (lock := locked(place.run / "agent.lock")) is None:
        if _listens(place.run / "agent.socket") or time.monotonic() > deadline:
            return None
        time.sleep(0.02)
    return lock


def _listens(path: Path) -> bool:
    with suppress(OSError), socket.socket(socket.AF_UNIX) as s:
        s.connect(str(path))
        return True
    return False


def _leave(place: Place, lock: IO[str]) -> None:
    """Take away what only an agent needs, and what is empty: where no slice is up, that is all that we have here."""
    if not is_named(lock, place.run / "agent.lock"):  # then what is there is another agent's
        return
    (place.run / "agent.socket").unlink(missing_ok=True)
    for name in ("slivers", "netns", "mounts"):
        with suppress(OSError):
            (place.run / name).rmdir()
    with suppress(OSError, ViniError):
        cgroup.of(place).rmdir()
    (place.run / "agent.lock").unlink(missing_ok=True)  # the last step: from here on another agent may begin
    with suppress(OSError):
        place.run.rmdir()


if __name__ == "__main__":
    main()
