"""Slivers' shares of what the node's uplink carries, and what each sent today."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec.structs import replace

from vini.boot import boot
from vini.bus import ShareLoad
from vini.model import AnyObject, CapacityError, DriverError, Share, ViniError
from vini.names import digest
from vini.node.drivers import Failures
from vini.node.htb import Wish
from vini.node.place import Place
from vini.node.shares import record, settings, tree
from vini.node.shares.classify import EXEMPT
from vini.node.shares.record import Held, Sent
from vini.node.shares.settings import UplinkSettings
from vini.node.shares.tree import MAJOR, Class
from vini.node.shares.uplink import Astray, Seen, Uplink

_DAY_S = 86_400
_MBIT = 8e-6  # of bytes
_NOTED_EVERY_S = 5.0  # what a reboot may forget; a new agent forgets nothing

log = logging.getLogger("vini.agent")


class ShareDriver:
    """Remembers only when it wrote last what was sent."""

    kinds = (Share,)

    def __init__(self, place: Place, clock: Callable[[], float] = time.time):
        self._place, self._clock = place, clock
        self._uplink = Uplink(place)
        self._noted = 0.0
        self._unwritten = ""  # why what was sent could not be written down, as the log was told

    # --- observe ------------------------------------------------------------------------------

    def observe(self, namespaces: Collection[str]) -> frozenset[AnyObject]:
        """What is there, of those namespaces; what all of them sent is counted on the way."""
        held = record.held(self._place)
        if not held:
            return frozenset()
        seen = self._uplink.look()
        sent = self._counted(held, seen)
        said = settings.read(self._place.state)
        wanted = tree.classes(held, sent, said)
        name = self._uplink.name(self._uplink.numbers(held, seen), said, seen.index)
        good = seen.up and seen.has_root and set(seen.filters.values()) <= {name}
        good = good and all(_is_right(seen, h, wanted) for h in (tree.ROOT, tree.FREE))
        ways = self._uplink.ways(held, said, seen.index)
        good = good and seen.detours.keys() <= ways.keys()
        led = self._uplink.round_(ways, seen) | {""}  # the node's own needs no detour
        return frozenset(
            replace(
                one.object,
                whole=good and one.object.through in led and all(_is_right(seen, h, wanted) for h in _handles(one)),
            )
            for ns, one in held.items()
            if ns in namespaces
        )

    def _counted(self, held: Mapping[str, Held], seen: Seen) -> dict[str, Sent]:
        """Looks at the counters, and writes down what they say, where that matters or was not done for a while."""
        sent, now = record.sent(self._place), self._advanced(held, seen)
        turned = any(_turned(sent.get(ns, Sent()), now[ns], one.object) for ns, one in held.items())
        if now != sent and (turned or not 0 <= self._clock() - self._noted < _NOTED_EVERY_S):
            self._note(now)
        return now

    def _note(self, now: Mapping[str, Sent]) -> None:
        """A full disk stops nobody: the kernel counts on, and the next look tells as much; only a reboot loses it."""
        try:
            record.note(self._place, now)
        except OSError as e:
            if str(e) != self._unwritten:
                log.warning("What slivers sent today can't be written down: %s; a reboot would forget it.", e)
            self._unwritten = str(e)
            return
        self._unwritten, self._noted = "", self._clock()

    def _advanced(self, held: Mapping[str, Held], seen: Seen) -> dict[str, Sent]:
        """What each sent by now; of those that are gone for as long as the day lasts."""
        day = int(self._clock()) // _DAY_S
        epoch = f"{boot()} {seen.index}"
        now = record.sent(self._place)
        for ns, one in held.items():
            counted, exempt = (c.sent if (c := seen.classes.get(h)) else 0 for h in _handles(one))
            now[ns] = record.advanced(now.get(ns, Sent()), (counted, exempt), epoch, day)
        return {ns: s for ns, s in now.items() if ns in held or s.day == day}

    def loads(self) -> dict[str, ShareLoad]:
        """What each sends against what it may; nothing is written down."""
        held = record.held(self._place)
        seen = self._uplink.look() if held else Seen(0)
        sent = self._advanced(held, seen)
        return {ns: _load(one, seen, sent[ns]) for ns, one in held.items()}

    def slowed(self) -> dict[str, str]:
        """Why, of those that have sent what they may in a day."""
        sent = record.sent(self._place)
        over = {ns: one.object for ns, one in record.held(self._place).items() if sent.get(ns, Sent()).over(one.object)}
        return {ns: _told(share) for ns, share in over.items()}

    # --- change -------------------------------------------------------------------------------

    def ensure(self, objects: Sequence[AnyObject]) -> Failures:
        """Make or change them.  What a sliver sends has its class before it is led there."""
        shares = [o for o in objects if isinstance(o, Share)]
        held = record.held(self._place)
        try:
            for o in shares:
                held[o.ns] = Held(replace(o, whole=True), held[o.ns].slot if o.ns in held else _free(held, o.ns))
            record.hold(self._place, held)
            astray = self._apply(held)
        except (ViniError, OSError) as e:
            return {o.key: _not_kept(o, str(e)) for o in shares}
        return {o.key: _not_kept(o, astray[o.through]) for o in shares if o.through in astray}

    def _apply(self, held: Mapping[str, Held]) -> Astray:
        seen = self._uplink.look()
        said = settings.read(self._place.state)
        seen = self._uplink.make(tree.classes(held, self._counted(held, seen), said), seen)
        return self._lead(held, said, seen)

    def _lead(self, held: Mapping[str, Held], said: UplinkSettings, seen: Seen) -> Astray:
        self._uplink.lead(self._uplink.numbers(held, seen), said, seen)
        return self._uplink.lead_round(self._uplink.ways(held, said, seen.index), seen)

    def learn(self) -> Astray:
        """A way to the world was made, or encrypted ones to other nodes: from now on what goes by them has its class,
        but for what went astray.  Raises DriverError or OSError."""
        held = record.held(self._place)
        return self._apply(held) if held else {}

    def remove(self, objects: Sequence[AnyObject]) -> Failures:
        """From now on they may send what the uplink carries."""
        try:
            self.forget({o.ns for o in objects if isinstance(o, Share)})
        except (ViniError, OSError) as e:
            return {o.key: f"What a sliver may send can't be set free: {str(e).rstrip('.')}." for o in objects}
        return {}

    def forget(self, namespaces: Collection[str]) -> None:
        """Nothing is left of theirs but how much they sent today.  Raises DriverError."""
        held = record.held(self._place)
        gone = {ns: one for ns, one in held.items() if ns in namespaces}
        if not gone:
            return
        seen = self._uplink.look()
        sent = self._counted(held, seen)
        record.note(self._place, sent)  # what the counters say before they go
        rest = {ns: one for ns, one in held.items() if ns not in gone}
        freed = _ways(gone) | seen.detours.keys()  # where somebody took the end here away, the other may be left
        if astray := self._uplink.lead_straight(freed - _ways(rest)):
            raise DriverError(f"{next(iter(astray.values()))}.")
        if rest and seen.index:
            self._lead(rest, settings.read(self._place.state), seen)
            self._uplink.drop([one.slot for one in gone.values()], seen)
        elif not rest:
            self._uplink.remove(seen)
        # Only now: counters that are there yet when we are killed would be counted once more.
        record.note(self._place, {ns: replace(s, epoch="", seen=(0, 0)) if ns in gone else s for ns, s in sent.items()})
        record.hold(self._place, rest)  # last: a kill before it leaves a record by which all this is done again


def _not_kept(o: Share, why: str) -> str:
    return f"What {o.ns} may send can't be kept: {why.rstrip('.')}."


def _ways(held: Mapping[str, Held]) -> set[str]:
    """The namespaces of the WireGuards by which they send."""
    return {one.object.through for one in held.values()} - {""}


def _turned(was: Sent, now: Sent, share: Share) -> bool:
    """Whether it sent what it may by now, or its counters began anew: they may pass what they said before."""
    return now.over(share) != was.over(share) or any(n < w for n, w in zip(now.seen, was.seen, strict=True))


def _load(one: Held, seen: Seen, sent: Sent) -> ShareLoad:
    classes = [c for h in _handles(one) if (c := seen.classes.get(h))]
    wish = classes[0].wish if classes else Wish(0, 0)
    own = min(wish.rate, one.object.min_kbit * tree.BYTES_PER_KBIT)  # the little that each has is nobody's wish
    daily = one.object.daily_mb * record.MEGABYTE
    return ShareLoad(
        sum(c.sent for c in classes), sum(c.dropped for c in classes), own * _MBIT, wish.ceil * _MBIT,
        sent.counted, sent.exempt, daily, sent.over(one.object),
    )  # fmt: skip


def _told(share: Share) -> str:
    mbit = tree.average(share) * _MBIT
    return (
        f"it sent the {share.daily_mb} MB that it may in a day (UTC), and sends at most {mbit:.3g} Mbit/s till it ends"
    )


def _handles(one: Held) -> tuple[int, int]:
    return MAJOR | one.slot, MAJOR | EXEMPT | one.slot


def _is_right(seen: Seen, handle: int, wanted: Mapping[int, Class]) -> bool:
    want, have = wanted.get(handle), seen.classes.get(handle)
    if want is None:
        return True  # one that nothing leads to
    return have is not None and have.wish == want.wish and seen.queues.get(handle, 0) == want.queue


def _free(held: Mapping[str, Held], ns: str) -> int:
    """The first free number, from one on that its name chooses."""
    used = {one.slot for one in held.values()}
    first = digest("share", ns)
    for i in range(tree.SLOTS):
        slot = tree.FIRST_SLOT + (first + i) % tree.SLOTS
        if slot not in used:
            return slot
    raise CapacityError("this node keeps as many slivers apart as it can")
