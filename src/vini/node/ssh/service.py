"""Keeps the SSH server running for as long as anybody may log in to something here: the agent's part of it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec

from vini import bus
from vini.bus.streams import Channel
from vini.model import NotFound, Unsupported, ViniError
from vini.node.lock import locked
from vini.node.place import Place
from vini.node.ssh import authorized
from vini.node.ssh import place as places
from vini.node.ssh.authorized import Asker, Book
from vini.node.ssh.journal import Journal
from vini.node.ssh.need import needed
from vini.node.ssh.through import Carrier
from vini.node.version import digest
from vini.rules.logins import Login

log = logging.getLogger("vini.agent")
_LOOK_S = 1.0
_START_S = 20.0  # for a start on a busy machine
_PAUSE_S = 30.0  # after a start that failed


class SshService:
    """One place's.  Its methods may be called from any thread."""

    def __init__(self, place: Place):
        self._place, self._book, self._carrier = place, Book(place.state), Carrier()
        self._journal = Journal(place.state)

    async def run(self) -> None:
        """Start it again when it has ended, and is needed; until cancelled."""
        while True:
            pause = _LOOK_S
            try:
                await asyncio.to_thread(self.look)
            except (ViniError, OSError) as e:
                log.warning("The SSH server can't be looked after now, the agent tries again in 30 s: %s", e)
                pause = _PAUSE_S
            await asyncio.sleep(pause)

    def authorize(self, slices: dict[str, bus.Admission], asker: Asker) -> bus.Ssh:
        """From now on these may log in to what this asker asked for, and it runs if they can."""
        authorized.write(self._place.state, asker, slices)
        return self.look()

    def newest_login(self) -> int:
        """The number of the newest that the central is to hear of; 0: there is none."""
        return self._journal.newest()

    def logins(self, after: int) -> tuple[Login, ...]:
        """Those with higher numbers, some of them, the oldest first."""
        return self._journal.after(after)

    def look(self) -> bus.Ssh:
        """Where it listens; started, or replaced by one that is as it should be, where it is needed."""
        if not needed(self._place, self._book):
            return bus.Ssh()
        return self._ensured()

    async def through(self, ns: str, channel: Channel) -> None:
        """Carry a connection from the central to the server, to its end.  Raises ViniError where that can't be."""
        now = await asyncio.to_thread(self.look)
        if not now.port:
            raise NotFound(f"Nobody has a key for {ns} yet; `vini key add` on your machine adds yours.")
        await self._carrier.carry(ns.partition(".")[0], now.port, channel)

    def _ensured(self) -> bus.Ssh:
        now = self._alive()
        if now and (now.version, now.asked) == (digest(), places.wanted(self._place)):
            return _told(now)
        if find_spec("asyncssh") is None:
            raise Unsupported("This node lacks the library for SSH; `pip install asyncssh`, and try again.")
        if now:
            with suppress(ProcessLookupError):
                os.kill(now.pid, signal.SIGTERM)
        return self._started()

    def _alive(self) -> places.Running | None:
        lock = locked(places.lock(self._place))
        if lock is None:
            return places.running(self._place)
        with lock:
            places.lock(self._place).unlink(missing_ok=True)
        return None

    def _started(self) -> bus.Ssh:
        log_path = self._place.state / "ssh.log"
        deadline = time.monotonic() + _START_S
        child: subprocess.Popen[bytes] | None = None
        while time.monotonic() < deadline:
            now = self._alive()
            if now and now.version == digest() and now.asked == places.wanted(self._place):
                return _told(now)
            if now is None and child is None:
                with log_path.open("ab") as out:
                    child = subprocess.Popen(
                        [sys.executable, "-m", "vini.node.ssh"], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                        cwd="/", start_new_session=True, env=_environment(self._place),
                    )  # fmt: skip
            if child and child.poll():
                break
            time.sleep(0.02)
        said = log_path.read_text(errors="replace").strip().splitlines()[-1:] if log_path.exists() else []
        raise ViniError(f"The SSH server does not start; its log {log_path} ends: {' '.join(said)}")


def _told(now: places.Running) -> bus.Ssh:
    return bus.Ssh(now.port, now.host_key, outside=not now.asked.host)


def _environment(place: Place) -> dict[str, str]:
    return {**os.environ, "VINI_MARK": place.mark, "VINI_RUN": str(place.run), "VINI_STATE": str(place.state)}
