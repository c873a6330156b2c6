"""What nodes have of their conf files, as each said last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, delete, insert, select

from vini.rules.conf_files import FileThere
from vini.store import budgets, events
from vini.store.database import Tx
from vini.store.tables import conf_files_there, nodes

_MOST = 1000  # rows of a node
_LONGEST = 500  # letters of what it says of one
_NEWS = 1900  # bytes of an event
_SHOWN = 10  # files that an event names
_NUMBERS = (
    select(nodes.c.name, nodes.c.id)
    .where(nodes.c.name.in_(bindparam("of", expanding=True)))
    .order_by(nodes.c.name)
    .with_for_update()  # two centrals may be told at once
)
_BEFORE = select(conf_files_there).where(conf_files_there.c.node_id.in_(bindparam("of", expanding=True)))


class There(NamedTuple):
    """Of which version of a file a node tells what, and since when (Unix time, s)."""

    version: str
    state: str
    why: str
    at: float = 0.0


def note(tx: Tx, said: Mapping[str, Sequence[FileThere]], now: float) -> None:
    """These nodes have this of their conf files, and nothing of others; each node's changes are an event, one a minute
    at most.  Of one that was deleted nothing is written."""
    ids = dict(tx.execute(_NUMBERS, {"of": list(said)}).all())
    before: dict[int, dict[str, There]] = {i: {} for i in ids.values()}
    for row in tx.execute(_BEFORE, {"of": list(before)}):
        before[row.node_id][row.path] = There(row.version, row.state, row.why, row.at)
    for node, i in ids.items():
        was, now_there = before[i], _believed(said[node])
        if {p: t[:3] for p, t in was.items()} == {p: t[:3] for p, t in now_there.items()}:
            continue
        rows = {p: t._replace(at=was[p].at if p in was and was[p][:3] == t[:3] else now) for p, t in now_there.items()}
        tx.execute(delete(conf_files_there).where(conf_files_there.c.node_id == i))
        if rows:
            tx.execute(insert(conf_files_there), [{"node_id": i, "path": p, **t._asdict()} for p, t in rows.items()])
        left = budgets.take(tx, i, "conf files", now, 1, 1)
        if left.events:
            more = f"; {left.more} changes before are not written down" if left.more else ""
            detail = _news(was, rows).encode()[:_NEWS].decode(errors="ignore") + more
            events.add(tx, at=now, who=f"node {node}", what="have conf files", kind="node", target=node, detail=detail)


def of_node(tx: Tx, node: str) -> dict[str, There]:
    """Path -> what it has there."""
    query = select(conf_files_there).select_from(conf_files_there.join(nodes)).where(nodes.c.name == node)
    return {row.path: There(row.version, row.state, row.why, row.at) for row in tx.execute(query)}


def _believed(said: Sequence[FileThere]) -> dict[str, There]:
    """A node may say what it likes of its own; not for ever, and not what nobody can read."""
    return {
        _plain(f.path): There(_plain(f.version), f.state, _plain(f.why))
        for f in said[:_MOST]
        if len(f.path) <= 2 * _LONGEST
    }


def _plain(text: str) -> str:
    return "".join(c for c in text[: 2 * _LONGEST] if c.isprintable())


def _news(was: Mapping[str, There], now: Mapping[str, There]) -> str:
    turned = {p: t for p, t in now.items() if p not in was or was[p][:3] != t[:3]}
    new = [f"{p}: {t.state}{f' ({t.why})' if t.why else ''}" for p, t in turned.items()]
    new += [f"{p}: gone" for p in was if p not in now]
    more = f"; and {len(new) - _SHOWN} more" if len(new) > _SHOWN else ""
    return "; ".join(sorted(new)[:_SHOWN]) + more
