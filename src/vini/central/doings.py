"""What people do in slivers, as events: who, from where, what, in which slivers; when it begins, and how it ended.

Of a command only the program's name is written down: its words may be secrets.  What is alike and begins, or ends,
within a moment is one event, so that a command in a thousand slivers costs some dozens.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple

from vini import bus
from vini.model import ViniError
from vini.rules.caller import Caller
from vini.store import events
from vini.store.database import Database

log = logging.getLogger("vini.central")
_TOGETHER_S = 2.0  # of what is alike the first is told at once, what follows so soon together
_SHOWN = 20  # slivers that an event names
_PROGRAMS = 20  # different ones of a person in a slice that are told apart at a time
_OTHERS = "other programs"
_WAITING, _AT_ONCE = 5_000, 200  # events that wait for the database, and that one transaction writes
_LAST_S = 10.0  # for what waits when the central ends
_SHELLS = frozenset({"sh", "bash", "ash", "dash", "zsh", "ksh", "fish"})
_PLAIN = re.compile(r"[\w.+@-]{1,40}")


class Doing(NamedTuple):
    """Something that is begun in a sliver."""

    who: str
    source: str
    slice: str
    what: str  # "exec", "shell", "ssh", "measure"
    program: str  # of exec
    sliver: str


class _Kind(NamedTuple):
    """What is told together."""

    who: str
    source: str
    slice: str
    what: str
    program: str
    result: str
    outcome: str


class _Lot:
    """Slivers where something alike happened, and the longest that it took, s."""

    def __init__(self) -> None:
        self.slivers: list[str] = []
        self.seconds = 0.0

    def add(self, sliver: str, seconds: float) -> None:
        self.slivers.append(sliver)
        self.seconds = max(self.seconds, seconds)


def doing(caller: Caller, source: str, slice_: str, sliver: str, command: bus.Stream) -> Doing | None:
    """None of what only looks."""
    if isinstance(command, bus.Logs):
        return None
    what, program = "measure", ""
    if isinstance(command, bus.SshThrough):
        what = "ssh"
    elif isinstance(command, bus.Run):
        name = command.argv[0].rpartition("/")[2] if command.argv else ""
        what = "shell" if command.tty and name in _SHELLS else "exec"
        program = "" if what == "shell" else name if _PLAIN.fullmatch(name) else "a program"
    return Doing(caller.email, source, slice_, what, program, sliver)


class _Told(NamedTuple):
    """An event to be."""

    kind: _Kind
    lot: _Lot
    at: float


class Doings:
    """One central's.  Its methods belong to one event loop; they wait for nothing.  Events are written in their order,
    many in one transaction, and what is more than may wait is counted."""

    def __init__(
        self, database: Database, clock: Callable[[], float], together_s: float = _TOGETHER_S, most: int = _WAITING
    ):
        self._database, self._clock, self._together_s, self._most = database, clock, together_s, most
        self._lots: dict[_Kind, tuple[_Lot, asyncio.TimerHandle]] = {}
        self._programs: dict[tuple[str, str], Counter[str]] = {}  # of whom in which slice, by open lots
        self._waiting: deque[_Told] = deque()
        self._lost = 0  # that could not wait, and are not told of yet
        self._writing: asyncio.Task[None] | None = None

    def begun(self, d: Doing) -> float:
        """It begins now; what `ended` is to be told (monotonic, s)."""
        self._add(d, f"begin {d.what}", "ok", "", 0.0)
        return time.monotonic()

    def ended(self, d: Doing, began: float, outcome: str) -> None:
        """It is over, and that is what came of it."""
        self._add(d, f"end {d.what}", "ok", outcome, time.monotonic() - began)

    def failed(self, d: Doing, began: float, kind: str, why: str) -> None:
        """It was refused, or ended by an error of that kind."""
        self._add(d, f"end {d.what}", kind, why, time.monotonic() - began)

    async def close(self) -> None:
        """The central ends: all that is known is written, as far as the database takes it within some seconds."""
        for kind, (_, timer) in list(self._lots.items()):
            timer.cancel()
            self._close(kind)
        if self._writing:
            try:
                async with asyncio.timeout(_LAST_S):
                    await self._writing
            except TimeoutError:
                log.warning("%s events of what people did in slivers could not be written down", len(self._waiting))

    def _add(self, d: Doing, what: str, result: str, outcome: str, seconds: float) -> None:
        kind = _Kind(d.who, d.source, d.slice, what, self._program(d), result, outcome)
        if held := self._lots.get(kind):
            held[0].add(d.sliver, seconds)
            return
        timer = asyncio.get_running_loop().call_later(self._together_s, self._close, kind)
        self._lots[kind] = _Lot(), timer
        self._programs.setdefault((kind.who, kind.slice), Counter())[kind.program] += 1
        first = _Lot()
        first.add(d.sliver, seconds)
        self._tell(kind, first)

    def _program(self, d: Doing) -> str:
        """Its name, as long as they are not many different ones: each is an event."""
        running = self._programs.get((d.who, d.slice), Counter())
        return d.program if d.program in running or len(running) < _PROGRAMS else _OTHERS

    def _close(self, kind: _Kind) -> None:
        lot, _ = self._lots.pop(kind)
        running = self._programs[kind.who, kind.slice]
        running[kind.program] -= 1
        if not running[kind.program]:
            del running[kind.program]
        if not running:
            del self._programs[kind.who, kind.slice]
        if lot.slivers:
            self._tell(kind, lot)

    def _tell(self, kind: _Kind, lot: _Lot) -> None:
        if len(self._waiting) >= self._most:
            self._lost += 1
        else:
            self._waiting.append(_Told(kind, lot, self._clock()))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_all())

    async def _write_all(self) -> None:
        while self._waiting or self._lost:
            told = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
            lost, self._lost = self._lost, 0
            await asyncio.to_thread(self._write, told, lost)

    def _write(self, told: list[_Told], lost: int) -> None:
        try:
            with self._database.transaction() as tx:
                for kind, lot, at in told:
                    events.add(
                        tx, at=at, who=kind.who, what=kind.what, kind="slice", target=kind.slice, source=kind.source,
                        result=kind.result, detail=_detail(kind, lot), duration_s=lot.seconds,
                    )  # fmt: skip
                if lost:
                    detail = f"and {lost} more events of what people did in slivers, which came too fast"
                    events.add(tx, at=self._clock(), who="central", what="do", kind="central", target="", detail=detail)
        except ViniError as e:
            log.warning("%s events of what people did in slivers could not be written down: %s", len(told) + lost, e)


def _detail(kind: _Kind, lot: _Lot) -> str:
    more = f" and {len(lot.slivers) - _SHOWN} more" if len(lot.slivers) > _SHOWN else ""
    where = f"in {', '.join(lot.slivers[:_SHOWN])}{more}"
    done = f"{kind.program} {where}" if kind.program else where
    return f"{done}: {kind.outcome}" if kind.outcome else done
