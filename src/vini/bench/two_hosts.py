"""Two nodes under measurement: agents in network namespaces of their own, joined by a cable (a veth pair).

Each is a whole node with a place of its own, so a link from one to the other is a tunnel, as between machines.
There is no central: what it would send, the desired state of each node, is embedded here and given to the agents.

Where the machine has two processors each host has one for itself, as two machines do: what arrives at the second host
is taken in by a thread of the kernel's on another processor than that which sends.  Unlike two machines they have their
memory in common: each frame goes to the other processor and back; `on_one_processor()` leaves that out.  The cable
takes frames from XDP, as a network interface with native XDP does.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from vini import bus
from vini.bench.finished import wait_finished
from vini.embed import embed
from vini.model import Node, SliceSpec, Topology, Value, ViniError
from vini.node import cgroup, ethtool, netns, probe
from vini.node.netlink import Socket
from vini.node.place import Place
from vini.placement import crossing

CABLE = "vbcable"  # the name of both its ends, before and after they are plugged in
VNI = 0x7662  # of the first tunnel; the hosts' namespaces are their own, and so are their tunnels' numbers
_STARTS_WITHIN_S = 60.0
_ENDS_WITHIN_S = 30.0
_STILL = "still"  # in the place of a host whose agent stands still: its process


class Host(Value, frozen=True):
    """One of them: its place, its network namespace, and its address on the cable."""

    name: str
    place: Place
    network: Path
    address: str

    @property
    def line(self) -> bus.Line:
        """To its agent."""
        return bus.Line(self.place.run / "agent.socket", self.place.state / "agent.log")


HOSTS = tuple(
    Host(
        f"host{i}", Place(f"vbhost{i}", Path(f"/run/vbhost{i}"), Path(f"/var/lib/vbhost{i}")),
        Path(f"/run/netns/vbhost{i}"), f"10.201.0.{i}",
    )
    for i in (1, 2)
)  # fmt: skip


class TwoHosts:
    """Slices that lie on both."""

    def __init__(self) -> None:
        self._able = probe.capabilities()
        self._generation = int(time.time())  # above those of an earlier benchmark that was killed
        self._slices: set[str] = set()

    async def put(self, topology: Topology, placed: Mapping[str, str]) -> None:
        """As a central would have it; `placed` has each sliver's host.  Raises ViniError where a sliver failed."""
        self._generation += 1
        self._slices.add(topology.name)
        nodes = [Node(h.name, self._able, address=h.address) for h in HOSTS]
        vnis = {name: VNI + i for i, name in enumerate(crossing(topology, placed))}
        specs = embed(topology, nodes, self._generation, placed=placed, vnis=vnis)
        reports = await asyncio.gather(*(h.line.ask(bus.Accept(specs[h.name])) for h in HOSTS))
        for report in reports:
            assert isinstance(report, bus.Report)
            if bad := [r for r in report.slivers if r.state == "failed"]:
                raise ViniError(f"{len(bad)} slivers failed, e.g. {bad[0].sliver}: {bad[0].why}")

    async def down(self) -> None:
        """No slice is up any more."""
        for name in self._slices:
            self._generation += 1
            for h in HOSTS:
                await h.line.ask(bus.Accept(SliceSpec(name, h.name, self._generation)))
        self._slices.clear()


@asynccontextmanager
async def two_hosts() -> AsyncIterator[TwoHosts]:
    """Both run; afterwards nothing of them is left, nor of those of a benchmark that was killed."""
    for h in HOSTS:
        _go_on(h)
        if await _slices(h) is not None:
            await _end(h)
    with _joined():
        try:
            for h in HOSTS:
                await _start(h)
                await _end_slices(h)  # of an agent that was killed with its benchmark
            made = TwoHosts()
            try:
                yield made
            finally:
                await made.down()
        finally:
            for h in HOSTS:
                await _end(h)


@contextmanager
def _joined() -> Iterator[None]:
    """The two network namespaces, and the cable between them."""
    _unplug()
    one, other = HOSTS
    try:
        for h in HOSTS:
            _ip("netns", "add", h.network.name)
        end = ("type", "veth", "peer", "name", CABLE, "netns", other.network.name)
        _ip("link", "add", CABLE, "netns", one.network.name, *end)
        for h in HOSTS:
            for words in (f"address add {h.address}/24 dev {CABLE}", f"link set {CABLE} up", "link set lo up"):
                _ip("-n", h.network.name, *words.split())
        for h in HOSTS:  # both are up
            with netns.inside(h.network), Socket() as any_socket:
                ethtool.set_gro(any_socket.fileno(), CABLE, True)
        _take_in_on(other, max(os.sched_getaffinity(0)))
        yield
    finally:
        _unplug()


def _take_in_on(other: Host, processor: int) -> None:
    """What arrives at the other host, frames of XDP and socket buffers alike, is taken in there."""
    at = f"/sys/class/net/{CABLE}"
    script = f"echo 1 >{at}/threaded; echo {1 << processor:x} >{at}/queues/rx-0/rps_cpus"
    _ip("netns", "exec", other.network.name, "sh", "-c", script)
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "comm").read_text().startswith(f"napi/{CABLE}"[:15]):
                os.sched_setaffinity(int(process.name), {processor})


@contextmanager
def on_one_processor() -> Iterator[None]:
    """What arrives at the other host is taken in where it was sent, as long as the block runs."""
    other = HOSTS[1]
    at = f"/sys/class/net/{CABLE}"
    # Not by our own affinity: whoever sends alone has one processor only.
    argv = ["ip", "netns", "exec", other.network.name, "cat", f"{at}/queues/rx-0/rps_cpus"]
    mask = int(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.replace(",", ""), 16)
    _ip("netns", "exec", other.network.name, "sh", "-c", f"echo 0 >{at}/threaded; echo 0 >{at}/queues/rx-0/rps_cpus")
    try:
        yield
    finally:
        _take_in_on(other, mask.bit_length() - 1)


@contextmanager
def sending_alone() -> Iterator[None]:
    """This thread keeps to the first of our processors, that of the first host."""
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(ours)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)


def _unplug() -> None:
    for h in HOSTS:
        argv = ["ip", "netns", "delete", h.network.name]
        subprocess.run(argv, capture_output=True, check=False, start_new_session=True)  # out of a Ctrl-C's reach


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ViniError(f"`ip {' '.join(words)}` failed: {done.stderr.strip()}")


async def _start(h: Host) -> None:
    """Its agent, at home in its network; returns when it answers."""
    h.place.state.mkdir(parents=True, exist_ok=True)
    own = {"VINI_MARK": h.place.mark, "VINI_RUN": str(h.place.run), "VINI_STATE": str(h.place.state)}
    argv = ["nsenter", f"--net={h.network}", "--", sys.executable, "-m", "vini.node.serve"]
    with (h.place.state / "agent.log").open("ab") as log:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", env=os.environ | own,
            start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while True:
        try:
            await h.line.ask(bus.Hello())
            return
        except ViniError as e:
            if process.poll() is not None or time.monotonic() > deadline:
                raise ViniError(f"The agent of the benchmark's {h.name} does not start: {e}") from e
            await asyncio.sleep(0.02)


@contextmanager
def still(h: Host, agent: int) -> Iterator[None]:
    """Its agent does nothing as long as the block runs."""
    note = h.place.run / _STILL
    note.write_text(str(agent))
    os.kill(agent, signal.SIGSTOP)
    try:
        yield
    finally:
        _go_on(h)


def _go_on(h: Host) -> None:
    """Also after a benchmark that was killed."""
    note = h.place.run / _STILL
    with suppress(OSError, ValueError):
        agent = int(note.read_text())
        if f"VINI_MARK={h.place.mark}\0" in Path(f"/proc/{agent}/environ").read_text():
            os.kill(agent, signal.SIGCONT)
    note.unlink(missing_ok=True)


async def process_of(h: Host) -> int:
    """Its agent's process."""
    greeting = await h.line.ask(bus.Hello())
    assert isinstance(greeting, bus.Greeting)
    return greeting.pid


async def _slices(h: Host) -> Mapping[str, int] | None:
    """Those that it has, with their generations; None where no agent answers."""
    try:
        greeting = await h.line.ask(bus.Hello())
    except bus.AgentGone:
        return None
    assert isinstance(greeting, bus.Greeting)
    return greeting.generations


async def _end_slices(h: Host) -> None:
    for slice_, generation in (await _slices(h) or {}).items():
        await h.line.ask(bus.Accept(SliceSpec(slice_, h.name, generation + 1)))


async def _end(h: Host) -> None:
    """With all that it has; no error where it isn't there."""
    with suppress(bus.AgentGone):
        await _end_slices(h)
        await h.line.ask(bus.Stop())
        deadline = time.monotonic() + _ENDS_WITHIN_S
        while (h.place.run / "agent.lock").exists() and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        wait_finished(h.place.mark)
    for directory in (h.place.run, h.place.state):
        shutil.rmtree(directory, ignore_errors=True)
    with suppress(OSError, ViniError):
        cgroup.delete(cgroup.of(h.place))
