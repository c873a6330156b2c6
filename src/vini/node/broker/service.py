"""Keeps a door open in each sliver for as long as the agent runs, and tells those who watch what changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial

from vini.model import Value, ViniError
from vini.node.agent import Agent
from vini.node.broker import door, policy, requests
from vini.node.broker.answers import Answers
from vini.node.broker.guest import BURST, PER_SECOND, Given, Guest
from vini.node.broker.journal import Journal
from vini.node.place import Place
from vini.node.rate import Rate

log = logging.getLogger("vini.broker")
_LOOK_S = 0.5
_AT_ONCE = 8  # doors that are made in one piece of work: others, such as the end of a slice, come between
_GUESTS = 8  # connections of one sliver at once
_COMING, _COMING_PER_SECOND = 20.0, 10.0  # connections that one sliver may begin
_PAUSE_S = 0.5  # in which a door is not looked at, after they came too fast
_WARNED_S = (3600.0, 600.0, 60.0)  # before its end, a sliver is told


class Seen(Value, frozen=True):
    """What of a sliver is told when it changes."""

    generation: int
    expires: float
    failed_links: dict[str, str]


class Broker:
    """One node's."""

    def __init__(
        self, place: Place, agent: Agent, node: Callable[[], str], clock: Callable[[], float] = time.time
    ):  # fmt: skip
        self._place, self._agent, self._clock = place, agent, clock
        self._journal = Journal(place)
        self._policy = policy.Policy(place.state)
        self._answers = Answers(place, agent, self._policy.granted, node, self._journal.note, clock)
        self._asked, self._came = Rate(BURST, PER_SECOND), Rate(_COMING, _COMING_PER_SECOND)
        self._doors: dict[str, socket.socket] = {}
        self._guests: dict[str, dict[Guest, asyncio.Task[None]]] = {}
        self._seen: dict[str, Seen] = {}
        self._warned: dict[str, tuple[float, float]] = {}  # sliver -> its end, and the last of _WARNED_S that it heard

    async def run(self) -> None:
        """Until cancelled; then nobody is answered any more, and the sockets are gone."""
        try:
            while True:
                await self._look()
                await asyncio.sleep(_LOOK_S)
        finally:
            _hang_up([self._shut(ns) for ns in list(self._doors)])

    # --- doors --------------------------------------------------------------------------------

    async def _look(self) -> None:
        wanted = self._agent.wanted.slivers()
        open_ = {ns for ns in self._doors.keys() & wanted if door.stands(self._place, ns, self._doors[ns])}
        if gone := [self._shut(ns) for ns in self._doors.keys() - open_]:
            await asyncio.to_thread(_hang_up, gone)
        missing = sorted(wanted - open_)
        for i in range(0, len(missing), _AT_ONCE):
            for ns, listener in (await self._agent.work(partial(self._opened, missing[i : i + _AT_ONCE]))).items():
                self._doors[ns] = listener
                asyncio.get_running_loop().add_reader(listener, self._accept, ns)
        self._tell(wanted)

    def _opened(self, slivers: Sequence[str]) -> dict[str, socket.socket]:
        """Of those whose network is there; in the thread of the machine, so that none is being taken away meanwhile."""
        out = {}
        for ns in slivers:
            try:
                if self._place.netns(ns).exists():
                    out[ns] = door.opened(self._place, ns)
            except (OSError, ViniError) as e:
                self._journal.complain(ns, f"its broker's socket can't be made: {e}")
        return out

    def _shut(self, ns: str) -> socket.socket:
        """Nobody comes in any more; the socket is the caller's to close."""
        listener = self._doors.pop(ns)
        asyncio.get_running_loop().remove_reader(listener)
        for task in self._guests.pop(ns, {}).values():
            task.cancel()
        self._seen.pop(ns, None)
        self._warned.pop(ns, None)
        return listener

    def _accept(self, ns: str) -> None:
        listener = self._doors[ns]
        loop = asyncio.get_running_loop()
        if not self._came.takes(ns, time.monotonic()):  # who comes too fast waits at the door
            loop.remove_reader(listener)
            loop.call_later(_PAUSE_S, self._open_again, ns, listener)
            return
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        pid = door.lives_there(self._place, ns, sock)
        guests = self._guests.setdefault(ns, {})
        if not pid or len(guests) >= _GUESTS:
            why = f"{_GUESTS} others are connected already" if pid else "it does not live in this sliver"
            self._journal.complain(ns, f"hung up on a process: {why}")
            with sock, contextlib.suppress(OSError):
                sock.send(requests.error(ViniError(f"The broker hangs up: {why}.")))
            return
        guest = Guest(ns, pid, sock, lambda r, p: self._answered(ns, r, p), self._asked,
                      lambda what: self._journal.complain(ns, what))  # fmt: skip
        guests[guest] = task = asyncio.create_task(guest.serve())
        task.add_done_callback(lambda _: guests.pop(guest, None))

    def _open_again(self, ns: str, listener: socket.socket) -> None:
        if self._doors.get(ns) is listener:
            asyncio.get_running_loop().add_reader(listener, self._accept, ns)

    async def _answered(self, ns: str, request: requests.Request, pid: int) -> Given:
        """Who is told that it watches hears of all that changes from then on, also of what does before we look."""
        given = await self._answers.answer(ns, request, pid)
        if isinstance(request, requests.Watch) and (now := self._sight(ns)):
            self._seen.setdefault(ns, now)
        return given

    # --- what changes -------------------------------------------------------------------------

    def _sight(self, ns: str) -> Seen | None:
        slice_ = ns.partition(".")[0]
        spec = self._agent.wanted.spec(slice_)
        return Seen(spec.generation, spec.expires, self._agent.wanted.faults(slice_, ns)) if spec else None

    def _tell(self, slivers: set[str]) -> None:
        for ns in slivers & self._doors.keys():
            now = self._sight(ns)
            if now is None:
                continue
            watching = [g for g in self._guests.get(ns, {}) if g.watches]
            self._warn(ns, now.expires, watching)
            if not watching:
                self._seen.pop(ns, None)
                continue
            before = self._seen.setdefault(ns, now)
            self._seen[ns] = now
            for line in changes(before, now):
                for guest in watching:
                    guest.tell(line)

    def _warn(self, ns: str, expires: float, watching: list[Guest]) -> None:
        """Of its end, at some times before it."""
        left = expires - self._clock()
        due = min((w for w in _WARNED_S if 0 < left <= w), default=0.0)
        if not expires or not due or self._warned.get(ns) == (expires, due):
            return
        self._warned[ns] = (expires, due)
        at = datetime.fromtimestamp(expires, UTC)
        self._journal.note(
            ns, f"this slice ends in {left:.0f} s, at {at:%Y-%m-%d %H:%M:%S} UTC; `vini slice renew` keeps it"
        )
        for guest in watching:
            guest.tell(requests.event("expires", at=expires, in_s=round(left, 1)))


def _hang_up(doors: Sequence[socket.socket]) -> None:
    for listener in doors:
        listener.close()


def changes(before: Seen, now: Seen) -> list[bytes]:
    """An event for each difference."""
    out = []
    if (before.generation, before.expires) != (now.generation, now.expires):
        out.append(requests.event("changed", generation=now.generation, expires=now.expires or None))
    for link in sorted(now.failed_links.keys() - before.failed_links.keys()):
        out.append(requests.event("link-failed", link=link, why=now.failed_links[link]))
    for link in sorted(before.failed_links.keys() - now.failed_links.keys()):
        out.append(requests.event("link-back", link=link))
    return out
