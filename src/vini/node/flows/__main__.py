"""The recorder as a program: `python -m vini.node.flows`.  No agent's end is its own; it ends when no sliver has a way
to the world any more, or on SIGTERM."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path

from vini.node.flows import service
from vini.node.flows.book import Book, directory
from vini.node.flows.recorder import Recorder
from vini.node.lock import is_named, locked
from vini.node.place import from_environment


def main() -> None:
    """Run as the only recorder of this place; a second one ends at once, quietly."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    place = from_environment()
    os.umask(0o077)
    lock = locked(service.lock(place))
    if lock is None:
        return
    Path("/proc/self/comm").write_text("vini-flows")
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda n, _: told.append(n))
    service.tell(place)
    recorder = Recorder(place, Book(directory(place.state), service.keep(), time.time()))

    def over() -> bool:
        return bool(told) or not is_named(lock, service.lock(place)) or not service.needed(place)

    recorder.run(over)
    (place.run / "flows.running").unlink(missing_ok=True)
    service.lock(place).unlink(missing_ok=True)
    lock.close()


if __name__ == "__main__":
    main()
