"""Who may come into which slices on which nodes, of as many nodes as there are: what is the same on all is looked up
once, and remembered for as long as the database counts no change of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from vini import bus
from vini.central.delivery import Mark
from vini.model import ViniError
from vini.reach import hosts
from vini.store import authorized, slices, specs, tags
from vini.store.database import Tx

_Held = Mapping[str, Mapping[str, int]]  # node -> the slices that it holds some of -> their generations
_Found = dict[str, dict[str, bus.Admission]]  # node -> slice -> who may come in


class _Known(NamedTuple):
    """Who may come into a slice, wherever it is."""

    changed: int  # the count of changes (`Mark.admitted`) at which it was seen to be another
    admission: bus.Admission  # with the names of its slivers as of `generation`, where anybody could use them
    generation: int = 0


class Admissions:
    """One central's.  It is used by one thread at a time."""

    def __init__(self) -> None:
        self._at = -1  # the count of changes for which all that follows is true
        self._known: dict[str, _Known] = {}
        self._granting: frozenset[str] = frozenset()  # slices whose processes are granted anything, somewhere

    def on(self, tx: Tx, names: Collection[str], admitted: int) -> _Found:
        """Of all slices of these nodes."""
        return self._told(tx, authorized.on_nodes(tx, names), admitted)

    def since(self, tx: Tx, marks: Mapping[str, Mark], now: Mark) -> tuple[dict[str, set[str]], _Found]:
        """Node -> the slices where it may be another since that mark, which we gave; and who may come into those of
        them that are still there."""
        if not marks:
            return {}, {}
        self._refresh(tx, now.admitted)
        seq, admitted = min(m.seq for m in marks.values()), min(m.admitted for m in marks.values())
        touched = specs.touched(tx, seq, marks) if seq < now.seq else {}
        turned = {s for s, known in self._known.items() if known.changed > admitted}
        also = authorized.on_nodes(tx, marks, turned) if turned else {}
        about = {node: {*touched.get(node, ()), *also.get(node, ())} for node in marks}
        there = {
            node: also.get(node, {}) | {s: g for s, g in touched.get(node, {}).items() if g is not None}
            for node in marks
        }
        return about, self._told(tx, there, now.admitted)

    def _told(self, tx: Tx, held: _Held, admitted: int) -> _Found:
        generations = {s: g for of in held.values() for s, g in of.items()}
        if not generations:
            return {node: {} for node in held}
        self._refresh(tx, admitted)
        if unknown := generations.keys() - self._known.keys():
            self._known |= {s: _Known(admitted, a) for s, a in _of_slices(tx, unknown).items()}
        anywhere = {s: self._named(tx, s, g) for s, g in generations.items()}
        granted = tags.granted(tx, held, self._granting)
        return {
            node: {
                s: replace(anywhere[s], grants=granted[node, s]) if (node, s) in granted else anywhere[s] for s in of
            }
            for node, of in held.items()
        }

    def _refresh(self, tx: Tx, admitted: int) -> None:
        """Where the database counts changes since, look at all that is remembered."""
        if self._at == admitted:
            return
        there = authorized.slices_there(tx) if self._known else set()
        self._known = {s: known for s, known in self._known.items() if s in there}  # not of all that ever were
        now = _of_slices(tx, self._known) if self._known else {}
        granting = tags.granting(tx)
        for slice_, known in self._known.items():
            same = replace(known.admission, hosts="") == now[slice_]
            if not same or slice_ in granting | self._granting:
                self._known[slice_] = _Known(admitted, now[slice_])
        self._at, self._granting = admitted, granting

    def _named(self, tx: Tx, slice_: str, generation: int) -> bus.Admission:
        """With the names of the slice's slivers by now, where anybody may come in who could use them."""
        known = self._known[slice_]
        if known.generation != generation and (known.admission.keys or known.admission.guests):
            names = _names(tx, slice_)
            named = known.admission if names == known.admission.hosts else replace(known.admission, hosts=names)
            known = self._known[slice_] = _Known(known.changed, named, generation)
        return known.admission


def _names(tx: Tx, slice_: str) -> str:
    """For hosts(5); "" of a slice that another version stored: one can log in to it by its slivers' own names."""
    try:
        return hosts(slices.topology(tx, slice_))
    except ViniError:
        return ""


def _of_slices(tx: Tx, names: Collection[str]) -> dict[str, bus.Admission]:
    """Who may come into these, wherever they are; no names of slivers yet."""
    keys: dict[str, list[bus.AuthorizedKey]] = {s: [] for s in names}
    for slice_, key, person in authorized.of_slices(tx, names):
        keys[slice_].append(bus.AuthorizedKey(key, person))
    guests: dict[str, list[bus.GuestKey]] = {}
    for let in authorized.guests_of_slices(tx, names):
        slivers = msgspec.json.decode(let.slivers, type=tuple[str, ...])
        guests.setdefault(let.slice, []).append(bus.GuestKey(let.key, let.person, slivers, let.until))
    return {s: bus.Admission(tuple(k), "", (), tuple(guests.get(s, ()))) for s, k in keys.items()}
