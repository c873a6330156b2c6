"""Whether the nodes have taken a change, and what they said of it."""

from __future__ import annotations

import asyncio
import time

import msgspec

from vini import bus
from vini.bus import Bus
from vini.model import Netns, SliceSpec, SliverStatus, Value, is_sliver
from vini.store import specs
from vini.store.database import Database

_POLL_S = 0.02  # between looks whether the nodes have taken a change


class Change(Value, frozen=True):
    """A desired state that is stored: its generation, and the nodes that hold some of it or are to give it up."""

    generation: int
    nodes: frozenset[str]
    written: frozenset[str]  # those for which that is another than it was


class Uptake:
    """Of the changes of one testbed."""

    def __init__(self, database: Database, talk: Bus):
        self._database, self._bus = database, talk

    async def taken(self, name: str, change: Change, deadline: float, later: bool) -> None:
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

    def last_heard(self, name: str) -> tuple[SliverStatus, ...]:
        """What the nodes reported of the newest change; of a node that did not yet, that."""
        with self._database.reading() as tx:
            answers = specs.answers(tx, name)
        rows: list[SliverStatus] = []
        for answer in answers:
            report = _reported(answer.report)
            if answer.is_of_newest and report:
                rows += report.slivers
            else:
                rows += waiting(answer.spec, self._why_waiting(answer.node, report))
        return tuple(rows)

    def _why_waiting(self, node: str, report: bus.Report | None) -> str:
        if node not in self._bus.connected():
            return f"node {node} is not connected"
        refused = report.refused if report else ""
        return f"node {node} refuses: {refused}" if refused else f"node {node} has not taken it yet"


def _reported(body: bytes) -> bus.Report | None:
    """None where the node said nothing, or what another version wrote down."""
    try:
        return msgspec.json.decode(body, type=bus.Report) if body else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def waiting(spec: SliceSpec, why: str) -> list[SliverStatus]:
    """The slivers of a node from which nothing newer is known."""
    return [SliverStatus(o.ns, "configuring", why) for o in spec.objects if isinstance(o, Netns) and is_sliver(o.ns)]
