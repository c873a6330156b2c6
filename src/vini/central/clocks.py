"""Whether this machine's clock is known to be right: slices that end by a wrong one are gone.

It is believed from when somebody vouches for it: most of the nodes that this process attends to, whose clocks are not
behind it, or, where nobody did since the machine started, its kernel, as an NTP daemon has told that.  From then on it
is believed for as long as it goes on as it did then, by the clock that counts from the machine's start and that nobody
sets: so nodes may all be away, and this process may be another one.  Behind that it may be: what ends late is not gone.

A node on this machine has the same clock, so it can't tell, and is not asked.  Only where all nodes that there are run
here nobody else could: then it may vouch for the clock first, and the kernel also for one that was set.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from math import isfinite
from pathlib import Path

import msgspec

from vini import durable
from vini.boot import boot, boottime
from vini.central.synchronised import why_unsynchronised
from vini.model import Value
from vini.rules import doubt

_SET_S = 60.0  # a clock that moved by so much between two looks was set
_FLIGHT_S = 30.0  # so long what was measured before that may have been on its way
_RECENT_S = 300.0  # each node that is attended to is measured anew once a minute
_EARLY_S = 600.0  # after a start, or a clock's being set: nodes may still come


class Kept(Value, frozen=True):
    """On disk: by how much a clock that is right is ahead of the one that counts from that boot on, in s."""

    boot: str
    ahead_s: float


class Verdict(Value, frozen=True):
    """Why the clock is not believed, for who can set it; "": it is."""

    why: str = ""
    refuted: bool = False  # nodes' clocks say so
    early: bool = False  # somebody may vouch for it soon


class Clocks:
    """Filled by threads that hear nodes, asked by the one that ends slices."""

    def __init__(
        self, clock: Callable[[], float] = time.time, file: Path | None = None,
        since_boot: Callable[[], float] = boottime, unsynchronised: Callable[[], str] = why_unsynchronised,
    ):  # fmt: skip
        self._clock, self._file, self._since_boot, self._unsynchronised = clock, file, since_boot, unsynchronised
        self._lock = threading.Lock()
        self._ahead = clock() - since_boot()
        self._since = self._counts_from = since_boot()
        self._was_set = False  # since it was looked at last
        self._measured: dict[str, tuple[float, float]] = {}  # node -> when since the boot, and by how much it was ahead
        self._here: set[str] = set()  # of these, those that run on this machine
        self._written = self._read()
        self._vouched = self._written.ahead_s if self._written else None  # one that is right is so much ahead

    def note(self, ahead: Mapping[str, float], boots: Mapping[str, str]) -> None:
        """The clocks of these are ahead of this one by so many seconds, as measured just now; `boots`: which start of
        which machine each said it runs on, "": it did not say."""
        own = boot()
        with self._lock:
            now = self._looked()
            self._measured.update({node: (now, s) for node, s in ahead.items() if isfinite(s)})
            self._here = self._here - ahead.keys() | {node for node in ahead if boots.get(node) == own}

    def look(self, site_of: Mapping[str, int], attended: Collection[str]) -> Verdict:
        """By the nodes that there are, and those of them that this process measures."""
        with self._lock:
            now, self._was_set = self._looked(), False
            elsewhere = {n: site for n, site in site_of.items() if n not in self._here}
            known = {n: at_s for n, at_s in self._measured.items() if at_s[0] >= self._counts_from and n in elsewhere}
            was_set = self._vouched is not None and not self._goes_on()
            middle = doubt.middle(elsewhere, {n: s for n, (_, s) in known.items()}, least=was_set)
            behind = doubt.behind(middle)
            recent = {n for n, (at, _) in known.items() if at >= now - _RECENT_S}
            if behind and not was_set:
                self._vouched = self._ahead + middle  # so it would be right: also for the next process
            elif behind:
                pass
            elif 2 * len(recent.intersection(attended)) > len(elsewhere.keys() & attended):
                self._vouched = self._ahead + max(0.0, middle)  # where ours is late, it may be put right
            elif self._is_told(now, bool(elsewhere)) or (site_of and not elsewhere and self._may_be_right(now)):
                self._vouched = self._ahead
            elif self._vouched is not None and abs(self._ahead - self._vouched) <= _SET_S:
                self._vouched = self._ahead  # clocks part by seconds a day
            self._keep()
            if behind:
                return Verdict(behind, refuted=True)
            if self._goes_on():
                return Verdict()
            jumped = self._ahead - self._vouched if self._vouched is not None else 0.0
            why = doubt.unknown(self._clock(), jumped, self._unsynchronised(), alone=not elsewhere)
            return Verdict(why, early=now - self._since < _EARLY_S)

    def was_set(self) -> bool:
        """Since the last `look`."""
        with self._lock:
            self._looked()
            return self._was_set

    def _looked(self) -> float:
        """The time since the boot; what was measured before the clock was set counts no more."""
        now = self._since_boot()
        ahead = self._clock() - now
        if abs(ahead - self._ahead) > _SET_S:
            self._since, self._counts_from, self._was_set = now, now + _FLIGHT_S, True
        self._ahead = ahead
        return now

    def _is_told(self, now: float, others: bool) -> bool:
        """By the kernel.  Not before nodes on other machines could speak, nor where the clock went on otherwise since
        somebody vouched for it: a daemon may go on saying that all is well by a clock that it corrects slowly."""
        may = self._vouched is None and now - self._since >= _EARLY_S if others else not self._goes_on()
        return may and not self._unsynchronised()

    def _may_be_right(self, now: float) -> bool:
        """As far as by nodes' clocks, too; where nobody vouched yet, once a daemon had time to put it right."""
        if self._vouched is None:
            return now >= _EARLY_S
        return self._ahead - self._vouched <= doubt.BEHIND_S

    def _goes_on(self) -> bool:
        """As it did when somebody vouched for it, or behind that."""
        return self._vouched is not None and self._ahead - self._vouched <= _SET_S

    # --- what is known, on disk -----------------------------------------------------------------

    def _read(self) -> Kept | None:
        """Of this boot."""
        try:
            kept = msgspec.json.decode(self._file.read_bytes(), type=Kept) if self._file else None
        except (OSError, msgspec.DecodeError):
            return None
        return kept if kept and kept.boot == boot() else None

    def _keep(self) -> None:
        """Best effort: where the disk does not take it, somebody has to vouch for it anew when a process starts."""
        if self._file is None or self._vouched is None:
            return
        if self._written and abs(self._written.ahead_s - self._vouched) < 1.0:
            return
        now = Kept(boot(), self._vouched)
        with suppress(OSError):
            durable.write(self._file, msgspec.json.encode(now))
            self._written = now
