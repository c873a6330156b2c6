"""Who logged in to slivers at their nodes, as those told: events, and how far each node has told."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import NamedTuple

from sqlalchemy import bindparam, delete, insert, select

from vini.rules.logins import MOST_NUMBER, Login
from vini.store import budgets, events
from vini.store.database import Tx
from vini.store.tables import logins_told, nodes, specs

_SHOWN = 20  # slivers that an event names
_LONGEST = 255
_MOST = 1000  # of one answer
_IN_A_MINUTE = 200  # events of a node
_NUMBERS = (
    select(nodes.c.name, nodes.c.id)
    .where(nodes.c.name.in_(bindparam("of", expanding=True)))
    .order_by(nodes.c.name)
    .with_for_update()  # two centrals may be told at once
)
_UNTIL = (
    select(nodes.c.name, logins_told.c.until)
    .select_from(logins_told.join(nodes))
    .where(nodes.c.name.in_(bindparam("of", expanding=True)))
)


class _Kind(NamedTuple):
    """What is told together."""

    slice: str
    person: str
    source: str
    what: str


def until(tx: Tx, names: Collection[str]) -> dict[str, int]:
    """Node -> the number of the last one of which it told; without those that never did."""
    return dict(tx.execute(_UNTIL, {"of": list(names)}).all())


def note(tx: Tx, said: Mapping[str, Sequence[Login]], now: float) -> None:
    """Write down what nodes told, of that which they did not tell before."""
    ids, told = dict(tx.execute(_NUMBERS, {"of": list(said)}).all()), until(tx, said)
    for node, i in ids.items():
        rows = [r for r in said[node][:_MOST] if told.get(node, 0) < r.number < MOST_NUMBER]
        if not rows:
            continue
        tx.execute(delete(logins_told).where(logins_told.c.node_id == i))
        tx.execute(insert(logins_told).values(node_id=i, until=max(r.number for r in rows)))
        kinds = [list(of_it) for _, of_it in groupby(sorted(rows, key=_kind), key=_kind)]
        left = budgets.take(tx, i, "logins", now, len(kinds), _IN_A_MINUTE)
        held = set(tx.scalars(select(specs.c.slice).where(specs.c.node_id == i)))
        for of_it in kinds[: left.events]:
            kind = _kind(of_it[0])
            _add(tx, node, kind, of_it, kind.slice in held, now)
        if left.more:
            events.add(tx, at=now, who=f"node {node}", what="log in", kind="node", target=node, detail=_more(left.more))


def _more(count: int) -> str:
    return f"and {count} more in one minute; of a node at most {_IN_A_MINUTE} are written down"


def _kind(login: Login) -> _Kind:
    slice_ = login.user.partition(".")[0]
    person, source = login.person[:_LONGEST], login.source[:_LONGEST]
    return _Kind(slice_[:_LONGEST], person, source, "begin ssh" if login.seconds < 0 else "end ssh")


def _add(tx: Tx, node: str, kind: _Kind, rows: list[Login], is_held: bool, now: float) -> None:
    """A node may say what it likes: it is its word, and of a slice only where that is there."""
    slivers = list(dict.fromkeys((r.user.partition(".")[2] or r.user)[:_LONGEST] for r in rows))
    more = f" and {len(slivers) - _SHOWN} more" if len(slivers) > _SHOWN else ""
    times = f", {len(rows)} times" if len(rows) > 1 else ""
    detail = f"{kind.person} in {', '.join(slivers[:_SHOWN])}{more}{times}; first {_time(min(r.at for r in rows))}"
    events.add(
        tx, at=now, who=f"node {node}", what=kind.what, kind="slice" if is_held else "node",
        target=kind.slice if is_held else node, source=_plain(kind.source),
        detail=_plain(detail if is_held else f"slice {kind.slice}: {detail}"),
        duration_s=max(0.0, min(1e9, max(r.seconds for r in rows))),
    )  # fmt: skip


def _time(at: float) -> str:
    """By the node's clock."""
    try:
        return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return "at an unknown time"


def _plain(text: str) -> str:
    return "".join(c for c in text[: 8 * _LONGEST] if c.isprintable())
