"""What the hub asks of the database: who a node is, what it lacks; and what the nodes said, written down."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from itertools import groupby

import msgspec
from msgspec.structs import replace

from vini import bus
from vini.central.delivery import Admitted, Identity, Lack, Mark, Newer, Who, Word
from vini.model import NotFound, SliceSpec
from vini.reach import hosts
from vini.rules import mesh
from vini.rules.nouns import NodeSaid
from vini.store import authorized, counters, events, latencies, nodes, slices, specs, tags
from vini.store.database import Database, Tx

_RING_S = 5.0  # how old the ring of nodes may be that measure each other
_SHOWN = 10  # links that an event names
_WHY = {
    "disabled": "An administrator has disabled it; `vini node enable` on the central's side lets it back.",
    "reinstall": "It is to be reinstalled: join it again with a new token.",
}


class StoredDesk:
    """A `delivery.Desk` over the store.  Called in threads; each call is one transaction."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time):
        self._database, self._clock = database, clock
        self._ring: tuple[float, list[mesh.Member]] = (-_RING_S, [])  # monotonic time, and who was there
        self._told: dict[str, bus.Admission] = {}  # slice -> the newest, of which a thousand nodes are to know
        self._hosts: dict[str, tuple[int, str]] = {}  # slice -> generation, and the names of its slivers then

    def identities(self, names: Sequence[str]) -> list[Identity | None]:
        """None where there is no such node."""
        with self._database.reading() as tx:
            found = nodes.identities(tx, names)
        return [_identity(*found[name]) if name in found else None for name in names]

    def newer(self, lacks: Sequence[Lack]) -> list[Newer]:
        """What each node lacks or holds at a lower generation, and the ends of what isn't asked of it any more.

        A node that holds a higher generation than any that is stored, as after the restoring of a backup, is asked
        for what is stored by a generation above that.
        """
        ahead: dict[str, int] = {}
        with self._database.reading() as tx:
            mark = _mark(tx)
            since = {lack.node: lack.since.seq for lack in lacks if lack.since is not None}
            least = min(since.values(), default=mark.seq)
            fresh = specs.since(tx, least, since) if least < mark.seq else {}
            found = []
            for lack in lacks:
                if lack.since is not None:
                    some = [s for s in fresh.get(lack.node, ()) if s.generation > _held(lack.greeting, s.slice)]
                    admits = lack.node in fresh or lack.since.admitted != mark.admitted
                else:
                    some, admits = self._all_newer(tx, lack.node, lack.greeting, ahead), True
                found.append(Newer(tuple(some), mark, admits))
        if ahead:
            with self._database.transaction() as tx:
                for slice_, above in sorted(ahead.items()):
                    slices.overtake(tx, slice_, above)
            return self.newer(lacks)
        return found

    def _all_newer(self, tx: Tx, node: str, greeting: bus.Greeting, ahead: dict[str, int]) -> list[SliceSpec]:
        """Of all there is; bodies are read of those only."""
        wanted = specs.generations_of_node(tx, node)
        for slice_, g in wanted.items():
            if (has := greeting.generations.get(slice_, 0)) > g:
                ahead[slice_] = max(has, ahead.get(slice_, 0))
        found = [specs.spec(tx, s, node) for s, g in wanted.items() if g > _held(greeting, s)]
        lost = {s: g for s, g in greeting.generations.items() if s not in wanted}
        return [s for s in found if s is not None] + (specs.strays(tx, node, lost) if lost else [])

    def authorized(self, whos: Sequence[Who]) -> list[Admitted]:
        """Who may log in to the slices of each; looks only at slices where that may be another since it was asked."""
        with self._database.reading() as tx:
            mark = _mark(tx)
            asks_all = [w.since is None or w.since.admitted != mark.admitted for w in whos]
            every = self._admissions(tx, {w.node for w, a in zip(whos, asks_all, strict=True) if a}, None)
            about = _about(tx, [w for w, a in zip(whos, asks_all, strict=True) if not a], mark)
            only = set[str]().union(*about.values())
            some = self._admissions(tx, {n for n, of in about.items() if of}, only) if only else {}
        return [
            Admitted(every[w.node], None, mark) if a else _among(some.get(w.node, {}), about[w.node], mark)
            for w, a in zip(whos, asks_all, strict=True)
        ]

    def _admissions(
        self, tx: Tx, names: Collection[str], only: Collection[str] | None
    ) -> dict[str, dict[str, bus.Admission]]:
        """Node -> slice -> who may come in.  What is the same on many nodes is there once."""
        held = authorized.on_nodes(tx, names, only) if names else {}
        anywhere = self._of_slices(tx, set[str]().union(*held.values()))
        granted = tags.granted(tx, held)
        return {
            node: {
                s: replace(anywhere[s], grants=granted[node, s]) if (node, s) in granted else anywhere[s]
                for s in of
                if s in anywhere
            }
            for node, of in held.items()
        }

    def _of_slices(self, tx: Tx, names: Collection[str]) -> dict[str, bus.Admission]:
        """Who may come into these, wherever they are."""
        if not names:
            return {}
        keys: dict[str, list[bus.AuthorizedKey]] = {}
        generations: dict[str, int] = {}
        for slice_, generation, key, person in authorized.of_slices(tx, names):
            mine, generations[slice_] = keys.setdefault(slice_, []), generation
            if key is not None:
                mine.append(bus.AuthorizedKey(key, person))
        let_in = _guests(tx, names)
        known = {s: self._names(tx, s, g) if keys[s] or s in let_in else "" for s, g in generations.items()}
        found = {s: bus.Admission(tuple(k), known[s], (), tuple(let_in.get(s, ()))) for s, k in keys.items()}
        same = {s: held for s, a in found.items() if (held := self._told.get(s)) == a}
        self._told |= found | same
        return found | same

    def _names(self, tx: Tx, slice_: str, generation: int) -> str:
        held = self._hosts.get(slice_)
        if held is None or held[0] != generation:
            held = self._hosts[slice_] = (generation, hosts(slices.get(tx, slice_).topology))
        return held[1]

    def far(self, nodes: Sequence[str]) -> list[bus.AskRtts | None]:
        """Whose turn it is, in the mesh of all."""
        with self._database.reading() as tx:
            known, members = latencies.known(tx, nodes), self._members(tx)
        among = {m.name: m for m in members}
        return [_question(among[n], members, known.get(n, {})) if n in among else None for n in nodes]

    def _members(self, tx: Tx) -> list[mesh.Member]:
        """As they were some seconds ago: each node asks once a minute."""
        now = time.monotonic()
        if now - self._ring[0] > _RING_S:
            self._ring = (now, latencies.members(tx))
        return self._ring[1]

    def reported(self, words: Sequence[tuple[str, Word]]) -> list[None]:
        """Write down what nodes say.  One that was deleted meanwhile says nothing any more."""
        now = self._clock()
        with self._database.transaction() as tx:
            reports = [
                (m.slice, n, m.generation, msgspec.json.encode(m)) for n, m in words if isinstance(m, bus.Report)
            ]
            _note_links(tx, [(n, m) for n, m in words if isinstance(m, bus.Report) and not m.refused], now)
            specs.acknowledge_all(tx, reports, now)
            for node, message in sorted(words, key=lambda word: word[0]):
                if isinstance(message, bus.Greeting):
                    _greeted(tx, node, message, now)
            nodes.measured(tx, {n: (m.ahead_s, m.rtt_s / 2) for n, m in words if isinstance(m, bus.Offset)}, now)
            if learned := {n: m.ms for n, m in words if isinstance(m, bus.Rtts)}:
                latencies.note(tx, learned, now)
        return [None] * len(words)


def _mark(tx: Tx) -> Mark:
    return Mark(*counters.values(tx, specs.COUNTER, authorized.COUNTER))


def _about(tx: Tx, whos: Sequence[Who], mark: Mark) -> dict[str, set[str]]:
    """Node -> the slices where it may be another by now who may log in."""
    least = min((w.since.seq for w in whos if w.since), default=mark.seq)
    found = specs.touched(tx, least, {w.node for w in whos}) if least < mark.seq else {}
    for who in whos:
        found.setdefault(who.node, set()).update(who.ended)
    return found


def _among(admissions: Mapping[str, bus.Admission], of: Collection[str], mark: Mark) -> Admitted:
    return Admitted({s: a for s, a in admissions.items() if s in of}, frozenset(of), mark)


def _guests(tx: Tx, names: Collection[str]) -> dict[str, list[bus.GuestKey]]:
    """Slice -> the keys of its guests."""
    found: dict[str, list[bus.GuestKey]] = {}
    for let in authorized.guests_of_slices(tx, names):
        slivers = msgspec.json.decode(let.slivers, type=tuple[str, ...])
        found.setdefault(let.slice, []).append(bus.GuestKey(let.key, let.person, slivers, let.until))
    return found


def _note_links(tx: Tx, reported: Sequence[tuple[str, bus.Report]], now: float) -> None:
    """An event for each slice and node where links failed with the path that they ride on, or came back with it."""
    before = specs.last_reports(tx, {(m.slice, node) for node, m in reported})
    was = {of: _faults(msgspec.json.decode(body, type=bus.Report)) for of, body in before.items() if b"faults" in body}
    for node, report in reported:
        of = (report.slice, node)
        if of not in before:  # not asked of it any more
            continue
        old, new = was.get(of, {}), _faults(report)
        was[of] = new
        news = [(events.PATH_FAILED, f"{_links(links)} failed: {why}") for why, links in _by_cause(new, old)]
        news += [(events.PATH_BACK, f"{_links(links)} back") for _, links in _by_cause(old, new)]
        for what, detail in news:
            events.add(tx, at=now, who=f"node {node}", what=what, kind="slice", target=report.slice, detail=detail)


def _faults(report: bus.Report) -> dict[str, str]:
    return {link: why for row in report.slivers for link, why in row.faults.items()}


def _by_cause(these: Mapping[str, str], but: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """The links among these that are not among those, by what happened to them."""
    new = sorted((why, link) for link, why in these.items() if link not in but)
    return [(why, [link for _, link in of_it]) for why, of_it in groupby(new, key=lambda pair: pair[0])]


def _links(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return f"link {shown}" if len(names) == 1 else f"links {shown}"


def _greeted(tx: Tx, node: str, greeting: bus.Greeting, now: float) -> None:
    with suppress(NotFound):
        row = nodes.get(tx, node)
        said = NodeSaid(
            greeting.capabilities, row.address, row.mtu, row.cores, row.memory_mib, greeting.version, greeting.wireguard
        )
        nodes.heard(tx, node, now, said, row.clock_offset_s)


def _question(
    me: mesh.Member, members: Sequence[mesh.Member], known: Mapping[str, mesh.Measured]
) -> bus.AskRtts | None:
    peers = {m.name: m.address for m in mesh.turn(me, members, known)}
    return bus.AskRtts(me.address, peers) if peers else None


def _identity(public_key: bytes, boot_state: str) -> Identity:
    return Identity(public_key, boot_state not in _WHY, _WHY.get(boot_state, ""))


def _held(greeting: bus.Greeting, slice_: str) -> int:
    return max(greeting.generations.get(slice_, 0), greeting.ended.get(slice_, 0))
