"""What people do in slivers, as events: who, from where, what, in which slivers; when it begins, and how it ended.

Of a command only the program's name is written down: its words may be secrets.  What is alike and begins, or ends,
within a moment is one event, so that a command in a thousand slivers costs some dozens.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
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


class Doings:
    """One central's.  Its methods belong to one event loop; they wait for nothing."""

    def __init__(self, database: Database, clock: Callable[[], float], together_s: float = _TOGETHER_S):
        self._database, self._clock, self._together_s = database, clock, together_s
        self._lots: dict[_Kind, _Lot] = {}
        self._telling: set[asyncio.Task[None]] = set()

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

    def _add(self, d: Doing, what: str, result: str, outcome: str, seconds: float) -> None:
        kind = _Kind(d.who, d.source, d.slice, what, d.program, result, outcome)
        if lot := self._lots.get(kind):
            lot.add(d.sliver, seconds)
            return
        self._lots[kind] = _Lot()
        first = _Lot()
        first.add(d.sliver, seconds)
        self._tell(kind, first)
        asyncio.get_running_loop().call_later(self._together_s, self._close, kind)

    def _close(self, kind: _Kind) -> None:
        lot = self._lots.pop(kind)
        if lot.slivers:
            self._tell(kind, lot)

    def _tell(self, kind: _Kind, lot: _Lot) -> None:
        task = asyncio.create_task(asyncio.to_thread(self._write, kind, lot, self._clock()))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    def _write(self, kind: _Kind, lot: _Lot, now: float) -> None:
        try:
            with self._database.transaction() as tx:
                events.add(
                    tx, at=now, who=kind.who, what=kind.what, kind="slice", target=kind.slice, source=kind.source,
                    result=kind.result, detail=_detail(kind, lot), duration_s=lot.seconds,
                )  # fmt: skip
        except ViniError as e:
            log.warning(
                "that %s did `%s` in slice %s could not be written down: %s", kind.who, kind.what, kind.slice, e
            )


def _detail(kind: _Kind, lot: _Lot) -> str:
    more = f" and {len(lot.slivers) - _SHOWN} more" if len(lot.slivers) > _SHOWN else ""
    where = f"in {', '.join(lot.slivers[:_SHOWN])}{more}"
    done = f"{kind.program} {where}" if kind.program else where
    return f"{done}: {kind.outcome}" if kind.outcome else done
