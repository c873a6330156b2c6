"""Events of a timeline on a testbed: sent ahead, so that all nodes act at the same moment, without a message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from vini.bus import Act, Report
from vini.client.times import Ahead as Clock
from vini.client.times import NodeClock
from vini.experiment.network import Network
from vini.model import NotFound, Topology, Value, ViniError

REHEARSALS = 3
MOST_S = 30.0  # ahead; what takes longer is late, and told of
MARGIN = 2.0  # times the worst delivery so far
LATE_MS = 10.0  # the ends of one link act within this of each other; more is told of
_LOOK_S = 0.2  # between looks whether all nodes have acted
_PATIENCE_S = 5.0  # for those that haven't


class Sent(Value, frozen=True):
    """An edit that nodes know of and will make at a moment."""

    generation: int
    at: float  # the moment, Unix time by this machine's clock
    topology: Topology  # from then on


class Acted(Value, frozen=True):
    """How an edit was made."""

    began: float  # Unix time by this machine's clock: on the first node; where links changed, when they had
    done: float  # on the last
    spread_ms: float  # between the first and the last of these, as far as their clocks are known
    late_ms: float  # of the latest, by its own clock
    outcome: str = ""  # what went wrong


class Ahead:
    """The edits of one run.  `lead_s` is how long before its moment the next one is to be sent."""

    def __init__(self, network: Network, slice_: str):
        self._network, self._slice = network, slice_
        self._floor_s = self.lead_s = network.lead_s
        self.pending = 0  # edits whose moment has not come

    async def rehearse(self, what: str) -> None:
        """Learn how long a change needs until all nodes know of it, from some that change nothing."""
        loop = asyncio.get_running_loop()
        for _ in range(REHEARSALS):
            began = loop.time()
            await self._network.edit(self._slice, lambda now: now, what)
            self._took(loop.time() - began)

    def _took(self, seconds: float) -> None:
        self.lead_s = min(MOST_S, max(self.lead_s, self._floor_s + MARGIN * seconds))

    async def send(self, change: Callable[[Topology], Topology], what: str, at: float) -> Sent:
        """Returns when all nodes know, or the moment has come."""
        wanted: list[Topology] = []

        def changed(now: Topology) -> Topology:
            wanted.append(change(now))
            return wanted[-1]

        loop = asyncio.get_running_loop()
        began = loop.time()
        self.pending += 1
        try:
            report = await self._network.edit(self._slice, changed, what, at)
        except BaseException:  # it is not made, also where its asker is cancelled; raised again
            self.pending -= 1
            raise
        self._took(loop.time() - began)
        return Sent(report.generation if isinstance(report, Report) else 0, at, wanted[-1])

    async def acted(
        self, sent: Sent, clocks: Mapping[str, NodeClock], unheard: Callable[[ViniError], None] = lambda _: None
    ) -> Acted:
        """What the nodes tell of it, once its moment is over.  A central that is away is waited for."""
        deadline = asyncio.get_running_loop().time() + _PATIENCE_S
        while True:
            try:
                told = await self._network.acts(self._slice, sent.generation - 1)
            except NotFound:
                raise
            except ViniError as e:
                unheard(e)
                await asyncio.sleep(_LOOK_S)
                deadline = asyncio.get_running_loop().time() + _PATIENCE_S
                continue
            first = {n: acts[0] for n, acts in told.items() if n in clocks and acts}
            missing = sorted(clocks.keys() - first)
            if not missing or asyncio.get_running_loop().time() > deadline:
                return judged(sent, first, {n: c.clock for n, c in clocks.items()}, missing)
            await asyncio.sleep(_LOOK_S)


def judged(sent: Sent, first: Mapping[str, Act], clocks: Mapping[str, Clock], missing: Sequence[str]) -> Acted:
    """How an edit was made, from what each node did first at its generation or a later one.  Pure."""
    began = {n: (act.linked or act.began) - clocks[n].ahead_s for n, act in first.items()}
    late = {n: max(0.0, ((act.linked or act.began) - act.due) * 1000) if act.due else 0.0 for n, act in first.items()}
    changed = [began[n] for n, act in first.items() if act.linked] or list(began.values())
    spread = (max(changed) - min(changed)) * 1000 if changed else 0.0
    wrong = [_wrong(n, act, late[n], (began[n] - sent.at) * 1000, clocks[n]) for n, act in first.items()]
    wrong += [f"was not made by node {n}, as far as it tells" for n in missing]
    done = max((act.done - clocks[n].ahead_s for n, act in first.items()), default=sent.at)
    told = "; ".join(w for w in wrong if w)
    return Acted(min(changed, default=sent.at), done, spread, max(late.values(), default=0.0), told)


def _wrong(node: str, act: Act, late_ms: float, off_ms: float, clock: Clock) -> str:
    """`late_ms`: after the moment by the node's own clock; `off_ms`: by this machine's, as that one is known now."""
    if act.failed:
        return f"failed on node {node}: {act.failed}"
    if not act.due:
        return ""
    if not act.waited:
        return f"reached node {node} {late_ms:.0f} ms too late"
    if late_ms > LATE_MS:
        return f"was made {late_ms:.0f} ms late by node {node}"
    if abs(off_ms) > LATE_MS + 2000 * clock.error_s:
        when = "after" if off_ms > 0 else "before"
        return f"was made {abs(off_ms):.0f} ms {when} its moment by node {node}, whose clock was taken for another one"
    return ""
