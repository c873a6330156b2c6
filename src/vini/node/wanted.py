"""What is wanted of this machine now, whoever asked for it: what the ledgers say, and what follows from that alone.

Nothing here touches the machine, or waits for who does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Generic, TypeVar

from vini import mirror
from vini.model import AnyObject, Netns, SliceSpec, Way, is_sliver
from vini.node.ledger import Ended
from vini.node.ledgers import Asker, Ledgers
from vini.node.paths import Paths
from vini.node.usage.meter import HERE
from vini.node.widths import Widths
from vini.rules import narrow
from vini.rules.words import SLICE

T = TypeVar("T")


class Wanted:
    """The ledgers' slices, as far as the paths to other nodes let them be had."""

    def __init__(self, ledgers: Ledgers, paths: Paths, widths: Widths):
        self._ledgers, self._paths, self._widths = ledgers, paths, widths
        self._slivers = _Worked(slivers_of)
        self._ridden = _Worked(lambda spec: frozenset(mirror.paths(spec).values()))
        self._lengths = _Worked(narrow.lengths)

    def objects(self, slice_: str, asker: Asker) -> frozenset[AnyObject]:
        """What this asker wants of a slice now."""
        spec = self._ledgers.of(asker).wanted().get(slice_)
        return self.now(spec) if spec else frozenset()

    def all(self, of: Collection[str] | None = None) -> frozenset[AnyObject]:
        """Of all slices, or only of these: an object of one is in none of another's slivers."""
        wanted = self._ledgers.wanted()
        specs = [self.now(wanted[name]) for name in (wanted if of is None else wanted.keys() & of)]
        return specs[0] if len(specs) == 1 else frozenset().union(*specs)

    def now(self, spec: SliceSpec) -> frozenset[AnyObject]:
        """What is wanted by it as long as paths are as they are."""
        return narrow.narrowed(spec, mirror.mirrored(spec, self._paths.failed), self._widths.narrow)

    def generations(self, asker: Asker = "here") -> dict[str, int]:
        """The newest accepted generation of each slice that is asked for."""
        ledger = self._ledgers.of(asker)
        names = ledger.wanted().keys() | ledger.later.keys()
        return {n: ledger.accepted(n) for n in sorted(names)}

    def ended(self, asker: Asker = "here") -> Ended:
        """The generations of the ends of those that are not."""
        ledger = self._ledgers.of(asker)
        ended = ledger.ended.generations | ledger.expired()
        up = ledger.wanted().keys() | ledger.later.keys()
        return Ended({s: g for s, g in ended.items() if s not in up}, ledger.ended.forgotten)

    def expired(self, asker: Asker = "here") -> dict[str, int]:
        """Those of the ended that the node ended by itself, by its clock."""
        ledger = self._ledgers.of(asker)
        return {n: g for n, g in ledger.expired().items() if n not in ledger.later}

    def holds(self, slice_: str, asker: Asker) -> bool:
        """Whether the slice is one that this asker asked for."""
        return slice_ in self._ledgers.of(asker).wanted()

    def may_see(self, slice_: str, asker: Asker) -> bool:
        """Whether what is written down of a slice, which may be long gone, is this asker's to see.  The central may see
        what it asked for, and of what nobody remembers that which has a name as its slices have."""
        if asker == "here" or self._ledgers.central.accepted(slice_) > 0:
            return True
        return self._ledgers.here.accepted(slice_) == 0 and re.fullmatch(SLICE, slice_) is not None

    def spec(self, slice_: str) -> SliceSpec | None:
        """What is in force of a slice, whoever asked for it."""
        return self._ledgers.wanted().get(slice_)

    def slivers(self) -> set[str]:
        """`slice.sliver` of all that are wanted now."""
        return set().union(*self._slivers.of(self._ledgers.wanted()))

    def faults(self, slice_: str, ns: str) -> dict[str, str]:
        """Links of a sliver that failed with the path that they ride on, and why."""
        spec = self.spec(slice_)
        return mirror.faults(spec, self._paths.failed).get(ns, {}) if spec else {}

    @property
    def owner(self) -> str:
        """Which central asks here, and as which node; "": none."""
        return self._ledgers.owner

    def whose(self, asker: Asker) -> str:
        """By which the book knows who asked for a slice."""
        return HERE if asker == "here" else f"central {self._ledgers.owner}"

    def ridden(self) -> frozenset[Way]:
        """The paths to other nodes that links of now ride on."""
        return frozenset().union(*self._ridden.of(self._ledgers.wanted()))

    def longest(self) -> dict[Way, int]:
        """The paths that links of now take, whether or not they fail with them, and the longest packet, in bytes."""
        found: dict[Way, int] = {}
        for ways in self._lengths.of(self._ledgers.wanted()):
            for way, length in ways.items():
                found[way] = max(found.get(way, 0), length)
        return found


class _Worked(Generic[T]):
    """What follows from a spec, worked out once of each."""

    def __init__(self, work: Callable[[SliceSpec], T]):
        self._work = work
        self._held: dict[str, tuple[SliceSpec, T]] = {}

    def of(self, specs: Mapping[str, SliceSpec]) -> list[T]:
        """Of all that are wanted now; the others' is forgotten."""
        self._held = {
            name: held if (held := self._held.get(name)) and held[0] is spec else (spec, self._work(spec))
            for name, spec in specs.items()
        }
        return [found for _, found in self._held.values()]


def slivers_of(spec: SliceSpec) -> set[str]:
    """`slice.sliver` of each."""
    return {o.ns for o in spec.objects if isinstance(o, Netns) and is_sliver(o.ns)}
