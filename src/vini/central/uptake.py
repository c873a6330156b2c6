"""Whether the nodes have taken a change, and what they said of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import msgspec

from vini import bus
from vini.bus import Bus
from vini.model import Netns, SliceSpec, SliverStatus, Value, is_sliver
from vini.store import specs
from vini.store.database import Database, Tx

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
        """Until all nodes of a change that are connected have taken it, or a newer one; or, where it is for `later`,
        know of it."""
        due = await asyncio.to_thread(self._due, name, change)
        while time.monotonic() < deadline:
            due = await asyncio.to_thread(self._left, name, due, later)
            if not due.keys() & self._bus.connected():
                return
            await asyncio.sleep(_POLL_S)

    def _due(self, name: str, change: Change) -> dict[str, int]:
        """Node -> the least generation that it is to report of: also one that was asked for before, and is not there
        yet."""
        with self._database.reading() as tx:
            before = {n: at.wanted for n, at in specs.behind(tx, name).items() if at.wanted < change.generation}
        return before | dict.fromkeys(change.written, change.generation)

    def _left(self, name: str, due: Mapping[str, int], later: bool) -> dict[str, int]:
        """What of that is due still."""
        with self._database.reading() as tx:
            behind = specs.behind(tx, name)
            left = {n: least for n, least in due.items() if n in behind and behind[n].has < least}
            overtaken = {n: least for n, least in left.items() if behind[n].wanted > least}
            if later:
                idle = _aware(tx, name, left)
            else:  # nodes pass over what was overtaken by what is for later
                idle = {n for n in _aware(tx, name, overtaken) if _is_for_later(specs.spec(tx, name, n))}
        return {n: least for n, least in left.items() if n not in idle}

    def last_heard(self, name: str) -> tuple[SliverStatus, ...]:
        """What the nodes reported of the newest change; of a node that did not yet, that."""
        with self._database.reading() as tx:
            answers = specs.answers(tx, name)
        rows: list[SliverStatus] = []
        for answer in answers:
            report = reported(answer.report)
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


def reported(body: bytes) -> bus.Report | None:
    """What a node said last, as it is stored; None where the node said nothing, or what another version wrote down."""
    try:
        return msgspec.json.decode(body, type=bus.Report) if body else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _aware(tx: Tx, name: str, due: Mapping[str, int]) -> set[str]:
    """Those that have told that they have it, or a newer one, on disk."""
    said = {n: reported(body) for n, (_, body, _) in specs.reports(tx, name).items() if n in due} if due else {}
    return {n for n, report in said.items() if report and report.accepted >= due[n]}


def _is_for_later(spec: SliceSpec | None) -> bool:
    return spec is not None and spec.not_before > 0


def waiting(spec: SliceSpec, why: str) -> list[SliverStatus]:
    """The slivers of a node from which nothing newer is known."""
    return [SliverStatus(o.ns, "configuring", why) for o in spec.objects if isinstance(o, Netns) and is_sliver(o.ns)]
