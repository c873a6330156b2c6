"""`vini bench audit`: how fast flows are written down, what they take of the disk, and how soon the sender is found."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from vini.bench import setup
from vini.bench.result import Found, row
from vini.bus import AskFlows
from vini.model import Value
from vini.node.flows import ask, book
from vini.node.flows.book import ENDED, Book, Closing, Keep
from vini.node.flows.conntrack import Flow
from vini.node.outside.rules import RANGE

Say = Callable[[str], None]
_SLIVERS, _LOT, _LASTS_S = 200, 5000, 5.0
_NODE = int(IPv4Address("192.0.2.1"))
_COMMAND = """
import sys, time; from pathlib import Path; from vini.bus import AskFlows; from vini.node.flows import ask
began = time.perf_counter(); found = ask.who(Path(sys.argv[1]), AskFlows("192.0.2.1", *eval(sys.argv[2]))).flows
print(time.perf_counter() - began, len(found))
"""


class Sizes(Value, frozen=True):
    """How much is measured."""

    flows: int  # that are written down
    questions: int  # of each kind


FULL = Sizes(flows=10_000_000, questions=30)
QUICK = Sizes(flows=200_000, questions=10)


def measure(quick: bool, say: Say, sizes: Sizes | None = None) -> dict[str, Any]:
    """All figures, as `setup.measure` gives them."""
    chosen = sizes or (QUICK if quick else FULL)
    return setup.told(chosen, lambda: _all(chosen, say))


def _all(sizes: Sizes, say: Say) -> Found:
    with tempfile.TemporaryDirectory(prefix="vini-bench-flows-") as scratch:
        where = Path(scratch)
        say(f"writing {sizes.flows} flows down ...")
        began = time.perf_counter()
        _write(where, sizes.flows)
        took = time.perf_counter() - began
        size = sum(p.stat().st_size for p in where.iterdir())
        say("asking who sent some ...")
        return [
            row("flows written down, each twice (begun, ended)", [sizes.flows / took], "flows/s"),
            row("disk for each", [size / sizes.flows], "bytes"),
            row("files", [float(len(book.parts(where)))], ""),
            *_asked(where, sizes),
        ]


def _flow(i: int) -> Flow:
    """The i-th: of any sliver, to any of 60,000 places; one place in three is the same."""
    some = i * 2654435761 >> 7  # Knuth's multiplicative hash
    sport, dst = 1024 + some % 64_512, 0x08080808 if i % 3 == 0 else 0x05000000 + (some >> 11) % 60_000
    src = int(RANGE.network_address) + 1 + 2 * (i % _SLIVERS)
    return Flow(i, 6, src, sport, _NODE, sport, dst, 443, 10, 5000, 12, 90_000)


def _moment(i: int) -> float:
    return 1e9 + i / 100  # a hundred a second


def _write(where: Path, count: int) -> None:
    """As a recorder does: some thousand events, then a commit."""
    made = Book(where, Keep(megabytes=1 << 20), _moment(0))
    for first in range(0, count, _LOT):
        numbers = range(first, min(count, first + _LOT))
        flows = [(f"slice{i % _SLIVERS}.sliver", _moment(i), _flow(i)) for i in numbers]
        rows = made.begin(flows)
        closings = (
            Closing(r, at + _LASTS_S, ENDED, f) for r, (_, at, f) in zip(rows, flows, strict=True)
        )  # fmt: skip
        made.close(closings)
        made.commit(_moment(first))
    made.end(_moment(count))


def _asked(where: Path, sizes: Sizes) -> Found:
    some = [random.Random(1).randrange(sizes.flows) for _ in range(sizes.questions)]
    timed: list[float] = []
    untimed: list[float] = []
    for i in some:
        for times, at in ((timed, _moment(i) + 1), (untimed, 0.0)):
            began = time.perf_counter()
            found = ask.who(where, _question(i, at)).flows
            times.append(time.perf_counter() - began)
            if f"slice{i % _SLIVERS}" not in {f.slice for f in found}:
                raise AssertionError(f"flow {i} is not found")
    return [
        row("who sent it, with its time", timed, "s", 1.0, note="the slowest of them counts for a person"),
        row("the slowest of these", [max(timed)], "s", 1.0),
        row("who sent it, at whatever time", untimed, "s", 1.0),
        row("the slowest of these, too", [max(untimed)], "s", 1.0),
        row("the same in a new process", [_afresh(where, i) for i in some[:3]], "s", 1.0),
    ]


def _question(i: int, at: float) -> AskFlows:
    f = _flow(i)
    return AskFlows("192.0.2.1", f.nat_port, str(IPv4Address(f.dst)), f.dport, at)


def _afresh(where: Path, i: int) -> float:
    q = _question(i, _moment(i))
    words = repr((q.source_port, q.destination, q.destination_port, q.at))
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", _COMMAND, str(where), words], check=True, capture_output=True)
    return time.perf_counter() - began
