"""Slices that are up for as long as a test needs them, and real pings between their slivers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from itertools import permutations

from vini import bus
from vini.client import Client
from vini.model import NotFound, Topology
from vini.reach import families

_AT_ONCE = 32


@asynccontextmanager
async def up(client: Client, topology: Topology, timeout_s: float = 180.0) -> AsyncIterator[tuple[Client, bus.Report]]:
    """The slice, ready and converged; down at the end, also where it never came up."""
    try:
        yield client, await client.up(topology, timeout_s=timeout_s)
    finally:
        with suppress(NotFound):
            await client.down(topology.name)


async def ping(client: Client, topology: Topology, a: str, b: str, family: int = 4) -> bool:
    """Whether one of an echo request a second, from address to address of the two slivers, is answered within 10 s."""
    source, destination = (client.address(topology, n, family) for n in (a, b))
    argv = ["ping", f"-{family}", "-nq", "-c1", "-w10", "-I", source, destination]
    return await status(client, topology, a, argv) == 0


async def status(client: Client, topology: Topology, sliver: str, argv: list[str]) -> int:
    """A program's exit status."""
    command = client.enter(topology.name, sliver, argv)
    quiet = asyncio.subprocess.DEVNULL
    return await (await asyncio.create_subprocess_exec(*command, stdout=quiet, stderr=quiet)).wait()


async def unanswered(client: Client, topology: Topology, sources: Iterable[str] = ()) -> list[tuple[str, str, int]]:
    """Who does not answer whom, in every IP version that the slice routes; asked are all, by all or by `sources`."""
    all_ = permutations(topology.slivers, 2)
    pairs = [(a, b, f) for a, b in all_ if not sources or a in sources for f in families(topology)]
    pairs = [p for p in pairs if all(_has(client, topology, n, p[2]) for n in p[:2])]
    assert pairs, "nobody to ping"
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(a: str, b: str, family: int) -> bool:
        async with gate:
            return await ping(client, topology, a, b, family)

    answered = await asyncio.gather(*(one(*p) for p in pairs))
    return [p for p, good in zip(pairs, answered, strict=True) if not good]


def _has(client: Client, topology: Topology, sliver: str, family: int) -> bool:
    with suppress(NotFound):
        return bool(client.address(topology, sliver, family))
    return False
