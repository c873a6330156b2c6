"""Keeps the recorder of flows running for as long as a sliver has a way to the world: the agent's part of it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from vini.node.flows.book import Keep
from vini.node.lock import locked
from vini.node.outside import record
from vini.node.place import Place
from vini.node.version import digest

log = logging.getLogger("vini.agent")
_LOOK_S = 0.5
_PAUSE_S = 30.0  # after one that failed, as where the disk is full


def lock(place: Place) -> Path:
    """Held by the recorder that runs."""
    return place.run / "flows.lock"


def needed(place: Place) -> bool:
    """Whether a sliver has a way to the world."""
    return bool(record.slices(place))


def keep() -> Keep:
    """How much is kept, as the environment says; what makes no sense is as if it were not said."""
    default = Keep()
    megabytes = _number("VINI_FLOWS_MB", default.megabytes)
    part = min(default.part_megabytes, max(1, megabytes // 4))  # the newest file is kept, whatever its size
    return Keep(megabytes, _number("VINI_FLOWS_DAYS", default.days), part)


def tell(place: Place) -> None:
    """Which one runs: its process and its version."""
    (place.run / "flows.running").write_text(f"{os.getpid()} {digest()}")


class FlowsService:
    """One place's."""

    def __init__(self, place: Place):
        self._place = place
        self._child: subprocess.Popen[bytes] | None = None

    async def run(self) -> None:
        """Start it where it is needed and does not run, replace one of another version; until cancelled."""
        while True:
            pause = _LOOK_S
            try:
                if needed(self._place):
                    await asyncio.to_thread(self._ensure)
            except OSError as e:
                log.warning("The recorder of flows can't be started: %s.", e)
            if self._failed():
                log.warning("The recorder of flows failed; %s says why.", self._place.state / "flows.log")
                self._child, pause = None, _PAUSE_S
            await asyncio.sleep(pause)

    def _ensure(self) -> None:
        if self._child is not None and (self._child.poll() is None or self._failed()):
            return
        held = locked(lock(self._place))
        if held is None:
            self._replace()
            return
        held.close()
        place = self._place
        settings = {"VINI_MARK": place.mark, "VINI_RUN": str(place.run), "VINI_STATE": str(place.state)}
        with (place.state / "flows.log").open("ab") as out:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "vini.node.flows"], stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/",
                start_new_session=True, env={**os.environ, **settings},
            )  # fmt: skip

    def _failed(self) -> bool:
        """One that was killed did not, and is started again at once."""
        return self._child is not None and (self._child.returncode or 0) > 0

    def _replace(self) -> None:
        """One of another version ends, and is started again as ours."""
        with suppress(OSError, ValueError):
            pid, version = (self._place.run / "flows.running").read_text().split()
            if version != digest():
                os.kill(int(pid), signal.SIGTERM)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() and int(text) > 0 else default
