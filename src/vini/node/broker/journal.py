"""What was asked of the broker, written down: in the sliver's logs (`vini logs SLIVER broker`), and in the agent's."""

from __future__ import annotations

import logging
import time

from vini.node import sliver_log
from vini.node.place import Place
from vini.node.rate import Rate

log = logging.getLogger("vini.broker")
_BURST, _PER_SECOND = 20.0, 0.2  # complaints of one sliver that are written down


class Journal:
    """One node's.  A sliver can't fill a disk by it, nor its neighbours' lines be lost in its own."""

    def __init__(self, place: Place):
        self._place, self._complaints = place, Rate(_BURST, _PER_SECOND)

    def note(self, ns: str, what: str) -> None:
        """What happened; requests come at a bounded rate, so all are kept."""
        log.info("%s: %s", ns, what)
        sliver_log.append(self._place, ns, sliver_log.BROKER, what)

    def complain(self, ns: str, what: str) -> None:
        """What a sliver does wrong, as often as it may; some of it is passed over."""
        if self._complaints.takes(ns, time.monotonic()):
            self.note(ns, what)
