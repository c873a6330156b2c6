"""What the hub asks of the database: who a node is, what it lacks; and what the nodes said, written down."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import groupby

import msgspec

from vini import bus
from vini.central.admissions import Admissions
from vini.central.clocks import Clocks
from vini.central.conf_files import node_file
from vini.central.delivery import Admitted, Ailing, FilesThere, Identity, Lack, Mark, Newer, Who, Word
from vini.model import NotFound, SliceSpec, Value
from vini.rules import mesh
from vini.rules.interfaces import carries
from vini.rules.nouns import NodeSaid
from vini.rules.words import NODE, SLICE
from vini.store import (
    authorized,
    conf_files,
    conf_files_there,
    counters,
    events,
    interfaces,
    latencies,
    node_logins,
    nodegroups,
    nodes,
    slices,
    specs,
    usage,
)
from vini.store.database import Database, Tx
from vini.usage import DAY_S

log = logging.getLogger("vini.central")
_RING_S = 5.0  # how old the ring of nodes may be that measure each other
_MOST = 1 << 62  # of a generation that a message can have
_SHOWN = 10  # links that an event names
_LONGEST = 40  # letters of a slice's name
_LONGEST_SAID = 2000  # letters of what a node says, in an event
_AILING = (b'"faults"', b'"slowed"', b'"falls"')
_WHY = {
    "disabled": "An administrator has disabled it; `vini node enable` on the central's side lets it back.",
    "reinstall": "It is to be reinstalled: join it again with a new token.",
}


class StoredDesk:
    """A `delivery.Desk` over the store.  Called in threads; each call is one transaction."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time, clocks: Clocks | None = None):
        self._database, self._clock = database, clock
        self._clocks = clocks or Clocks(clock)
        self._ring: tuple[float, list[mesh.Member]] = (-_RING_S, [])  # monotonic time, and who was there
        self._door = Admissions()
        self._doubted: set[tuple[str, str]] = set()  # node and slice of which it said what can't be

    def identities(self, names: Sequence[str]) -> list[Identity | None]:
        """None where there is no such node."""
        with self._database.reading() as tx:
            found = nodes.identities(tx, [name for name in names if re.fullmatch(NODE, name)])
        return [_identity(*found[name]) if name in found else None for name in names]

    def newer(self, lacks: Sequence[Lack]) -> list[Newer]:
        """What each node lacks or holds at a lower generation, and the ends of what isn't asked of it any more.

        A node that holds a higher generation than what is stored for it, as after the restoring of a backup, or that
        ended such a one, or forgot it, would refuse that: it is asked for the same by a generation above.  Not one that
        says what no central can have given: it is told nothing of that slice.
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
                    some = [
                        s
                        for s in fresh.get(lack.node, ())
                        if self._lacks(lack, s.slice, specs.Number(s.generation, not s.objects), ahead)
                    ]
                    admits = lack.node in fresh or lack.since.admitted != mark.admitted
                else:
                    some, admits = self._all_newer(tx, lack, ahead), True
                files = lack.since is None or lack.since.files != mark.files
                found.append(Newer(tuple(some), mark, admits, files))
        if ahead:
            with self._database.transaction() as tx:
                slices.overtake(tx, ahead)
            return self.newer(lacks)
        return found

    def _all_newer(self, tx: Tx, lack: Lack, ahead: dict[str, int]) -> list[SliceSpec]:
        """Of all there is; bodies are read of those only."""
        wanted = specs.numbers_of_node(tx, lack.node)
        found = [specs.spec(tx, s, lack.node) for s, number in wanted.items() if self._lacks(lack, s, number, ahead)]
        held = lack.greeting.generations
        lost = {s: g for s, g in held.items() if s not in wanted and g < _MOST and _is_name(s)}
        return [s for s in found if s is not None] + (specs.strays(tx, lack.node, lost) if lost else [])

    def _lacks(self, lack: Lack, slice_: str, asked: specs.Number, ahead: dict[str, int]) -> bool:
        """Whether a node that said so is to be sent that; where it would not take it, the least that it takes goes
        into `ahead`.  An end that is stored still is sent again: that it was heard of may have been lost."""
        said = lack.greeting
        has = max(said.generations.get(slice_, 0), said.ended.get(slice_, 0))
        takes = has or said.forgotten + 1
        if asked.generation >= takes:
            return asked.generation > has or asked.ends
        if takes < slices.believable(self._clock()):
            ahead[slice_] = max(takes, ahead.get(slice_, 0))
        elif (lack.node, slice_) not in self._doubted:
            self._doubted.add((lack.node, slice_))
            log.warning(
                "node %s says that it had generation %d of slice %s, which no central can have given; it is told "
                "nothing of that slice: look whether somebody else runs that node, then let it forget: `vini node "
                "leave` on it, and `vini node join` when what slices had there has ended",
                lack.node, takes, slice_,
            )  # fmt: skip
        return False

    def authorized(self, whos: Sequence[Who]) -> list[Admitted]:
        """Who may log in to the slices of each; looks only at slices where that may be another since it was asked."""
        with self._database.reading() as tx:
            mark = _mark(tx)
            every = self._door.on(tx, {w.node for w in whos if w.since is None}, mark.admitted)
            about, some = self._door.since(tx, {w.node: w.since for w in whos if w.since}, mark)
        return [
            Admitted(every[w.node], None, mark)
            if w.since is None
            else Admitted(some[w.node], frozenset(about[w.node] | w.ended), mark)
            for w in whos
        ]

    def conf_files(self, nodes: Sequence[str]) -> list[tuple[bus.NodeFile, ...]]:
        """By the files, tags and nodegroups of this moment."""
        with self._database.reading() as tx:
            found = conf_files.of_nodes(tx, nodes)
        return [tuple(map(node_file, found[node])) for node in nodes]

    def far(self, nodes: Sequence[str]) -> list[bus.AskRtts | None]:
        """Whose turn it is, in the mesh of all."""
        with self._database.reading() as tx:
            known, members = latencies.known(tx, nodes), self._members(tx)
        among = {m.name: m for m in members}
        return [_question(among[n], members, known.get(n, {})) if n in among else None for n in nodes]

    def told_until(self, nodes: Sequence[str]) -> list[int]:
        """0 of one that never told; yesterday at the latest, since a node's clock may have been ahead over midnight."""
        yesterday = int(self._clock()) // DAY_S - 1
        with self._database.reading() as tx:
            found = usage.until(tx, nodes)
        return [min(found.get(node, 0), yesterday) for node in nodes]

    def logins_until(self, nodes: Sequence[str]) -> list[int]:
        """0 of one that never told."""
        with self._database.reading() as tx:
            found = node_logins.until(tx, nodes)
        return [found.get(node, 0) for node in nodes]

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
            reports = [(n, m) for n, m in words if isinstance(m, bus.Report) and _is_name(m.slice)]
            _note_news(tx, [(n, m) for n, m in reports if not m.refused], now)
            specs.acknowledge_all(tx, [(m.slice, n, m.generation, msgspec.json.encode(m)) for n, m in reports], now)
            if greeted := {n: m for n, m in sorted(words, key=lambda word: word[0]) if isinstance(m, bus.Greeting)}:
                for node, greeting in greeted.items():
                    _greeted(tx, node, greeting, now)
                interfaces.note(tx, {n: m.interfaces for n, m in greeted.items()})
            nodes.ail(tx, {n: m.sentences for n, m in words if isinstance(m, Ailing)})
            offsets = {n: m for n, m in words if isinstance(m, bus.Offset)}
            nodes.measured(tx, {n: (m.ahead_s, m.rtt_s / 2) for n, m in offsets.items()}, now)
            if filed := {n: m.files for n, m in words if isinstance(m, FilesThere)}:
                conf_files_there.note(tx, filed, now)
            if came := {n: m.rows for n, m in words if isinstance(m, bus.Logins)}:
                node_logins.note(tx, came, now)
            if learned := {n: m.ms for n, m in words if isinstance(m, bus.Rtts)}:
                latencies.note(tx, learned, now)
            if used := [(n, row) for n, m in words if isinstance(m, bus.Usage) for row in m.rows]:
                usage.note(tx, used, now)
        self._clocks.note({n: m.ahead_s for n, m in offsets.items()}, {n: m.boot for n, m in offsets.items()})
        return [None] * len(words)


def _mark(tx: Tx) -> Mark:
    seq, admitted, *files = counters.values(
        tx, specs.COUNTER, authorized.COUNTER, conf_files.COUNTER, nodegroups.COUNTER
    )
    return Mark(seq, admitted, sum(files))


def _note_news(tx: Tx, reported: Sequence[tuple[str, bus.Report]], now: float) -> None:
    """An event for each slice and node where links failed with the path that they ride on, or came back with it, also
    where that was over before it was heard of; and for each sliver that was slowed down, or is not any more."""
    before = specs.last_reports(tx, {(m.slice, node) for node, m in reported})
    was = {of: _ailing_before(body) for of, body in before.items() if any(word in body for word in _AILING)}
    knew = {of for of, body in before.items() if b'"sliver"' in body}  # how its slivers were
    for node, report in reported:
        of = (report.slice, node)
        if of not in before:  # not asked of it any more
            continue
        old, new = was.get(of, _Ailing()), _ailing(report)
        unheard = _unheard(old, new) if of in knew else []
        was[of] = new
        knew.add(of)
        same = dict(new.faults.items() & old.faults.items())  # another cause is news, too
        news = [(events.PATH_FAILED, f"{_links(x)} failed: {why}") for why, x in _by_cause(new.faults, same)]
        news += [(events.PATH_BACK, f"{_links(links)} back") for _, links in _by_cause(old.faults, new.faults)]
        news += [
            (events.PATH_FAILED, f"{_links(x)} failed and came back {n} before it was heard of") for n, x in unheard
        ]
        news += [(events.SLOWED, f"{_name(s)}: {why}") for s, why in new.slowed.items() if s not in old.slowed]
        news += [(events.UNSLOWED, _name(s)) for s in old.slowed if s not in new.slowed]
        for what, detail in news:
            said = "".join(c for c in detail[:_LONGEST_SAID] if c.isprintable())
            events.add(tx, at=now, who=f"node {node}", what=what, kind="slice", target=report.slice, detail=said)


class _Ailing(Value, frozen=True):
    """Of a report, that of which events are made when it changes."""

    faults: dict[str, str] = {}  # link -> why it failed
    slowed: dict[str, str] = {}  # sliver -> why it may send less
    falls: dict[str, int] = {}  # link -> how often it failed


def _ailing(report: bus.Report) -> _Ailing:
    falls = {link: n for row in report.slivers for link, n in row.falls.items()}
    return _Ailing(_faults(report), {row.sliver: row.slowed for row in report.slivers if row.slowed}, falls)


def _ailing_before(body: bytes) -> _Ailing:
    """Nothing where another version wrote it down: what ails now is told of anew."""
    try:
        return _ailing(msgspec.json.decode(body, type=bus.Report))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Ailing()


def _name(sliver: str) -> str:
    return f"sliver {sliver.partition('.')[2]}"


def _faults(report: bus.Report) -> dict[str, str]:
    return {link: why for row in report.slivers for link, why in row.faults.items()}


def _by_cause(these: Mapping[str, str], but: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """The links among these that are not among those, by what happened to them."""
    new = sorted((why, link) for link, why in these.items() if link not in but)
    return [(why, [link for _, link in of_it]) for why, of_it in groupby(new, key=lambda pair: pair[0])]


def _unheard(old: _Ailing, new: _Ailing) -> list[tuple[str, list[str]]]:
    """How often links failed besides what is news now, in words, and which.  A new agent counts from 0."""
    more: dict[str, str] = {}
    for link, n in new.falls.items():
        grown = n - old.falls.get(link, 0) if n >= old.falls.get(link, 0) else n
        grown -= link in new.faults and link not in old.faults
        if grown > 0:
            more[link] = "once" if grown == 1 else f"{grown} times"
    return _by_cause(more, {})


def _links(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return f"link {shown}" if len(names) == 1 else f"links {shown}"


def _greeted(tx: Tx, node: str, greeting: bus.Greeting, now: float) -> None:
    with suppress(NotFound):
        row = nodes.get(tx, node)
        mtu = carries(greeting.interfaces, row.address) or row.mtu
        said = NodeSaid(
            greeting.capabilities, row.address, mtu, row.cores, row.memory_mib, greeting.version,
            greeting.wireguard, row.disk_mb, greeting.rate_mbit, greeting.failing,
        )  # fmt: skip
        nodes.heard(tx, node, now, said, row.clock_offset_s)


def _question(
    me: mesh.Member, members: Sequence[mesh.Member], known: Mapping[str, mesh.Measured]
) -> bus.AskRtts | None:
    peers = {m.name: m.address for m in mesh.turn(me, members, known)}
    return bus.AskRtts(me.address, peers) if peers else None


def _identity(public_key: bytes, boot_state: str) -> Identity:
    return Identity(public_key, boot_state not in _WHY, _WHY.get(boot_state, ""))


def _is_name(slice_: str) -> bool:
    return len(slice_) <= _LONGEST and re.fullmatch(SLICE, slice_) is not None
