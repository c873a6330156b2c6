"""What others did to the slice of a run while it ran, gathered look by look."""

from __future__ import annotations

import time
from collections import Counter

from vini.experiment.statistics import Row
from vini.experiment.summary import EVENT_COLUMNS
from vini.experiment.witness import Asked, Witness
from vini.model import Value


class Change(Value, frozen=True):
    """Another agent than at the look before; None: none answered."""

    t: float  # s since t = 0, of the look that saw it
    before: int | None
    now: int | None

    def __str__(self) -> str:
        before, now = ("no agent" if pid is None else f"the agent (process {pid})" for pid in (self.before, self.now))
        return f"{before} before, {now} now"


class Others:
    """Every desired state that the run did not ask for, and every change of the agent.

    It begins with what comes after its making.  Whatever the run itself asks for must be announced with `mine`,
    by the words that it is logged under.
    """

    def __init__(self, witness: Witness, slice_: str):
        self._witness, self._slice = witness, slice_
        self._mine: Counter[str] = Counter()
        self._since = max((a.generation for a in witness.asked(slice_, -1)), default=0)
        self._began = time.time()
        self.foreign: list[Asked] = []
        self.befell: list[Asked] = []  # paths that failed below its links, and came back
        self.agent: int | None = None
        self.changes: list[Change] = []

    def mine(self, what: str) -> None:
        """The run is about to ask for this."""
        self._mine[what] += 1

    def look(self) -> list[Asked]:
        """What others have asked for since the last look."""
        found = []
        for asked in self._witness.asked(self._slice, self._since):
            self._since = asked.generation
            if self._mine[asked.what]:
                self._mine[asked.what] -= 1
            else:
                found.append(asked)
        self.foreign += found
        self.befell = self._witness.happened(self._slice, self._began)
        return found

    async def meet(self) -> None:
        """The agent that is there at t = 0."""
        self.agent = await self._witness.agent()

    async def look_at_agent(self, t: float) -> None:
        """Whether it is still the same."""
        now = await self._witness.agent()
        if now != self.agent:
            self.changes.append(Change(t, self.agent, now))
            self.agent = now

    def rows(self, first_number: int, zero: float, zero_wall: float) -> list[Row]:
        """All of it as events of the run, numbered from `first_number` on."""
        asked = [_row("foreign", f"{a.who}: {a.what}", a.at - zero_wall, zero, zero_wall) for a in self.foreign]
        asked += [_row("path", f"{a.who}: {a.what}", a.at - zero_wall, zero, zero_wall) for a in self.befell]
        changes = [_row("agent", str(c), c.t, zero, zero_wall) for c in self.changes]
        in_order = sorted([*asked, *changes], key=lambda row: row["t"])
        return [row | {"number": first_number + i} for i, row in enumerate(in_order)]

    def reasons(self, zero_wall: float) -> list[str]:
        """Why the run is not to be trusted; [] where nobody came between."""
        asked = [
            f"The slice was changed by another command during the run: {a.who}, {a.what} "
            f"(generation {a.generation}, t = {a.at - zero_wall:.2f} s)."
            for a in self.foreign
        ]
        asked += [
            f"A path below the slice changed: {a.who}, {a.what} (t = {a.at - zero_wall:.2f} s)." for a in self.befell
        ]
        return asked + [f"The agent did not stay the same: at t = {c.t:.2f} s, {c}." for c in self.changes]


def _row(action: str, what: str, t: float, zero: float, zero_wall: float) -> Row:
    return dict.fromkeys(EVENT_COLUMNS) | {
        "action": action, "what": what, "edits": action == "foreign", "t": t, "wall": zero_wall + t,
        "monotonic": zero + t, "outcome": "",
    }  # fmt: skip
