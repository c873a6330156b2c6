"""What was asked of a link, what it gave, and whether that is the same.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from vini.model import Value
from vini.truth.seen import Clock

# "can't tell": the machine, other traffic or too few packets stand in between; "not measured": nothing could tell
Outcome = Literal["true", "off", "can't tell", "not measured"]


class Verdict(Value, frozen=True):
    """One wish.  The texts are for people; `value` and `limit` are what was compared, where it is one number."""

    wish: str
    asked: str
    got: str
    tolerance: str
    outcome: Outcome
    why: str = ""  # a sentence, unless it is true
    value: float | None = None
    limit: float | None = None


class Judgement(Value, frozen=True):
    """One direction of a link."""

    source: str  # sliver
    vif: str
    destination: str
    verdicts: tuple[Verdict, ...]
    clock: Clock = "one"  # of its times

    @property
    def outcome(self) -> Outcome:
        """That of its worst verdict."""
        return worst(v.outcome for v in self.verdicts)

    def reasons(self) -> tuple[str, ...]:
        """A sentence for each wish that is off."""
        return tuple(
            f"The link from {self.source} to {self.destination} is off: {v.wish} asked {v.asked}, got {v.got} "
            f"(tolerance {v.tolerance})."
            for v in self.verdicts
            if v.outcome == "off"
        )

    def doubts(self) -> tuple[str, ...]:
        """A sentence for each wish of which nobody can tell."""
        where = f"from {self.source} to {self.destination}"
        unsure = [v for v in self.verdicts if v.outcome == "can't tell"]
        return tuple(f"Whether the link {where} gives its {v.wish} can't be told: {v.why}" for v in unsure)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Of several; "true" where nothing speaks against it."""
    found = set(outcomes)
    return next((o for o in ("off", "can't tell", "true") if o in found), "not measured" if found else "true")


def compared(wish: str, asked: str, got: str, tolerance: str, value: float, limit: float, noise: float, why: str
             ) -> Verdict:  # fmt: skip
    """True up to `limit`, off beyond what noise of this size may add to it, and between the two nobody can tell."""
    outcome: Outcome = "true" if value <= limit else "can't tell" if value <= limit + noise else "off"
    return Verdict(wish, asked, got, tolerance, outcome, why if outcome == "can't tell" else "", value, limit)


def unknown(wish: str, asked: str, why: str, outcome: Outcome = "not measured", got: str = "") -> Verdict:
    """Nothing that could be compared."""
    return Verdict(wish, asked, got, "", outcome, why)
