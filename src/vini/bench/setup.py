"""`vini bench setup`: how fast networks are made, changed and taken down.

Everything runs under the mark "vbench", with an agent, namespaces and directories of its own, so that
no slice of a user is touched, and nothing is left when it ends.
"""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from vini.bench import ours
from vini.bench.daemons import abilene, grid
from vini.bench.edits import edits
from vini.bench.lines import compare, long
from vini.bench.result import Found, Missing, Row
from vini.model import Value

Say = Callable[[str], None]


class Sizes(Value, frozen=True):
    """How much is measured."""

    line: int  # routers in the line that is compared with peers
    rounds: int  # repetitions of that comparison
    long_line: int  # routers in the line that is measured by itself
    abilene_rounds: int  # repetitions of Abilene, for each daemon; 0: left out
    grid: tuple[int, int]  # rows and columns of the grid of BIRD routers; 0: left out
    edited: int  # routers in the slice that is edited
    edits: int  # of each kind


FULL = Sizes(line=100, rounds=5, long_line=1000, abilene_rounds=3, grid=(10, 20), edited=200, edits=20)
QUICK = Sizes(line=50, rounds=2, long_line=200, abilene_rounds=0, grid=(0, 0), edited=50, edits=6)


def measure(quick: bool, say: Say, sizes: Sizes | None = None) -> dict[str, Any]:
    """All figures, as values that JSON knows: `machine`, `rows`, `missing`.

    A target that speaks of a size is judged at that size only, so not by `quick`.
    """
    chosen = sizes or (QUICK if quick else FULL)
    with ours.alone():
        return told(chosen, lambda: asyncio.run(_all(chosen, say)))


def told(sizes: Value, find: Callable[[], Found]) -> dict[str, Any]:
    """What a benchmark finds, with when, on which machine, and at which sizes."""
    started, load = time.time(), os.getloadavg()[0]
    found = find()
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 1),
        "machine": {
            "kernel": platform.release(),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
            "load_before": load,
            "load_after": os.getloadavg()[0],
        },
        "sizes": msgspec.to_builtins(sizes),
        "rows": [msgspec.structs.asdict(r) for r in found if isinstance(r, Row)],
        "missing": [msgspec.structs.asdict(r) for r in found if isinstance(r, Missing)],
    }


async def _all(sizes: Sizes, say: Say) -> Found:
    out: Found = []
    async with ours.agent() as client:
        out += await compare(client, sizes.line, sizes.rounds, say)
        out += await long(client, sizes.long_line, say)
        if sizes.abilene_rounds:
            out += await abilene(client, sizes.abilene_rounds, say)
        if all(sizes.grid):
            out += await grid(client, *sizes.grid, say)
        out += await edits(client, sizes.edited, sizes.edits, say)
    return out


def show(results: dict[str, Any]) -> None:
    """Print the figures as a table for people."""
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, show_header=True, header_style="")
    table.add_column("")
    table.add_column("VALUE", justify="right", no_wrap=True)
    table.add_column("TARGET", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("SPREAD, NOTE")
    for line in table_lines(results):
        table.add_row(*line)
    console.print(table)
    for missing in results["missing"]:
        console.print(f"{'FAILED' if missing['failed'] else 'Not measured'}: {missing['name']}: {missing['why']}.")
    if results.get("summary"):
        console.print(results["summary"])
    machine = results["machine"]
    console.print(
        f"Linux {machine['kernel']}, Python {machine['python']}, {machine['cores']} cores, "
        f"load {machine['load_before']:.1f} before and {machine['load_after']:.1f} after; {results['at']}, "
        f"{results['seconds']:.0f} s."
    )


def table_lines(results: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Name, value, target, verdict and note of each figure, as text."""
    out = []
    for r in results["rows"]:
        target = f"{'<=' if r['sense'] == 'at most' else '>='} {r['target']:g}" if r["target"] is not None else ""
        verdict = {True: "met", False: "MISSED", None: ""}[r["met"]]
        spread = f"{min(r['repetitions']):.3g} to {max(r['repetitions']):.3g}" if len(r["repetitions"]) > 1 else ""
        note = "; ".join(filter(None, [spread, r["note"]]))
        out.append((r["name"], f"{r['value']:.3g} {r['unit']}", target, verdict, note))
    return out
