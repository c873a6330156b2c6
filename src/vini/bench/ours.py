"""VINI itself under measurement: an agent of its own place, and slices that go up and down through the whole path."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from msgspec import structs

from vini import bus
from vini.bench import interrupts
from vini.bench.finished import wait_finished
from vini.client import Client
from vini.formats import generate
from vini.model import Routing, Topology, Value, ViniError
from vini.node import cgroup
from vini.node.place import Place

PLACE = Place("vbench", Path("/run/vbench"), Path("/var/lib/vbench"))
SLICE = "bench"


class Lap(Value, frozen=True):
    """Seconds of one slice: `up` returned, `down` returned, and the kernel had finished after `down` was asked for."""

    up_s: float
    down_s: float
    gone_s: float


@contextmanager
def alone() -> Iterator[None]:
    """Only one benchmark runs on a machine; a second one is refused."""
    with Path("/run/vbench.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise ViniError("Another benchmark runs on this machine; wait until it has ended.") from e
        yield
    Path("/run/vbench.lock").unlink(missing_ok=True)


@asynccontextmanager
async def agent(place: Place = PLACE) -> AsyncIterator[Client]:
    """A client whose agent runs, with nothing up; afterwards nothing of that place is left.

    Slices that an earlier benchmark left when it was killed are taken down first.
    """
    client = Client(place)
    with interrupts.tidily() as listen_no_more:
        try:
            await client.greeting()
            await _end_slices(client)
            wait_finished(place.mark)
            yield client
        finally:
            listen_no_more()
            await _end_slices(client)
            greeting = await client.greeting()
            await bus.Line(place.run / "agent.socket").ask(bus.Stop())
            while Path(f"/proc/{greeting.pid}").exists() and not _is_zombie(greeting.pid):
                time.sleep(0.01)
            for directory in (place.run, place.state):
                shutil.rmtree(directory, ignore_errors=True)
            cgroup.delete(cgroup.of(place))


async def _end_slices(client: Client) -> None:
    for name in client.topologies():
        await client.down(name)


def _is_zombie(pid: int) -> bool:
    """Ended; we started it, but nobody waits for it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def routers(spec: str, routing: Routing | None = None) -> Topology:
    """A generated topology of routers, `line:100`; without `routing` they forward and run no daemon."""
    made = generate(spec, routing=routing)
    slivers = {n: structs.replace(s, forward=True) for n, s in made.slivers.items()}
    return structs.replace(made, name=SLICE, slivers=slivers)


async def put(client: Client, topology: Topology) -> float:
    """Seconds until a desired state is applied.  Raises ViniError where a sliver failed."""
    started = time.perf_counter()
    report = await client.put(topology, "bench")
    seconds = time.perf_counter() - started
    if bad := [r for r in report.slivers if r.state == "failed"]:
        raise ViniError(f"{len(bad)} slivers failed, e.g. {bad[0].sliver}: {bad[0].why}")
    return seconds


async def lap(client: Client, topology: Topology) -> Lap:
    """Once up and down; the machine is as before when it returns."""
    up_s = await put(client, topology)
    started = time.perf_counter()
    await client.down(topology.name)
    down_s = time.perf_counter() - started
    wait_finished(client.place.mark)
    return Lap(up_s, down_s, time.perf_counter() - started)
