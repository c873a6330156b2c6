"""One pass over conf files: each is brought to what is asked of it, as far as this machine permits that.

Level-triggered: what is due follows from what is asked, what is there, and what we wrote.  What we are about to write
is written down before, so that after a crash at any step the next pass knows it for ours and goes on.
"""

from __future__ import annotations

import asyncio
import grp
import hashlib
import logging
import pwd
from collections.abc import Callable, Collection
from pathlib import Path

from vini.bus import NodeFile
from vini.model import Unsupported, ViniError
from vini.node.files import command
from vini.node.files.decide import Step, outside, refusal, step
from vini.node.files.permit import Said
from vini.node.files.place import Seen, Unfit, spot
from vini.node.files.record import Record, Written
from vini.rules.conf_files import FileState, FileThere

log = logging.getLogger("vini.agent")
_CHANGED = (
    "This file is not as the central last wrote it, so somebody on the machine made it what it is; it is left alone. "
    "Remove it there, or have it always updated, and the central's is written."
)
_LEFT = "It is not asked for any more, but somebody on the machine has changed it since, so it stays."


class Keeper:
    """One place's.  What is permitted is asked again before each step.  `never`: directories where no conf file may be,
    whatever is permitted.  `group`: the cgroup that commands run in; Unsupported where this machine can have none."""

    def __init__(
        self, record: Record, never: Collection[Path], group: Callable[[], Path],
        patience_s: float = command.PATIENCE_S,
    ):  # fmt: skip
        self._record, self._never, self._group, self._patience_s = record, never, group, patience_s

    def tidied(self) -> bool:
        """Whether nothing is left of what commands of an agent before us started."""
        try:
            return command.tidied(self._record.lock, self._group())
        except Unsupported:
            return True

    async def keep(self, asked: NodeFile, permit: Said) -> FileThere:
        """Bring one file to what is asked of it; what there is of it then."""
        try:
            return await self._kept(asked, permit)
        except (Unfit, _Unpermitted) as e:
            return _told(asked, "refused", str(e))
        except OSError as e:
            return _told(asked, "failed", f"It can't be written: {e.strerror}; look on the machine.")
        except ViniError as e:
            return _told(asked, "failed", str(e))

    async def _kept(self, asked: NodeFile, permit: Said) -> FileThere:
        _check(asked, permit)
        want = await asyncio.to_thread(_wanted, asked)  # users may be at some server
        due = await asyncio.to_thread(self._look, asked, want)
        if due == "write":
            if why := await self._run(asked, asked.preinstall_cmd, permit):
                return _told(asked, "failed", f"It is not written, since its preinstall command failed ({why}).")
            due = await asyncio.to_thread(self._write, asked, want, permit)  # it looks again: a command takes its time
        if due == "keep":
            return _told(asked, "kept", _CHANGED)
        if due in ("write", "run"):
            if why := await self._run(asked, asked.postinstall_cmd, permit):
                return _told(asked, "failed", f"It is written, but its postinstall command failed ({why}).")
            ours = self._record.book.get(asked.path)
            if ours and ours.pending:
                await asyncio.to_thread(self._record.note, asked.path, Written(ours.seen))
        return _told(asked, "written" if asked.path in self._record.book else "unchanged")

    def _look(self, asked: NodeFile, want: Seen) -> Step:
        with spot(asked.path, self._never, make=False) as there:
            return step(asked, want, there.seen() if there else None, self._record.book.get(asked.path))

    def _write(self, asked: NodeFile, want: Seen, permit: Said) -> Step:
        _check(asked, permit)
        with spot(asked.path, self._never, make=True) as there:
            assert there is not None, "its directory was made"
            seen, before = there.seen(), self._record.book.get(asked.path, Written(()))
            due = step(asked, want, seen, before)
            if due != "write":
                return due
            pending, ours = bool(asked.postinstall_cmd), seen is not None and seen in before.seen
            still = (seen,) if seen and ours else ()  # until it is replaced
            self._record.note(asked.path, Written((*still, want), pending))
            _check(asked, permit)
            there.write(asked.text.encode(), want)
            self._record.note(asked.path, Written((want,), pending))
        log.info("conf file %s is written", asked.path)
        return due

    async def _run(self, asked: NodeFile, what: str, permit: Said) -> str:
        """Why it failed, where that counts; what is to be run in this case has been."""
        why = await self._ran(asked, what, permit) if what else ""
        if not why or asked.ignore_cmd_errors:
            return ""
        log.warning("conf file %s: `%s` failed: %s", asked.path, what, why)
        if asked.error_cmd and (worse := await self._ran(asked, asked.error_cmd, permit)):
            log.warning("conf file %s: so did `%s`: %s", asked.path, asked.error_cmd, worse)
        return why

    async def _ran(self, asked: NodeFile, what: str, permit: Said) -> str:
        _check(asked, permit)
        why = await command.run(
            what, asked.path, self._record.lock, self._group(), self._patience_s,
            lambda: not refusal(asked, permit()),
        )  # fmt: skip
        _check(asked, permit)
        return why

    async def let_go(self, path: str, permit: Said) -> FileThere | None:
        """Take away a file that we wrote and that is not asked for any more; None: it is no business of ours now."""
        try:
            return await asyncio.to_thread(self._let_go, path, permit)
        except Unfit:  # it is something else by now
            return FileThere(path, "", "left", _LEFT)
        except (OSError, ViniError) as e:
            why = e.strerror if isinstance(e, OSError) else str(e)
            return FileThere(path, "", "left", f"It is not asked for any more, but can't be removed: {why}.")

    def _let_go(self, path: str, permit: Said) -> FileThere | None:
        if outside(path, permit().below):
            why = "It is not asked for any more, but this machine does not permit (any more) to remove it."
            return FileThere(path, "", "left", why)
        with spot(path, self._never, make=False) as there:
            if there is not None:
                there.clear()
                seen = there.seen()
                if seen is not None and seen not in self._record.book[path].seen:
                    return FileThere(path, "", "left", _LEFT)
                if seen is not None:
                    there.remove()
                    log.info("conf file %s is removed: the central does not ask for it any more", path)
        self._record.note(path, None)
        return None


class _Unpermitted(Exception):
    """This machine does not take it (any more); str() is a sentence."""


def _check(asked: NodeFile, permit: Said) -> None:
    if why := refusal(asked, permit()):
        raise _Unpermitted(why)


def _told(asked: NodeFile, state: FileState, why: str = "") -> FileThere:
    return FileThere(asked.path, asked.version, state, why)


def _wanted(asked: NodeFile) -> Seen:
    """Raises ViniError where this machine has no such user or group."""
    digest = hashlib.sha256(asked.text.encode()).hexdigest()
    uid = _number("user", asked.owner, lambda name: pwd.getpwnam(name).pw_uid)
    gid = _number("group", asked.group, lambda name: grp.getgrnam(name).gr_gid)
    return Seen(digest, asked.mode, uid, gid)


def _number(what: str, name: str, find: Callable[[str], int]) -> int:
    try:
        return find(name)
    except KeyError as e:
        raise ViniError(f"This machine has no {what} {name!r}; make one there, or name another.") from e
