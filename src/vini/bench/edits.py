"""Edits of one link in a slice that carries traffic: how soon they are applied, and what they cost elsewhere."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from vini import edit
from vini.bench import ours
from vini.bench.finished import wait_finished
from vini.bench.result import Found, Missing, row
from vini.bench.stream import Count
from vini.client import Client
from vini.layout import layout
from vini.model import Topology, Unsupported, ViniError

Say = Callable[[str], None]
_RATE = 1000.0  # datagrams per second and link
_PAUSE_S = 0.05  # between two edits
_TARGET_MS = 50.0
Change = Callable[[Topology, bool], Topology]


def _delay(topology: Topology, there: bool) -> Topology:
    return edit.set_impairment(topology, "r1", "r2", delay_ms=20.0 if there else 10.0)


def _carrier(topology: Topology, there: bool) -> Topology:
    return edit.set_fault(topology, "r1", "r2", "carrier" if there else "none")


def _silent(topology: Topology, there: bool) -> Topology:
    return edit.set_fault(topology, "r1", "r2", "silent" if there else "none")


CHANGES: dict[str, Change] = {"delay": _delay, "carrier fault": _carrier, "silent fault": _silent}


async def edits(client: Client, count: int, times: int, say: Say) -> Found:
    """Each kind of edit `times` times on the first link of a line; streams on the next one and on the last."""
    topology = ours.routers(f"line:{count}")
    say(f"slice of {count}: up, for {times} edits of each kind")
    await ours.put(client, topology)
    out: Found = []
    for kind, change in CHANGES.items():
        say(f"slice of {count}: edits of one link ({kind})")
        name = f"slice of {count}: edit of one link ({kind})"
        try:
            out += await _edits(client, topology, name, change, times)
        except Unsupported as e:
            out.append(Missing(name, str(e)))
    await client.down(topology.name)
    wait_finished(client.place.mark)
    return out


async def _edits(client: Client, topology: Topology, name: str, change: Change, times: int) -> Found:
    laps_ms = []
    await ours.put(client, change(topology, False))
    with _streams(client, topology, [("r2", "r3"), tuple(topology.slivers)[-2:]]) as counts:
        for i in range(times):
            time.sleep(_PAUSE_S)
            laps_ms.append(1000 * await ours.put(client, change(topology, i % 2 == 0)))
    lost = sum(c.sent - c.received for c in counts)
    sent = sum(c.sent for c in counts)
    return [
        row(f"{name}: applied", laps_ms, "ms", _TARGET_MS, note=f"the slowest of {times}: {max(laps_ms):.0f} ms"),
        row(f"{name}: packets lost on other links", [lost], "packets", 0, note=f"of {sent}"),
    ]


@contextmanager
def _streams(client: Client, topology: Topology, links: list[tuple[str, ...]]) -> Iterator[list[Count]]:
    """Datagrams over those links until the block ends; what was counted is in the list afterwards."""
    counts: list[Count] = []
    argv = [sys.executable, "-m", "vini.bench.stream", str(_RATE)]
    vifs = {(v.sliver, v.peer): v for all_ in layout(topology).vifs.values() for v in all_}
    for a, b in links:
        address = vifs[b, a].addresses[0].partition("/")[0]
        argv.append(",".join([*(str(client.place.netns(f"{topology.name}.{s}")) for s in (a, b)), address]))
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None and child.stdout is not None
        if child.stdout.readline() != b"running\n":
            raise ViniError("The streams over other links did not start, so their losses can't be counted.")
        yield counts
        child.stdin.close()
        counts += msgspec.json.decode(child.stdout.read(), type=list[Count])
