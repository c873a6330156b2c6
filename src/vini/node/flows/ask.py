"""Who sent this packet?  Answered from the files, whether or not anybody writes in them at the moment."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from ipaddress import ip_address
from itertools import islice
from pathlib import Path
from typing import Any

from vini.bus import AskFlows, Flow, Flows
from vini.model import ViniError
from vini.node.flows import book
from vini.node.outside.rules import RANGE, RANGE6

_SLACK_S = 2.0  # clocks of who complains and of the node are not the same
_COLUMNS = (
    "ns, protocol, src, sport, nat, nat_port, dst, dport, start, stop, how, out_packets, out_bytes, in_packets, "
    "in_bytes"
)
PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}


def who(
    where: Path, question: AskFlows, may_see: Callable[[str], bool] = lambda _: True, now: float | None = None
) -> Flows:
    """Of one node's files, those of the slices that may be told of.  Of a file that can't be read, that.

    `now`: Unix time, s; of this machine where it is not given.
    """
    try:
        versions = {ip_address(question.source).version, ip_address(question.destination).version}
    except ValueError as e:
        raise ViniError(f"{e}; ask with two addresses.") from e
    if len(versions) > 1:
        raise ViniError(f"{question.source} and {question.destination} are of two IP versions, and no flow has both.")
    found: list[Flow] = []
    watches: list[tuple[float, float]] = []
    losses: list[tuple[float, str]] = []
    unread: list[tuple[float, float, str]] = []
    for part in reversed(book.parts(where)):
        file = book.path(where, part)
        try:
            with closing(_reading(file)) as db:
                if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'losses'").fetchone():
                    continue  # it is just being made
                watches += db.execute("SELECT start, stop FROM watches").fetchall()
                losses += db.execute("SELECT at, what FROM losses").fetchall()
                if len(found) < question.most:
                    found += _flows(db, question, may_see)
        except sqlite3.Error as e:
            if file.exists():  # else it was its time to go
                unread.append((0.0, file.stat().st_mtime, f"{file} can't be read: {e}"))
    found.sort(key=lambda f: -f.start)
    missed = (*unread, *_unwatched(sorted(watches), losses, time.time() if now is None else now, question.at))
    return Flows(tuple(found[: question.most]), missed)


def _reading(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)


def _flows(db: sqlite3.Connection, q: AskFlows, may_see: Callable[[str], bool]) -> list[Flow]:
    """By the index, which has the ports that the world saw.  A sliver's own port is the same unless two of them had
    that: so it is looked for there first, and only then among all that went to that place."""
    source, to = ip_address(q.source), ip_address(q.destination)
    own = source in RANGE or source in RANGE6
    given: dict[str, object] = {"dst": book.column(int(to)), "source": book.column(int(source))}
    parts = ["dst = :dst", "src = :source" if own else "nat = :source"]
    if q.destination_port >= 0:
        parts.append("dport = :dport")
        given["dport"] = q.destination_port
    if q.protocol:
        parts.append("protocol = :protocol")
        given["protocol"] = q.protocol
    if q.at:
        parts.append("start <= :at + :slack AND coalesce(stop, 1e12) >= :at - :slack")
        given |= {"at": q.at, "slack": _SLACK_S}
    ways: list[list[str]] = [[]]
    if q.source_port >= 0:
        ways = [["nat_port = :sport", "sport = :sport"], ["sport = :sport"]] if own else [["nat_port = :sport"]]
        given["sport"] = q.source_port
    for way in ways:
        where = " AND ".join([*parts, *way])
        query = f"SELECT {_COLUMNS} FROM flows JOIN slivers ON slivers.id = sliver WHERE {where}"
        told = (flow for row in db.execute(query, given) if may_see((flow := _recorded(row)).slice))
        if flows := list(islice(told, q.most)):
            return flows
    return []


def _recorded(row: Sequence[Any]) -> Flow:
    ns, protocol, src, sport, nat, nat_port, dst, dport, start, stop, how, *counted = row
    slice_, _, sliver = str(ns).partition(".")
    said = {book.OPEN: "", book.ENDED: "ended", book.UNSEEN: "unseen"}[int(how)]
    return Flow(
        slice_, sliver, PROTOCOLS.get(int(protocol), str(protocol)), _shown(src, sport), _shown(nat, nat_port),
        _shown(dst, dport), float(start), float(stop or 0), said, *(int(c) for c in counted),
    )  # fmt: skip


def _shown(address: int | bytes, port: int) -> str:
    shown = ip_address(address)
    return f"{shown}:{port}" if shown.version == 4 else f"[{shown}]:{port}"


def _unwatched(
    watches: Sequence[tuple[float, float]], losses: Sequence[tuple[float, str]], now: float, at: float
) -> Iterator[tuple[float, float, str]]:
    """What of the time asked for nobody saw; without a time all that is known."""
    for (_, stop), (start, _) in zip(watches, watches[1:], strict=False):
        if start > stop and (not at or stop - _SLACK_S <= at <= start + _SLACK_S):
            yield stop, start, "the recorder did not run"
    for when, what in losses:
        if not at or abs(at - when) <= _SLACK_S:
            yield when, when, what
    if at and (not watches or not watches[0][0] - _SLACK_S <= at):
        yield 0.0, watches[0][0] if watches else 0.0, "nothing is kept of that time"
    if watches and (at or now) > watches[-1][1] + _SLACK_S:
        yield watches[-1][1], at or now, "the recorder does not run"
