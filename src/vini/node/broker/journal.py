"""What was asked of the broker, written down: in the sliver's logs (`vini logs SLIVER broker`), and in the agent's."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress

from vini.node.place import Place
from vini.node.rate import Rate

log = logging.getLogger("vini.broker")
_LONGEST = 1 << 18  # bytes; then a new one is begun, and the old one kept beside it
_BURST, _PER_SECOND = 20.0, 0.2  # complaints of one sliver that are written down


class Journal:
    """One node's.  A sliver can't fill a disk by it, nor its neighbours' lines be lost in its own."""

    def __init__(self, place: Place):
        self._place, self._complaints = place, Rate(_BURST, _PER_SECOND)

    def note(self, ns: str, what: str) -> None:
        """What happened; requests come at a bounded rate, so all are kept."""
        log.info("%s: %s", ns, what)
        with suppress(OSError):  # the sliver goes this moment
            self._write(ns, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {what}\n".encode())

    def complain(self, ns: str, what: str) -> None:
        """What a sliver does wrong, as often as it may; some of it is passed over."""
        if self._complaints.takes(ns, time.monotonic()):
            self.note(ns, what)

    def _write(self, ns: str, line: bytes) -> None:
        path = self._place.sliver(ns) / "broker.log"
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
        with os.fdopen(fd, "ab") as file:
            file.write(line)
            full = file.tell() > _LONGEST
        if full:
            path.rename(path.with_suffix(".log.1"))
