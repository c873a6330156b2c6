"""What daemons are asked or told by commands: several at once, each for a limited time, in one thread.

A daemon that hangs makes whoever asks it hang too; so nobody waits here: a question is put, and its
answer is fetched when there is one.  No threads: they would cost the rest of a pass more than they save.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

from vini.model import Key, Value

_AT_ONCE = 8  # that are in the first half of their time: what takes longer hangs, and costs no processor
_IN_ALL = 64
_READ = 1 << 16  # bytes
_KEPT = 1 << 20  # bytes of an answer; what comes after is not looked at
_TICK_S = 0.02  # between looks whether a command ended, where the kernel has no pidfd_open(2) (Linux 5.3)


class Answer(Value, frozen=True):
    """How a command ended."""

    status: int
    out: str
    err: str
    late: bool  # it was ended since its time was over


class Question:
    """A command that is about to run, runs, or has ended."""

    def __init__(self, about: object, argv: Sequence[str], limit_s: float, again: bool):
        self.about, self.argv, self.limit_s, self.again = about, argv, limit_s, again
        self.child: subprocess.Popen[bytes] | None = None
        self.started = 0.0  # time.monotonic()
        self.said: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self.fds: list[int] = []
        self.answer: Answer | None = None


class Questions:
    """All that one driver asks.  `mark` is told the sliver and process id of each command as it starts.

    A question's key is what it is for, and the key of a process: (kind, "process", namespace, name).
    """

    def __init__(self, mark: Callable[[str, int], None]):
        self._mark = mark
        self._selector = selectors.DefaultSelector()
        self._all: dict[Key, Question] = {}
        self._ended: list[subprocess.Popen[bytes]] = []  # by us, and not gone yet

    def ask(self, key: Key, about: object, argv: Sequence[str], limit_s: float, *, again: bool = False) -> None:
        """Put a question.  Another of that key is dropped, unless it is about the same: then that one stands.

        With `again`, the same had no good answer before, so that nobody need wait for this one.
        """
        old = self._all.get(key)
        if old and old.about == about:
            return
        self.drop(key)
        self._all[key] = Question(about, argv, limit_s, again)
        self.poll()

    def answer(self, key: Key, about: object) -> Answer | None:
        """The answer, once; None while there is none, or none about this."""
        question = self._all.get(key)
        if question is None or question.answer is None or question.about != about:
            return None
        del self._all[key]
        return question.answer

    def without_answer(self) -> set[Key]:
        """Those that have none yet.  From any thread."""
        return {key for key, q in list(self._all.items()) if q.answer is None}

    def unheard(self) -> set[Key]:
        """Those of which nobody fetched the answer, be there one or not; but for those asked `again`."""
        return {key for key, q in self._all.items() if not q.again}

    def awaited(self, namespaces: Collection[str]) -> bool:
        """Whether one about these slivers has no answer yet that is worth waiting for."""
        self.poll()
        return any(q.answer is None and not q.again and key[2] in namespaces for key, q in self._all.items())

    def wait(self, keys: Collection[Key], patience_s: float) -> None:
        """Until these have answers (those asked `again` are not waited for), or that time is over."""
        end = time.monotonic() + patience_s
        while any(q.answer is None and not q.again for k in keys if (q := self._all.get(k))):
            left = end - time.monotonic()
            if left <= 0:
                return
            self.poll(min(_TICK_S, left))

    def drop(self, key: Key) -> None:
        """Nobody wants to know any more; the command is ended."""
        question = self._all.pop(key, None)
        if question:
            self._close(question, kill=True)

    def drop_where(self, unwanted: Callable[[Key], bool]) -> None:
        """The same for many."""
        for key in [k for k in self._all if unwanted(k)]:
            self.drop(key)

    def poll(self, wait_s: float = 0.0) -> None:
        """Read what was said, fetch answers, end what takes too long, start what waits its turn."""
        for ready, _ in self._selector.select(wait_s):
            if ready.data is not None:
                self._read(ready.fd, ready.data)
        now = time.monotonic()
        for question in [q for q in self._all.values() if q.child and q.answer is None]:
            self._look(question, now)
        self._ended = [c for c in self._ended if c.poll() is None]
        self._start_next(now)

    def _look(self, question: Question, now: float) -> None:
        assert question.child
        status = question.child.poll()
        late = status is None and now > question.started + question.limit_s
        if status is None and not late:
            return
        for stream in (question.child.stdout, question.child.stderr):
            if stream and not stream.closed and stream.fileno() in question.fds:
                self._read(stream.fileno(), question.said[0 if stream is question.child.stdout else 1])
        self._close(question, kill=late)
        out, err = (b.decode(errors="replace") for b in question.said)
        question.answer = Answer(status if status is not None else -signal.SIGKILL, out, err, late)

    def _start_next(self, now: float) -> None:
        running = [q for q in self._all.values() if q.child and q.answer is None]
        young = sum(now - q.started < q.limit_s / 2 for q in running)
        waiting = [(k, q) for k, q in self._all.items() if q.child is None and q.answer is None]
        for key, question in waiting[: max(0, min(_AT_ONCE - young, _IN_ALL - len(running)))]:
            self._start(key, question)

    def _start(self, key: Key, question: Question) -> None:
        try:
            child = subprocess.Popen(
                question.argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                start_new_session=True, cwd="/",
            )  # fmt: skip
        except OSError as e:
            question.answer = Answer(127, "", str(e.strerror), late=False)
            return
        question.child, question.started = child, time.monotonic()
        self._mark(key[2], child.pid)
        for stream, said in zip((child.stdout, child.stderr), question.said, strict=True):
            assert stream
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream.fileno(), selectors.EVENT_READ, said)
            question.fds.append(stream.fileno())
        with suppress(OSError):
            fd = os.pidfd_open(child.pid)
            self._selector.register(fd, selectors.EVENT_READ, None)
            question.fds.append(fd)

    def _read(self, fd: int, said: bytearray) -> None:
        """All that is there now; at its end it is not listened to any more."""
        with suppress(BlockingIOError):
            while block := os.read(fd, _READ):
                said += block[: _KEPT - len(said)]
                if len(said) >= _KEPT:
                    return  # a command that never stops to talk must not keep us from the others
            with suppress(KeyError):
                self._selector.unregister(fd)

    def _close(self, question: Question, *, kill: bool) -> None:
        """Let go of a command; it and all that it started in its process group are ended where it still runs."""
        child = question.child
        if child is None:
            return
        if kill and question.answer is None and child.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            self._ended.append(child)
        for fd in question.fds:
            with suppress(KeyError):
                self._selector.unregister(fd)
        for stream in (child.stdout, child.stderr):
            if stream:
                stream.close()
        for fd in question.fds[2:]:
            os.close(fd)
        question.fds.clear()

    def close(self) -> None:
        """End all that still runs."""
        self.drop_where(lambda _: True)
        for child in self._ended:
            with suppress(subprocess.TimeoutExpired):
                child.wait(1.0)
        self._selector.close()
