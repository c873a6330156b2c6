"""Two ledgers: what people on this machine ask for, and what the central asks for that it has joined.

Each has its own generations and its own ends, so neither can end or overtake what the other asked for.  They share the
names of slices: whoever came first has it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

from vini import durable
from vini.model import Conflict, SliceSpec
from vini.node.ledger import Change, Ledger

Asker = Literal["here", "central"]
ASKERS: tuple[Asker, ...] = ("here", "central")
_OWNER = ".owner"  # which central, and as which node, what is in its ledger was asked for


def owner_of(state: Path) -> str:
    """Which central, and as which node, asks on the machine with that state directory; "": none."""
    try:
        return (state / "uplink" / _OWNER).read_text()
    except OSError:
        return ""


class Ledgers:
    """All that is wanted of one machine."""

    def __init__(self, here: Ledger, central: Ledger, owner: Path | None = None):
        self.here, self.central, self._owner = here, central, owner
        self.owner = owner.read_text() if owner and owner.exists() else ""

    @classmethod
    def below(cls, state: Path, clock: Callable[[], float] = time.time) -> Self:
        """Those of a place's state directory."""
        central = state / "uplink" / "ledger"
        return cls(Ledger(state / "ledger", clock), Ledger(central, clock), central.parent / _OWNER)

    def of(self, asker: Asker) -> Ledger:
        """The one of whoever asks."""
        return self.here if asker == "here" else self.central

    def accept(self, spec: SliceSpec, asker: Asker) -> SliceSpec | None:
        """As `Ledger.accept`.  Raises Conflict where the other asker has a slice of this name."""
        other = self.of("central" if asker == "here" else "here")
        if spec.objects and (spec.slice in other.specs or spec.slice in other.later):
            raise Conflict(_TAKEN[asker].format(spec.slice))
        return self.of(asker).accept(spec)

    def wanted(self) -> dict[str, SliceSpec]:
        """What is in force now, by the name of its slice."""
        return self.here.wanted() | self.central.wanted()

    def advance(self) -> list[Change]:
        """As `Ledger.advance`."""
        return self.here.advance() + self.central.advance()

    def coming(self) -> list[Change]:
        """What `advance` will put in force at the next moment."""
        moment = self.moment()
        return [c for ledger in (self.here, self.central) for c in ledger.coming(ledger.clock() + moment)]

    def settle(self) -> None:
        """As `Ledger.settle`."""
        self.here.settle()
        self.central.settle()

    def moment(self) -> float:
        """As `Ledger.moment`."""
        return min(self.here.moment(), self.central.moment())

    @property
    def unreadable(self) -> set[str]:
        """Slices of which we can't tell what is wanted."""
        return self.here.unreadable | self.central.unreadable

    def belong(self, owner: str) -> bool:
        """From now on this central asks ("": none); what another one asked for is wanted no more.  Is it new?"""
        if self._owner is None:
            return False
        before = self._owner.read_text() if self._owner.exists() else ""
        if before == owner:
            return False
        self.central.clear()
        durable.write(self._owner, owner.encode(), 0o644)  # half of it would be another owner, and end all
        self.owner = owner
        return True


_TAKEN = {
    "here": "Slice {0!r} on this machine is the central's that it has joined; choose another name.",
    "central": "People on the node itself have a slice {0!r} there; `vini down {0}` on that machine ends theirs.",
}
