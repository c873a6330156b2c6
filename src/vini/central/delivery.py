"""Brings one connected node up to what is asked of it, and the desk up to what the node says.

Level-triggered: what is sent follows from what the node has and what the desk has, whenever either may have changed;
nothing is queued that a crash could lose.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Protocol, TypeVar

from msgspec.structs import replace

from vini import bus
from vini.central.batch import Batch
from vini.central.connection import Connection
from vini.model import SliceSpec, Stale, Unsupported, Value, ViniError
from vini.rules import mesh
from vini.rules.conf_files import FileThere

Q = TypeVar("Q")
A = TypeVar("A")
log = logging.getLogger("vini.hub")
_AT_ONCE = 8  # slices that one node is sent at a time
_CALM_S = 1.0  # what is in no hurry waits so long for others to be asked with
_UNTOLD = 1000  # reports that wait for the desk; a node with more is not listened to until there are fewer


class Identity(Value, frozen=True):
    """What the desk knows of a node by its name."""

    public_key: bytes  # Ed25519, 32 bytes
    allowed: bool = True
    why: str = ""  # a sentence for the node, where it is not


class Ailing(Value, frozen=True):
    """What a node says of parts of its agent that fail."""

    sentences: tuple[str, ...]


class FilesThere(Value, frozen=True):
    """What a node has of its conf files."""

    files: tuple[FileThere, ...]


Word = bus.Greeting | bus.Report | bus.Offset | bus.Rtts | bus.Usage | bus.Logins | Ailing | FilesThere


class Mark(Value, frozen=True):
    """How far somebody has looked."""

    seq: int  # the number of the newest spec that was written until then
    admitted: int  # how often it had changed by then who may log in
    files: int = 0  # and which conf files a node is asked to have


class Lack(Value, frozen=True):
    """The question what a node lacks of all that was written after `since`; None: of all there is."""

    node: str
    greeting: bus.Greeting
    since: Mark | None = None


class Newer(Value, frozen=True):
    """The answer, how far it goes, and whether others than at `since` may log in on the node, or be its conf files."""

    specs: tuple[SliceSpec, ...] = ()
    mark: Mark | None = None
    admits: bool = True
    files: bool = True


class Who(Value, frozen=True):
    """The question who may log in on a node: of all its slices, or, from one who knows how it was at `since`, of those
    where that may be another now, and of `ended`, which it gave up meanwhile."""

    node: str
    since: Mark | None = None
    ended: frozenset[str] = frozenset()


class Admitted(Value, frozen=True):
    """The answer, of these slices (None: of all); those of them that it does not name are not on the node any more."""

    slices: dict[str, bus.Admission] = {}
    of: frozenset[str] | None = None
    mark: Mark | None = None

    def over(self, known: dict[str, bus.Admission]) -> dict[str, bus.Admission]:
        """All that holds now, of one who knew that."""
        return self.slices if self.of is None else {s: a for s, a in known.items() if s not in self.of} | self.slices


class Desk(Protocol):
    """What a central decides about nodes; asked about many at once.  Called in threads, so it may wait for a database;
    one that fails is asked again."""

    def identities(self, nodes: Sequence[str]) -> Sequence[Identity | None]:
        """None where there is no such node."""
        ...

    def newer(self, lacks: Sequence[Lack]) -> Sequence[Newer]:
        """What each node lacks or holds at a lower generation, empty specs that end a slice among them."""
        ...

    def authorized(self, whos: Sequence[Who]) -> Sequence[Admitted]:
        """Who may log in to the slices of each node."""
        ...

    def conf_files(self, nodes: Sequence[str]) -> Sequence[tuple[bus.NodeFile, ...]]:
        """Those that each is asked to have, by path."""
        ...

    def far(self, nodes: Sequence[str]) -> Sequence[bus.AskRtts | None]:
        """To which others each is to measure the way now; None: to nobody."""
        ...

    def told_until(self, nodes: Sequence[str]) -> Sequence[int]:
        """The day from which each is asked what slivers used there (of UTC, since 1970): the newest of which it told,
        or yesterday; 0: it never told."""
        ...

    def logins_until(self, nodes: Sequence[str]) -> Sequence[int]:
        """The number of the last login of which each told; 0: it never did."""
        ...

    def reported(self, words: Sequence[tuple[str, Word]]) -> Sequence[None]:
        """What nodes say: who they are, how a slice is there, how their clock goes, how far others are, what slivers
        used, what there is of conf files, who logged in.  Newer words replace older ones."""
        ...


class Desks:
    """One desk, asked by many connections."""

    def __init__(self, desk: Desk):
        self.identities = Batch(desk.identities)
        self.newer = Batch(desk.newer)
        self.authorized = Batch(desk.authorized)
        self.conf_files = Batch(desk.conf_files)
        self.far = Batch(desk.far)
        self.told_until = Batch(desk.told_until)
        self.logins_until = Batch(desk.logins_until)
        self.reported = Batch(desk.reported)


class Rhythm(Value, frozen=True):
    """How often things are done, in s."""

    beat: float = 10.0  # between two measurements of the clock, which also show that the node is there
    review: float = 60.0  # between two looks whether something is newer that nobody woke for, and words to the desk
    patience: float = 20.0  # for the answer to one, and for a stranger's proof
    mesh: float = mesh.ROUND_S  # between two rounds of measuring the ways to other nodes
    usage: float = 600.0  # between two questions what slivers used
    first: float = 0.5  # before what failed is tried again; then twice as long each time
    longest: float = 60.0


class Delivery:
    """One connection's."""

    def __init__(self, connection: Connection, greeting: bus.Greeting, desk: Desks, rhythm: Rhythm):
        self._connection, self._greeting, self._desk, self._rhythm = connection, greeting, desk, rhythm
        self._node = connection.node
        self._woken = asyncio.Event()
        self._woken.set()
        self._look_who = asyncio.Event()
        self.other_files: Callable[[], None] = lambda: None  # the node may be asked for other conf files
        self._since: Mark | None = None  # all that was written until then has been looked at
        self._anew = False  # something of that is to be looked at again
        self._ended: dict[str, int] = {}  # slice -> the generation of its end, which the node has told us of
        self._gave_up: set[str] = set()  # slices that ended on the node since it was looked who may log in there
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._later: set[str] = set()  # slices of which something newer waits until they are not under way any more
        self._waits: dict[str, float] = {}  # slice -> how long it waits after the failure before
        self._resting: set[str] = set()  # slices that wait
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._reports = Telling(self._node, desk, rhythm)
        self._measured = Telling(self._node, desk, rhythm, calm(rhythm))  # clocks and ways: nobody waits for these
        self._due = asyncio.Event()

    def wake(self, written: int | None = None) -> None:
        """What is asked of the node, or who may log in there, may have changed; `written`: no spec since that one."""
        if written is None or self._since is None or self._since.seq < written:
            self._woken.set()

    def review(self) -> None:
        """It was looked long ago whether something may have changed; somebody is to look soon."""
        self._due.set()

    # --- to the node ----------------------------------------------------------------------------

    async def deliver(self) -> None:
        """Send what is newer, whenever there may be something."""
        try:
            while True:
                await self._woken.wait()
                self._woken.clear()
                await self._send_newer()
        finally:
            under_way = list(self._under_way.values())
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def reviewing(self) -> None:
        """Look together with others, who are in no hurry either; who finds something wakes us."""
        while True:
            await self._due.wait()
            self._due.clear()
            found = await asked(self._desk.newer, self._lack(), self._rhythm, calm(self._rhythm))
            if found.specs or found.admits or found.files:
                self.wake()

    def _lack(self) -> Lack:
        return Lack(self._node, self._greeting, self._since)

    async def _send_newer(self) -> None:
        if self._anew:
            self._since, self._anew = None, False
        found = await asked(self._desk.newer, self._lack(), self._rhythm)
        self._since = found.mark
        if found.admits:
            self._look_who.set()
        if found.files:
            self.other_files()
        newer = [s for s in found.specs if self._lacks(s)]
        for slice_, specs in groupby(sorted(newer, key=lambda s: (s.slice, s.generation)), key=lambda s: s.slice):
            if slice_ not in self._under_way and slice_ not in self._resting:
                self._begin(slice_, list(specs))
            else:
                self._later.add(slice_)

    async def authorize(self) -> None:
        """Tell the node who may log in, whenever that is somebody else than it was told last."""
        told: dict[str, bus.Admission] | None = None
        now: dict[str, bus.Admission] = {}
        since: Mark | None = None
        waits = self._rhythm.first
        while True:
            await self._look_who.wait()
            self._look_who.clear()
            ended, self._gave_up = frozenset(self._gave_up), set()
            found = await asked(self._desk.authorized, Who(self._node, since, ended), self._rhythm)
            now, since = found.over(now), found.mark
            if now == told or (told is None and not now):
                continue
            try:
                await self._connection.ask(bus.Authorize(now))
            except bus.NodeAway:
                return
            except (Unsupported, bus.Foreign) as e:  # it lacks what SSH needs, or is an older one
                log.warning("node %s lets nobody new log in: %s", self._node, e)
            except ViniError as e:  # as a full disk; whoever lost his key may still come in there
                if waits == self._rhythm.first:
                    log.warning("node %s does not write down who may log in; it is told again: %s", self._node, e)
                with suppress(TimeoutError):  # somebody else may be let in or kept out meanwhile: then at once
                    async with asyncio.timeout(waits * random.uniform(0.5, 1.0)):
                        await self._look_who.wait()
                waits = min(2 * waits, self._rhythm.longest)
                self._look_who.set()
                continue
            told, waits = now, self._rhythm.first

    def _begin(self, slice_: str, specs: list[SliceSpec]) -> None:
        self._under_way[slice_] = asyncio.create_task(self._send(slice_, specs))

    def _lacks(self, spec: SliceSpec) -> bool:
        """An end is sent again by the next connection: that the node was heard to have it may have been lost."""
        known = max(self._greeting.generations.get(spec.slice, 0), self._greeting.ended.get(spec.slice, 0))
        unheard = not spec.objects and self._ended.get(spec.slice, 0) < spec.generation
        return spec.generation > known or (spec.generation == known and unheard)

    async def _send(self, slice_: str, specs: list[SliceSpec]) -> None:
        """In the order of their generations."""
        try:
            async with self._gate:
                for spec in specs:
                    await self._accept(spec)
            self._waits.pop(slice_, None)
        except bus.NodeAway:
            return
        except ViniError as e:
            await self._failed(slice_, specs[-1], e)
        finally:
            self._under_way.pop(slice_, None)
            if slice_ in self._later:
                self._look_again(slice_)

    def _look_again(self, slice_: str) -> None:
        """At all there is: what was passed over is not among the newest any more.  Not in the look that may be under
        way, which began before."""
        self._later.discard(slice_)
        self._anew = True
        self._woken.set()

    async def _accept(self, spec: SliceSpec) -> None:
        try:
            reply = await self._connection.ask(bus.Accept(spec))
        except Stale:  # it has a newer one than it greeted with
            reply = await self._connection.ask(bus.Hello())
            assert isinstance(reply, bus.Greeting)
            self._greeting = reply
            raise
        if not isinstance(reply, bus.Report):
            raise bus.Foreign(f"Node {self._node} answered a spec with a {type(reply).__name__}.")
        self._greeting = _with(self._greeting, spec)
        if not spec.objects:
            self._ended[spec.slice] = spec.generation
            self._gave_up.add(spec.slice)
            self._look_who.set()
        await self.tell(replace(reply, slice=spec.slice, generation=reply.generation or spec.generation))

    async def _failed(self, slice_: str, spec: SliceSpec, error: ViniError) -> None:
        waits = self._waits.get(slice_, self._rhythm.first)
        if slice_ not in self._waits:
            log.warning("node %s did not take slice %s generation %d: %s", self._node, slice_, spec.generation, error)
        self._waits[slice_] = min(2 * waits, self._rhythm.longest)
        self._resting.add(slice_)
        self._later.discard(slice_)  # it is looked for when it has rested
        asyncio.get_running_loop().call_later(waits * random.uniform(0.5, 1.0), self._rested, slice_)
        have = self._greeting.generations.get(slice_, 0)
        await self.tell(bus.Report((), slice=slice_, generation=have, accepted=have, refused=str(error)))

    def _rested(self, slice_: str) -> None:
        self._resting.discard(slice_)
        self._look_again(slice_)

    # --- to the desk ----------------------------------------------------------------------------

    async def tell(self, message: Word) -> None:
        """Have the desk told."""
        if isinstance(message, bus.Report):
            await self._reports.tell(message.slice, message)
        else:
            telling = self._reports if isinstance(message, bus.Greeting) else self._measured
            await telling.tell(f"/{type(message).__name__}", message)

    async def telling(self) -> None:
        """Tell it, until cancelled."""
        await asyncio.gather(self._reports.run(), self._measured.run())


class Telling:
    """Tells the desk what one node says, as fast as it takes it, or with `within` so many seconds later with what
    others say; of what replaces something older only the newest."""

    def __init__(self, node: str, desk: Desks, rhythm: Rhythm, within: float = 0.0):
        self._node, self._desk, self._rhythm, self._within = node, desk, rhythm, within
        self._untold: dict[str, Word] = {}
        self._news, self._room = asyncio.Event(), asyncio.Event()

    async def tell(self, of: str, message: Word) -> None:
        """One word `of` something, in place of the last one; not in place of one of a higher generation, which a node
        answers with while what it saw before is still on its way."""
        while len(self._untold) >= _UNTOLD:
            self._room.clear()
            await self._room.wait()
        before = self._untold.pop(of, None)
        if (
            isinstance(before, bus.Report)
            and isinstance(message, bus.Report)
            and before.generation > message.generation
        ):
            message = before
        self._untold[of] = message
        self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._untold:
                of = next(iter(self._untold))
                message = self._untold.pop(of)
                self._room.set()
                await asked(self._desk.reported, (self._node, message), self._rhythm, self._within)


def calm(rhythm: Rhythm) -> float:
    """How long what is in no hurry may wait for company, s."""
    return min(_CALM_S, rhythm.beat / 10)


async def asked(desk: Batch[Q, A], question: Q, rhythm: Rhythm, within: float = 0.0) -> A:
    """The desk's answer; asked again for as long as it fails."""
    waits = rhythm.first
    while True:
        try:
            return await desk.ask(question, within)
        except ViniError as e:  # it is away, full or locked
            log.warning("the central's database can't be asked: %s", e)
        except Exception:  # the log has its traceback each time; nodes stay connected
            log.exception("a mistake in VINI keeps the central from looking up, or writing down, what concerns a node")
        await asyncio.sleep(waits * random.uniform(0.5, 1.0))
        waits = min(2 * waits, rhythm.longest)


def _with(greeting: bus.Greeting, spec: SliceSpec) -> bus.Greeting:
    """The node has this one too now."""
    generations, ended = dict(greeting.generations), dict(greeting.ended)
    with suppress(KeyError):
        del ended[spec.slice]
    generations.pop(spec.slice, None)
    (generations if spec.objects else ended)[spec.slice] = spec.generation
    return replace(greeting, generations=generations, ended=ended)
