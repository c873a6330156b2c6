"""Processes of slivers: started in their namespace, marked by a cgroup, kept running.

They are nobody's children for long: an agent that is killed or upgraded leaves them running and
finds them again by their cgroup and by the record that was written before they were started.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from vini.model import AnyObject, Key, Process, Ready, Value
from vini.node import cgroup, netns, sliver_log
from vini.node.broker import door
from vini.node.container import config, crun
from vini.node.drivers import Failures
from vini.node.drivers.contents import enter
from vini.node.drivers.halt import halted, halts
from vini.node.drivers.questions import Answer, Questions
from vini.node.place import Place
from vini.node.process_log import TOLD, ProcessLog

log = logging.getLogger("vini.agent")
_NODE = str(Path(__file__).parents[1])
_ROOT = "{root}"
_GRACE_S = 1.0  # between asking a process to end and ending it
_YOUNG_S = 60.0  # who ends sooner than that after its start has failed at it
_SETTLES_S = 1.0  # how long what has no readiness probe must have lived
_PATIENCE_S = 2.0  # for reloads, of a pass; what takes longer goes on, and the next pass hears of it
_UNKNOWN = "?"  # the configuration of a process that is being told of another one
_OTHERS = ("exec", crun.GROUP)  # groups of a sliver that are no process of it
_READY, _RELOAD = "ready", "reload"
Life = tuple[int, Ready]  # of a process, by its id, and what it is asked


class Started(Value, frozen=True):
    """What this agent remembers of a start, only to wait longer after each failure and to tell its cause."""

    process: Process
    at: float  # time.monotonic()
    failures: int


class ProcessDriver:
    """Processes as objects."""

    kinds = (Process,)

    def __init__(self, place: Place):
        self._place = place
        self._started: dict[Key, Started] = {}
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._questions = Questions(self._mark)
        self._heard: dict[Key, int] = {}  # how long a log was that had no `reload_on`, bytes
        self._answered: dict[Key, Life] = {}  # who already answered its readiness probe
        self._hung: dict[Key, tuple[Life, str]] = {}  # whose last probe had no answer in time
        self._refused: dict[Key, tuple[Process, str]] = {}  # why its last reload failed

    # --- observe ------------------------------------------------------------------------------

    def observe(self, namespaces: Collection[str]) -> frozenset[AnyObject]:
        """Those that live (or, run once, have ended), as recorded at their start."""
        self._reap()
        self._questions.poll()
        self._forget_ended()
        out: set[AnyObject] = set()
        for ns in namespaces:
            group = cgroup.of(self._place, ns)
            names = [p.stem for p in self._place.sliver(ns).glob("*.process")]
            living = {d.name: cgroup.pids(d) for d in group.glob("*/")} if names or group.is_dir() else {}
            for name in {*names, *(n for n, pids in living.items() if pids and n not in _OTHERS)}:
                seen = self._observe_one(ns, name, living.get(name, []))
                if seen:
                    out.add(seen)
        return frozenset(out)

    def _observe_one(self, ns: str, name: str, pids: list[int]) -> Process | None:
        record = self._file(ns, name, "process")
        try:
            recorded = msgspec.json.decode(record.read_bytes(), type=Process)
        except (FileNotFoundError, msgspec.DecodeError):
            recorded = Process(ns, name, ())  # alive without a record: never what is wanted, so it will go
        if not pids:
            return recorded if recorded.once and self._file(ns, name, "status").exists() else None
        ProcessLog(self._file(ns, name, "log")).trim()
        if not self._lives_here(ns, pids[0]):
            return Process(ns, name, ())  # in a namespace of that name that is no more
        return msgspec.structs.replace(recorded, config=_UNKNOWN) if self._complains(recorded) else recorded

    def _complains(self, o: Process) -> bool:
        """Whether its log has had `reload_on` since it was started or last told to reload.

        A log that is as long as when it had not is not read again.
        """
        if not o.reload_on:
            return False
        with suppress(FileNotFoundError):
            log = self._log(o)
            length = log.length()
            if self._heard.get(o.key) != length:
                if o.reload_on in log.newest():
                    return True
                self._heard[o.key] = length
        return False

    def _lives_here(self, ns: str, pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/ns/net").stat().st_ino == self._place.pin(ns).stat().st_ino
        except FileNotFoundError:
            return False

    def health(self, processes: Iterable[Process]) -> tuple[dict[str, str], dict[str, str]]:
        """Namespace -> why: for processes that don't do their work yet, and for those that have failed at it.

        Told from what is known now; those that must be asked are, and `awaited` tells when they have answered.
        """
        self._questions.poll()
        unready: dict[str, str] = {}
        failed: dict[str, str] = {}
        frozen = halts(self._place)  # can't answer
        for p in processes:
            if p.ns in frozen:
                continue
            if why := self._silent(p):
                unready.setdefault(p.ns, why)
            elif why := self._ended_badly(p):
                failed.setdefault(p.ns, why)
        for started in self._started.values():
            if started.process.ns not in frozen and (why := self._keeps_ending(started)):
                failed.setdefault(started.process.ns, why)
        return unready, failed

    def _keeps_ending(self, started: Started) -> str:
        """Why it isn't there: of one that ended, was started again, and ended.  It may be tried again by now."""
        p = started.process
        if not started.failures or time.monotonic() - started.at > _YOUNG_S or p.once:
            return ""
        return "" if cgroup.pids(cgroup.of(self._place, p.ns, p.name)) else self._ended_soon(p)

    def _ended_soon(self, p: Process) -> str:
        return f"{_called(p)} ended soon after its start; its last lines: {self._log(p).last_lines()}"

    def _ended_badly(self, p: Process) -> str:
        status = self._file(p.ns, p.name, "status").read_text().strip() if p.once else "0"
        if status in ("", "0"):
            return ""
        return f"`{_ran(p)}` ended with status {status}; its last lines: {self._log(p).last_lines()}"

    def _silent(self, p: Process) -> str:
        if p.once and not self._file(p.ns, p.name, "status").exists():
            return f"`{_ran(p)}` still runs"
        if (_RELOAD, *p.key) in self._questions.unheard():
            return f"{p.name} is being told of its new configuration"
        if p.ready is None:
            young = not p.once and p.key in self._started and time.monotonic() - self._started[p.key].at < _SETTLES_S
            return f"{_called(p)} was started this moment; it is seen whether it lives on" if young else ""
        pids = cgroup.pids(cgroup.of(self._place, p.ns, p.name))
        if not pids:
            return f"{p.name} is not running"
        life = (pids[0], p.ready)
        return "" if self._answered.get(p.key) == life else self._probed(p, p.ready, life)

    def _probed(self, p: Process, ready: Ready, life: Life) -> str:
        """Why it is not ready, as far as its probe has told; the probe is asked (again) where it isn't being asked."""
        key = (_READY, *p.key)
        if self._hung.get(p.key, (life,))[0] != life:
            del self._hung[p.key]
        answer = self._questions.answer(key, life)
        if answer is None:
            command = enter(self._place, p.ns, self._filled(p, ready.argv))
            self._questions.ask(key, life, command, ready.within_s, again=p.key in self._hung)
        elif answer.late:
            why = (
                f"{p.name} runs, but its readiness probe `{shlex.join(ready.argv)}` had no answer within "
                f"{ready.within_s:g} s; the last lines of its log: {self._log(p).last_lines()}"
            )
            if p.key not in self._hung:
                log.warning("%s: %s", p.ns, why)
            self._hung[p.key] = (life, why)
        else:
            self._hung.pop(p.key, None)
            if len(re.findall(ready.expect, answer.out, re.MULTILINE)) >= ready.times:
                self._answered[p.key] = life
                return ""
        return self._hung[p.key][1] if p.key in self._hung else f"{p.name} runs but does not answer yet"

    def awaited(self, namespaces: Collection[str]) -> bool:
        """Whether processes of these slivers are being asked for their readiness, or told of a change, in time."""
        return self._questions.awaited(namespaces)

    def being_told(self, namespaces: Collection[str]) -> set[str]:
        """Those of these slivers in which the end of a process's reload has not been told of."""
        return {key[2] for key in self._questions.unheard() if key[0] == _RELOAD and key[2] in namespaces}

    def being_asked(self, namespaces: Collection[str]) -> bool:
        """Whether processes of these slivers were asked for their readiness since `health` told of it."""
        return any(key[0] == _READY and key[2] in namespaces for key in self._questions.unheard())

    def asking(self) -> bool:
        """Whether any process is; then `awaited` or `observe` should be called soon.  From any thread."""
        return bool(self._questions.without_answer())

    def close(self) -> None:
        """End what is being asked."""
        self._questions.close()

    def _mark(self, ns: str, pid: int) -> None:
        """A command that asks falls with its sliver: else one that hangs would keep its namespace alive."""
        with suppress(OSError):  # it has ended already
            (cgroup.of(self._place, ns) / "cgroup.procs").write_text(str(pid))

    # --- change -------------------------------------------------------------------------------

    def ensure(self, objects: Sequence[AnyObject]) -> Failures:
        """Start them, or tell them to reload; one that keeps failing is started ever more rarely.

        Who takes long over a reload is left to it: `awaited` tells when it is over, and the next call its result.
        """
        failures: Failures = {}
        told: list[Process] = []
        for o in objects:
            assert isinstance(o, Process)
            try:
                if not self._ensure_one(o):
                    told.append(o)
            except (OSError, subprocess.SubprocessError, _Waits) as e:
                failures[o.key] = str(e) if isinstance(e, _Waits) else _cannot_start(o, e)
        self._questions.wait([(_RELOAD, *o.key) for o in told], _PATIENCE_S)
        return failures | {o.key: why for o in told if (why := self._reloaded(o))}

    def _ensure_one(self, o: Process) -> bool:
        """False where it is being told to reload."""
        if (how := halted(self._place, o.ns)) != "running":
            raise _Waits(f"{_called(o)} can't be changed while its sliver is {how}.")
        pids = cgroup.pids(cgroup.of(self._place, o.ns, o.name))
        if pids:
            old = self._observe_one(o.ns, o.name, pids)
            if old == o:
                return True
            if old and o.argv == old.argv:
                if old.config != o.config:
                    self._reload(o)
                    return False
                self._record(o)
                return True
            self._stop([o])
        self._wait_longer_each_time(o)
        self._start(o)
        return True

    def _reload(self, o: Process) -> None:
        """From now on, and after a crash of ours too, nobody knows by what configuration it runs."""
        if self._complains(o):
            self._log(o).part(TOLD).close()
        self._record(msgspec.structs.replace(o, config=_UNKNOWN))
        if self._refused.get(o.key, (o,))[0] != o:
            del self._refused[o.key]
        command = enter(self._place, o.ns, self._filled(o, o.reload))
        again = o.key in self._refused
        self._questions.ask((_RELOAD, *o.key), o, command, o.reload_within_s, again=again)

    def _reloaded(self, o: Process) -> str:
        """Why it runs by another configuration; "" where it doesn't, or may take this one yet."""
        answer = self._questions.answer((_RELOAD, *o.key), o)
        if answer and answer.status == 0:
            self._refused.pop(o.key, None)
            self._record(o)
            return ""
        if answer:
            self._refused[o.key] = (o, self._why_refused(o, answer))
        return self._refused[o.key][1] if o.key in self._refused else ""

    def _why_refused(self, o: Process, answer: Answer) -> str:
        if answer.late:
            return (
                f"{o.name} did not take its new configuration within {o.reload_within_s:g} s; "
                f"the last lines of its log: {self._log(o).last_lines()}"
            )
        said = (answer.err or answer.out).strip().splitlines()[-3:]
        return f"{o.name} refused its new configuration: {' / '.join(said)}"

    def _its_turn(self, o: Process) -> str:
        """Shell text that waits: a command begins when the one before it has ended.

        It waits as a process of its own, not in a later pass: so one pass starts all there is to start.
        """
        text = ""
        for name in o.after:
            before = self._observe_one(o.ns, name, cgroup.pids(cgroup.of(self._place, o.ns, name)))
            if before and before.once:
                text += f"until [ -e {shlex.quote(str(self._file(o.ns, name, 'status')))} ]; do sleep 0.05; done; "
        return text

    def _wait_longer_each_time(self, o: Process) -> None:
        now = time.monotonic()
        last = self._started.get(o.key)
        if (
            last is None or last.process != o or now - last.at > _YOUNG_S
        ):  # another command line or configuration starts anew
            self._started[o.key] = Started(o, now, 0)
            return
        pause = min(30.0, 0.25 * 2**last.failures) if last.failures else 0.0
        if now - last.at < pause:
            raise _Waits(self._ended_soon(o))
        self._started[o.key] = Started(o, now, last.failures + 1)

    def _start(self, o: Process) -> None:
        """The shell puts itself into the cgroup before it becomes the command: no unmarked moment.

        So do we, so that it is seen from now on, however slow the shell is.
        """
        group = cgroup.of(self._place, o.ns, o.name)
        group.mkdir(parents=True, exist_ok=True)
        run = self._place.sliver(o.ns)
        door.furnish(self._place, o.ns)  # what asks the broker at once finds the client, which waits for the socket
        if (short := self._place.sockets(o.ns)) != run and not short.is_symlink():
            short.symlink_to(run)
        self._file(o.ns, o.name, "status").unlink(missing_ok=True)
        self._record(o)
        argv = self._entering(o)
        join = f"echo 0 > {group}/cgroup.procs; {self._its_turn(o)}"
        rest = f'"$@"; echo $? > {shlex.quote(str(self._file(o.ns, o.name, "status")))}' if o.once else 'exec "$@"'
        with self._log(o).part() as log, netns.inside(self._place.pin(o.ns)):
            child = subprocess.Popen(
                ["sh", "-c", join + rest, "sh", *argv],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                cwd="/", env=_environment(o) | {"VINI_SLIVER_DIR": self._directory(o)},
            )  # fmt: skip
        self._children[child.pid] = child
        sliver_log.append(self._place, o.ns, sliver_log.BOOT, f"{_called(o)} was started")
        self._questions.drop_where(lambda key: key[1:] == o.key)  # they were for the one before it
        with suppress(OSError):  # it has ended already
            (group / "cgroup.procs").write_text(str(child.pid))

    def remove(self, objects: Sequence[AnyObject]) -> Failures:
        """End them: first asked, so that a routing daemon takes its routes along; then made to."""
        return self._stop([o for o in objects if isinstance(o, Process)])

    def _stop(self, processes: Sequence[Process]) -> Failures:
        groups = {p.key: cgroup.of(self._place, p.ns, p.name) for p in processes}
        for group in groups.values():
            cgroup.send(group, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_S
        while any(map(cgroup.populated, groups.values())) and time.monotonic() < deadline:
            self._reap()
            time.sleep(0.005)
        failures: Failures = {}
        for p in processes:
            cgroup.kill(groups[p.key])
            if not cgroup.delete(groups[p.key]):
                failures[p.key] = f"{p.name} of {p.ns} would not die (a process in uninterruptible sleep?)."
                continue
            for kind in ("process", "status"):
                self._file(p.ns, p.name, kind).unlink(missing_ok=True)
            self._forget([p.key])
        return failures

    def _forget(self, keys: Collection[Key]) -> None:
        """Of processes that are no more, or that are others of the same name by now."""
        for memory in (self._answered, self._heard, self._hung, self._refused, self._started):
            for key in memory.keys() & keys:
                del memory[key]
        self._questions.drop_where(lambda key: key[1:] in keys)

    def _forget_ended(self) -> None:
        """Processes of slivers that are no more: what falls with its namespace is not removed one by one."""
        if known := {*self._started, *self._answered, *self._heard, *self._hung, *self._refused}:
            slivers: set[str] = set()
            with suppress(FileNotFoundError), os.scandir(self._place.sliver("")) as entries:
                slivers = {entry.name for entry in entries}
            if gone := {key for key in known if key[1] not in slivers}:
                self._forget(gone)

    # --- records ------------------------------------------------------------------------------

    def _file(self, ns: str, name: str, kind: str) -> Path:
        return self._place.sliver(ns) / f"{name}.{kind}"

    def _log(self, o: Process) -> ProcessLog:
        return ProcessLog(self._file(o.ns, o.name, "log"))

    def _record(self, o: Process) -> None:
        at = self._file(o.ns, o.name, "process")
        new = at.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(o))
        new.rename(at)

    def _entering(self, o: Process) -> list[str]:
        """Its command line, which enters its container or its private root where that is said."""
        at = o.argv.index(_ROOT) if _ROOT in o.argv else -1
        outside, within = self._filled(o, o.argv[: max(at, 0)]), self._filled(o, o.argv[at + 1 :])
        if o.contained:
            return [*outside, *crun.enter(self._place, o.ns, within)]
        return [*outside, *(enter(self._place, o.ns, within) if o.rooted else within)]

    def _directory(self, o: Process) -> str:
        """Its run directory, as it sees it."""
        return config.RUN if o.contained else str(self._place.sockets(o.ns))

    def _filled(self, o: Process, argv: Sequence[str]) -> list[str]:
        run = self._directory(o)
        return [a.replace("{run}", run).replace("{python}", sys.executable).replace("{node}", _NODE) for a in argv]

    def _reap(self) -> None:
        for pid, child in list(self._children.items()):
            if child.poll() is not None:
                del self._children[pid]


def _called(o: Process) -> str:
    """What its user knows it by: a daemon by its name, a command by what it runs."""
    return o.name if o.ready or not o.argv or o.argv[-1] == f"{{run}}/{o.name}" else f"`{o.argv[-1]}`"


def _cannot_start(o: Process, error: Exception) -> str:
    why = (isinstance(error, OSError) and error.strerror) or error
    return f"The process {o.name} of sliver {o.ns} can't be started: {why}."


class _Waits(Exception):
    """Why a process isn't running now, as a sentence."""


def _environment(o: Process) -> dict[str, str]:
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8", "VINI_SLIVER": o.ns}


def _ran(o: Process) -> str:
    """What it runs, as its user wrote it."""
    return o.argv[-1].removeprefix("{run}/")
