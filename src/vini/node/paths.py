"""Whether the paths to other nodes are alive that virtual links ride on.

In the spirit of BFD (RFC 5880): many small probes, and a path is down when several in a row stay without an answer.
One pair of addresses is probed, however many links ride on it.

What answers is the other node's *kernel*, to an echo request (RFC 792, RFC 4443), and not its agent.  So:

- an agent that is dead, or that is being upgraded, fails no link: its slices run on without it;
- an answer shows both directions at once: a request that does not arrive, and an answer that does not, are the same
  silence.  Each node asks for itself, so a failure of one direction fails a link at both of its ends, and no message of
  ours has to say so.  There is no protocol between agents, and none that another version could speak otherwise.

**A flood is no failure.**  Who fills the network between two nodes costs them answers, and yet packets arrive.  So a
path that would be down is not as long as packets of the other node do come (`arrivals`).  That shows one direction; of
the other one tells a note in each request: whether its sender hears anything of us.  Who is told that he is not heard
judges by answers alone.  So a cut of one direction fails both ends as before.  RFC 5880 has the same note in the field
Your Discriminator.  A kernel answers to any note; an agent that knows of none just hears and tells less.

**Our own lateness is nobody's silence.**  Answers are read before anything is judged, however late we are.  Time that
we did not run does not count, and after a long while of that all is asked anew.

A path that has never answered is not judged: a network that lets no echo requests through mirrors nothing.  What is
known of paths is on disk, so an agent that starts assumes that they are as they were.  What it sees is the path of echo
requests.  Where a network spreads packets over several ways, tunnels may take another one.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec

from vini.model import Value, Way
from vini.node.arrivals import Arrivals, Heard
from vini.node.echo import IcmpEcho

log = logging.getLogger("vini.agent")
_FORGET = 4096  # paths that nothing rides on any more are remembered up to so many


class Rhythm(Value, frozen=True):
    """How often, and how long, in s."""

    every: float = 0.2  # between two probes, at most: each time up to a quarter less, so that nodes don't march in step
    soon: float = 0.03  # the same while a path is silent and not yet down: so a network that loses much is no failure
    doubt: float = 0.3  # without an answer: silent
    silence: float = 0.7  # without an answer: down
    lost: int = 3  # probes at least that must have been lost by then
    hold: float = 0.6  # of answers without such a silence: up again; twice as long after each failure
    longest_hold: float = 10.0
    calm: float = 60.0  # after so long without a failure, as at first
    most: int = 1000  # probes per second, for all paths; with more paths than that takes, each has fewer
    look: float = 1.0  # between looks which paths are ridden on
    deaf: float = 0.6  # without an answer and without any packet: we say that we hear nothing
    late: float = 0.1  # later than that a step is time in which we did not run, and does not count
    starved: float = 0.25  # later than that, the probes under way tell nothing: they may be waiting on our side
    surely: int = 30  # but so many lost in a row are none of our own lateness


class Echo(Protocol):
    """The way to the network."""

    def send(self, way: Way, hears: bool | None, /) -> None:
        """One request, and a note in it to the other node's agent: whether we hear that node.  None: not known."""
        ...

    def receive(self) -> Iterable[Way]:
        """Whose answers have come since."""
        ...

    def close(self) -> None:
        """Nothing is sent any more for now."""
        ...


class Ears(Protocol):
    """What other nodes send us besides answers."""

    def listen(self, ways: Collection[Way]) -> None:
        """To these from now on, and to no others."""
        ...

    def heard(self) -> Iterable[Heard]:
        """What has arrived since."""
        ...

    def close(self) -> None:
        """Listen to nothing."""
        ...


class Watch:
    """What is known of one path.  Times are of the watcher's own clock, which stands still while it does not run."""

    def __init__(self, rhythm: Rhythm, now: float, failed: bool | None, chance: random.Random):
        self._rhythm, self._chance = rhythm, chance
        self.failed = bool(failed)
        self.known = failed is not None  # has it ever answered?
        self.slower = 1.0  # so many times, where there are more paths than may be probed so often
        self.due = now + rhythm.every * chance.random()
        self._answered, self._since = now, now  # the last answer; the first one of those without a silence between
        self._lost = self._excused = self._answers = 0
        self._arrived = self._refuted = -math.inf  # the last packet of theirs; when they last said that they hear none
        self._hold, self._mended = rhythm.hold, -rhythm.calm

    def asked(self, now: float) -> bool:
        """A probe is on its way; is the path in doubt?"""
        self._lost += 1
        doubtful = self.is_doubtful(now)
        pause = self._rhythm.soon if doubtful else self._rhythm.every * self._chance.uniform(0.75, 1.0)
        self.due = now + pause * self.slower
        return doubtful

    def answer(self, now: float) -> None:
        """One has come."""
        if self._has_been_silent(now, self._rhythm.silence):
            self._since, self._answers = now, 0
        self._answers += 1
        self._answered, self._lost, self._excused = now, 0, 0
        self.known = True

    def arrived(self, now: float, hears: bool | None) -> None:
        """A packet of theirs that is no answer; whether they say that they hear us."""
        if hears is False:
            self._refuted = now
            return
        self._arrived = now
        if hears:
            self._refuted = -math.inf

    def starved(self) -> None:
        """We did not run for a while; what was asked before tells nothing."""
        self._excused = self._lost

    def is_doubtful(self, now: float) -> bool:
        """Whether it may be about to fail."""
        return self.known and not self.failed and self._has_been_silent(now, self._rhythm.doubt)

    def hears(self, now: float) -> bool | None:
        """What we tell the other node of it."""
        if not self.known:  # then the other has only answers to go by: our probes prove nothing of their direction
            return False
        if self._is_within(now, self._arrived) or self._is_within(now, self._answered):
            return True
        return False if self._has_been_silent(now, self._rhythm.deaf) else None

    def _is_within(self, now: float, at: float) -> bool:
        return now - at < self._rhythm.doubt * self.slower

    def _lives(self, now: float) -> bool:
        """Though no answer comes: packets of theirs do, and they don't say that ours don't."""
        return self._is_within(now, self._arrived) and not self._is_within(now, self._refuted)

    def _has_been_silent(self, now: float, seconds: float) -> bool:
        return now - self._answered >= seconds * self.slower

    def judge(self, now: float) -> bool:
        """Whether it has failed, or come back, by now."""
        r = self._rhythm
        silent = self._has_been_silent(now, r.silence)
        enough = self._lost - self._excused >= r.lost or self._lost >= r.surely
        if not self.failed and self.known and silent and enough and not self._lives(now):
            self._hold = r.hold if now - self._mended >= r.calm else min(2 * self._hold, r.longest_hold)
            self.failed, self._answers = True, 0
            return True
        if self.failed and not silent and self._answers >= r.lost and now - self._since >= self._hold:
            self.failed, self._mended = False, now
            return True
        return False


class Paths:
    """All of one node.  `failed` may be read in any thread; `changed` is set when it is another."""

    def __init__(
        self, file: Path | None = None, echo: Callable[[], Echo] | None = None, rhythm: Rhythm | None = None,
        clock: Callable[[], float] = time.monotonic, seed: int | None = None, ears: Ears | None = None,
    ):  # fmt: skip
        self._file, self._rhythm, self._clock, self._chance = file, rhythm or Rhythm(), clock, random.Random(seed)
        self._make, self._ears = echo or IcmpEcho, ears or Arrivals()
        self._echo: Echo | None = None
        self._now, self._before, self._pause = 0.0, clock(), 0.0
        self._watches = {way: self._watch(failed) for way, failed in self._read().items()}
        self._ridden: frozenset[Way] = frozenset()
        self._doubtful: set[Way] = set()
        self.failed: frozenset[Way] = frozenset(way for way, watch in self._watches.items() if watch.failed)
        self.changed = asyncio.Event()

    def _watch(self, failed: bool | None) -> Watch:
        return Watch(self._rhythm, self._now, failed, self._chance)

    async def run(self, ridden: Callable[[], frozenset[Way]]) -> None:
        """Probe those that are ridden on, as `ridden` says now; until cancelled."""
        try:
            looked = -self._rhythm.look
            while True:
                if self._clock() - looked >= self._rhythm.look:
                    looked = self._clock()
                    self.watch(ridden())
                pause = self.step()
                await asyncio.sleep(min(pause, max(0.0, looked + self._rhythm.look - self._clock())))
        finally:
            self._hang_up()

    def watch(self, ridden: frozenset[Way]) -> None:
        """From now on these are probed, and no others."""
        for way in ridden - self._ridden:
            old = self._watches.get(way)
            self._watches[way] = self._watch(old.failed if old is not None and old.known else None)
        self._ridden = ridden
        for way in ridden:
            self._watches[way].slower = max(1.0, len(ridden) / (self._rhythm.most * self._rhythm.every))
        for way in [w for w in self._watches if w not in ridden][: max(0, len(self._watches) - _FORGET)]:
            del self._watches[way]
        if not ridden:
            self._hang_up()
        self._tell()

    def step(self) -> float:
        """Hear, judge, ask; how long until the next time, in s."""
        self._tick()
        if not self._ridden:
            self._pause = self._rhythm.look
            return self._pause
        if self._echo is None:
            self._echo = self._make()
        heard = [way for way in self._echo.receive() if way in self._ridden]
        learned = {way for way in heard if not self._watches[way].known}
        for way in heard:
            self._watches[way].answer(self._now)
        self._hear()
        turned = [way for way in self._ridden if self._watches[way].judge(self._now)]
        self._ask()
        for local, remote in turned:
            word = "is down" if self._watches[local, remote].failed else "is back"
            log.warning("the path from %s to %s %s", local, remote, word)
        if turned or learned:
            self._tell()
            self._write()
        due = min(self._watches[way].due for way in self._ridden)
        self._pause = max(self._rhythm.soon, due - self._now)
        return self._pause

    def _tick(self) -> None:
        """Our clock goes on by what we meant to wait, and a little lateness; what is beyond is nobody's silence."""
        now, r = self._clock(), self._rhythm
        late = now - self._before - self._pause
        self._now += min(now - self._before, self._pause + r.late)
        self._before = now
        if late > r.starved:
            for way in self._ridden:
                self._watches[way].starved()

    def _hear(self) -> None:
        """Where an answer fails to come, does anything else?"""
        for way, hears in self._ears.heard() if self._doubtful else ():
            if way in self._ridden:
                self._watches[way].arrived(self._now, hears)

    def _ask(self) -> None:
        assert self._echo is not None
        self._doubtful = {w for w in self._doubtful & self._ridden if self._watches[w].is_doubtful(self._now)}
        for way in self._ridden:
            watch = self._watches[way]
            if watch.due <= self._now:
                self._echo.send(way, watch.hears(self._now))
                if watch.asked(self._now):
                    self._doubtful.add(way)
        self._ears.listen(self._doubtful)

    def _tell(self) -> None:
        failed = frozenset(way for way in self._ridden if self._watches[way].failed)
        if failed != self.failed:
            self.failed = failed
            self.changed.set()

    def _hang_up(self) -> None:
        if self._echo is not None:
            self._echo.close()
            self._echo = None
            self._ears.close()

    # --- what is known, on disk -----------------------------------------------------------------

    def _read(self) -> dict[Way, bool]:
        """Way -> whether it had failed, of those that ever answered."""
        try:
            known = msgspec.json.decode(self._file.read_bytes(), type=list[_Known]) if self._file else []
        except (FileNotFoundError, msgspec.DecodeError):
            return {}
        return {(k.local, k.remote): k.failed for k in known}

    def _write(self) -> None:
        """Best effort: where the disk does not take it, an agent that starts has to learn it anew."""
        if self._file is None:
            return
        known = [_Known(*way, watch.failed) for way, watch in sorted(self._watches.items()) if watch.known]
        with suppress(OSError):
            new = self._file.with_suffix(".new")
            new.write_bytes(msgspec.json.encode(known))
            new.rename(self._file)


class _Known(Value, frozen=True):
    local: str
    remote: str
    failed: bool = False
