"""Processes of slivers: started in their namespace, marked by a cgroup, kept running.

They are nobody's children for long: an agent that is killed or upgraded leaves them running and
finds them again by their cgroup and by the record that was written before they were started.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from vini.model import AnyObject, Key, Process, Ready, Value
from vini.node import cgroup, netns
from vini.node.drivers import Failures
from vini.node.drivers.contents import enter
from vini.node.place import Place

_GRACE_S = 1.0  # between asking a process to end and ending it
_LOG_LIMIT = 1 << 20  # bytes, of one process; beyond it the log is begun anew, the old one kept beside it
_BEGIN = "--- started "  # a line of this in a log parts one life of a process from the next
_PROBE_TIMEOUT_S = 5.0
_RELOAD_TIMEOUT_S = 30.0


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
        self._answered: dict[Key, tuple[int, Ready]] = {}  # who already answered its readiness probe

    # --- observe ------------------------------------------------------------------------------

    def observe(self, namespaces: Collection[str]) -> frozenset[AnyObject]:
        """Those that live (or, run once, have ended), as recorded at their start."""
        self._reap()
        out: set[AnyObject] = set()
        for ns in namespaces:
            group = cgroup.of(self._place, ns)
            names = [p.stem for p in self._place.sliver(ns).glob("*.process")]
            living = {d.name: cgroup.pids(d) for d in group.glob("*/")} if names or group.is_dir() else {}
            for name in {*names, *(n for n, pids in living.items() if pids and n != "exec")}:
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
        self._trim(self._file(ns, name, "log"))
        if not self._lives_here(ns, pids[0]):
            return Process(ns, name, ())  # in a namespace of that name that is no more
        return recorded

    def _trim(self, log: Path) -> None:
        """Keep a long log's end beside it and begin it anew; it is written in append mode, so its writer goes on."""
        with suppress(FileNotFoundError):
            if log.stat().st_size > _LOG_LIMIT:
                shutil.copyfile(log, log.with_suffix(".log.1"))
                os.truncate(log, 0)

    def _lives_here(self, ns: str, pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/ns/net").stat().st_ino == self._place.netns(ns).stat().st_ino
        except FileNotFoundError:
            return False

    def health(self, processes: Iterable[Process]) -> tuple[dict[str, str], dict[str, str]]:
        """Namespace -> why: for processes that don't do their work yet, and for those that have failed at it."""
        unready: dict[str, str] = {}
        failed: dict[str, str] = {}
        for p in processes:
            if why := self._silent(p):
                unready.setdefault(p.ns, why)
            elif why := self._ended_badly(p):
                failed.setdefault(p.ns, why)
        return unready, failed

    def _ended_badly(self, p: Process) -> str:
        status = self._file(p.ns, p.name, "status").read_text().strip() if p.once else "0"
        if status in ("", "0"):
            return ""
        return f"`{p.argv[-1]}` ended with status {status}; its last lines: {self._last_lines(p)}"

    def _silent(self, p: Process) -> str:
        if p.once and not self._file(p.ns, p.name, "status").exists():
            return f"`{p.argv[-1]}` still runs"
        if p.ready is None:
            return ""
        pids = cgroup.pids(cgroup.of(self._place, p.ns, p.name))
        if pids and self._answered.get(p.key) == (pids[0], p.ready):
            return ""
        command = enter(self._place, p.ns, self._filled(p, p.ready.argv))
        try:
            out = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S).stdout
        except subprocess.TimeoutExpired:
            out = ""
        if len(re.findall(p.ready.expect, out, re.MULTILINE)) < p.ready.times:
            return f"{p.name} runs but does not answer yet"
        if pids:
            self._answered[p.key] = (pids[0], p.ready)
        return ""

    # --- change -------------------------------------------------------------------------------

    def ensure(self, objects: Sequence[AnyObject]) -> Failures:
        """Start them, or tell them to reload; one that keeps failing is started ever more rarely."""
        failures: Failures = {}
        for o in objects:
            assert isinstance(o, Process)
            try:
                self._ensure_one(o)
            except (OSError, subprocess.SubprocessError, _Waits) as e:
                failures[o.key] = str(e) if isinstance(e, _Waits) else _cannot_start(o, e)
        return failures

    def _ensure_one(self, o: Process) -> None:
        pids = cgroup.pids(cgroup.of(self._place, o.ns, o.name))
        if pids:
            old = self._observe_one(o.ns, o.name, pids)
            if old == o:
                return
            if old and o.argv == old.argv:
                if old.config != o.config:
                    self._reload(o)
                self._record(o)
                return
            self._stop([o])
        self._wait_longer_each_time(o)
        self._start(o)

    def _reload(self, o: Process) -> None:
        command = enter(self._place, o.ns, self._filled(o, o.reload))
        done = subprocess.run(command, capture_output=True, text=True, timeout=_RELOAD_TIMEOUT_S)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()[-3:]
            raise _Waits(f"{o.name} refused its new configuration: {' / '.join(said)}")

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
        if last is None or last.process != o or now - last.at > 60:  # another command line or configuration starts anew
            self._started[o.key] = Started(o, now, 0)
            return
        pause = min(30.0, 0.25 * 2**last.failures) if last.failures else 0.0
        if now - last.at < pause:
            raise _Waits(f"{o.name} ended soon after its start; its last lines: {self._last_lines(o)}")
        self._started[o.key] = Started(o, now, last.failures + 1)

    def _start(self, o: Process) -> None:
        """The shell puts itself into the cgroup before it becomes the command: no unmarked moment.

        So do we, so that it is seen from now on, however slow the shell is.
        """
        group = cgroup.of(self._place, o.ns, o.name)
        group.mkdir(parents=True, exist_ok=True)
        run = self._place.sliver(o.ns)
        run.mkdir(parents=True, exist_ok=True)
        if (short := self._place.sockets(o.ns)) != run and not short.is_symlink():
            short.symlink_to(run)
        self._file(o.ns, o.name, "status").unlink(missing_ok=True)
        self._record(o)
        argv = enter(self._place, o.ns, self._filled(o, o.argv)) if o.rooted else self._filled(o, o.argv)
        join = f"echo 0 > {group}/cgroup.procs; {self._its_turn(o)}"
        rest = f'"$@"; echo $? > {shlex.quote(str(self._file(o.ns, o.name, "status")))}' if o.once else 'exec "$@"'
        with self._log(o) as log, netns.inside(self._place.netns(o.ns)):
            child = subprocess.Popen(
                ["sh", "-c", join + rest, "sh", *argv],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                cwd="/", env=_environment(o),
            )  # fmt: skip
        self._children[child.pid] = child
        with suppress(OSError):  # it has ended already
            (group / "cgroup.procs").write_text(str(child.pid))

    def _log(self, o: Process) -> BinaryIO:
        at = self._file(o.ns, o.name, "log")
        log = at.open("ab")
        log.write(f"{_BEGIN}{time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())
        log.flush()
        return log

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
            self._answered.pop(p.key, None)
            self._started.pop(p.key, None)
        return failures

    # --- records ------------------------------------------------------------------------------

    def _file(self, ns: str, name: str, kind: str) -> Path:
        return self._place.sliver(ns) / f"{name}.{kind}"

    def _record(self, o: Process) -> None:
        at = self._file(o.ns, o.name, "process")
        new = at.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(o))
        new.rename(at)

    def _filled(self, o: Process, argv: Sequence[str]) -> list[str]:
        return [a.replace("{run}", str(self._place.sockets(o.ns))) for a in argv]

    def _last_lines(self, o: Process, n: int = 3) -> str:
        try:
            text = self._file(o.ns, o.name, "log").read_text(errors="replace")
        except FileNotFoundError:
            return "(none)"
        latest = text.rpartition(_BEGIN)[2].splitlines()[1:] if _BEGIN in text else text.splitlines()
        return " / ".join(latest[-n:]).strip() or "(none)"

    def _reap(self) -> None:
        for pid, child in list(self._children.items()):
            if child.poll() is not None:
                del self._children[pid]


def _cannot_start(o: Process, error: Exception) -> str:
    why = (isinstance(error, OSError) and error.strerror) or error
    return f"The process {o.name} of sliver {o.ns} can't be started: {why}."


class _Waits(Exception):
    """Why a process isn't running now, as a sentence."""


def _environment(o: Process) -> dict[str, str]:
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8", "VINI_SLIVER": o.ns}
