"""Whether packets left delaying links on time, from what the links count by themselves.  Pure."""

from __future__ import annotations

from collections import Counter

from vini.experiment.network import Departures
from vini.experiment.statistics import rounded

LATE_MS = 1.0  # what the link element counts as late (LATE_NS in dataplane/element/live.h)
WORST = 3  # so many vifs are named


class Lateness:
    """The departures of a run, added up reading by reading, so that a link element that was restarted does no harm.

    The first reading is where counting starts.
    """

    def __init__(self) -> None:
        self.measured = False
        self.sent: Counter[str] = Counter()
        self.late: Counter[str] = Counter()
        self._before: dict[str, tuple[int, int]] | None = None

    def add(self, now: Departures | None) -> tuple[int | None, int | None]:
        """Packets sent and sent late since the reading before; None where nobody counts."""
        if now is None:
            return None, None
        self.measured = True
        start, sent, late = self._before is None, 0, 0
        before = self._before = self._before or {}
        for vif, (sent_now, late_now) in now.items():
            was = before.get(vif, (0, 0))
            was = was if sent_now >= was[0] else (0, 0)  # counting began anew
            before[vif] = (sent_now, late_now)
            if not start:
                self.sent[vif] += sent_now - was[0]
                self.late[vif] += late_now - was[1]
                sent += sent_now - was[0]
                late += late_now - was[1]
        return sent, late

    @property
    def share(self) -> float | None:
        """Of the packets on all delaying links; None where there were none, or nobody counts."""
        return self.late.total() / self.sent.total() if self.sent.total() else None

    def worst(self) -> list[tuple[str, float]]:
        """The vifs that were late most often, with their shares."""
        late = [(vif, n / self.sent[vif]) for vif, n in self.late.items() if n]
        return sorted(late, key=lambda x: (-self.late[x[0]], x[0]))[:WORST]

    def summary(self) -> dict[str, float | None]:
        """In a few numbers."""
        return {
            "delayed_packets": self.sent.total() if self.measured else None,
            "late_packets": self.late.total() if self.measured else None,
            "late_share": rounded(self.share, 5),
        }

    def sentence(self) -> str:
        """What is known of the links' truth, good or bad."""
        if not self.measured:
            return "Whether packets left their links on time isn't measured: the kernel's netem doesn't count it."
        if self.share is None:
            return "No packet crossed a link that delays, limits or loses."
        of = f"{self.late.total():,} of {self.sent.total():,}"
        return f"{self.share:.2%} of the packets on shaped links left more than {LATE_MS:g} ms late ({of})."

    def reason(self, limit: float) -> str:
        """Why the run is not to be trusted; "" when it is."""
        if self.share is None or self.share <= limit:
            return ""
        worst = ", ".join(f"{vif} {share:.1%}" for vif, share in self.worst())
        return f"{self.sentence()[:-1]}, limit {limit:.1%}; worst: {worst}."
