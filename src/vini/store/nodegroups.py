"""Nodegroups: all nodes whose tag has a value.  Who is in one is computed."""

from __future__ import annotations

from sqlalchemy import delete as delete_rows
from sqlalchemy import insert, select

from vini.model import Conflict, NotFound
from vini.rules.access import absent
from vini.rules.nouns import NodeGroup
from vini.store import authorized, counters
from vini.store.database import Tx
from vini.store.page import AnyRow
from vini.store.tables import nodegroups, tags
from vini.store.tables import nodes as nodes_table

COUNTER = "nodegroups"  # how often it changed which nodes are in which


def changed(tx: Tx) -> None:
    """Other nodes are in some nodegroup after this transaction, or may be."""
    counters.add(tx, COUNTER)
    authorized.changed(tx)


def add(tx: Tx, name: str, tag: str, value: str) -> NodeGroup:
    """Raises Conflict where there is one."""
    if tx.scalar(select(nodegroups.c.id).where(nodegroups.c.name == name)):
        raise Conflict(f"There is a nodegroup {name!r} already; take another name.")
    tx.execute(insert(nodegroups).values(name=name, tag=tag, value=value))
    changed(tx)
    return get(tx, name)


def get(tx: Tx, name: str) -> NodeGroup:
    """Raises NotFound."""
    row = tx.execute(select(nodegroups).where(nodegroups.c.name == name)).one_or_none()
    if row is None:
        raise NotFound(absent("nodegroup", name))
    return _group(tx, row)


def all(tx: Tx) -> list[NodeGroup]:
    """By name."""
    return [_group(tx, row) for row in tx.execute(select(nodegroups).order_by(nodegroups.c.name)).all()]


def delete(tx: Tx, name: str) -> None:
    """With the tags that slices have in it.  Raises NotFound."""
    if not tx.execute(delete_rows(nodegroups).where(nodegroups.c.name == name)).rowcount:
        raise NotFound(absent("nodegroup", name))
    changed(tx)


def _group(tx: Tx, row: AnyRow) -> NodeGroup:
    query = select(nodes_table.c.name).select_from(tags.join(nodes_table, nodes_table.c.id == tags.c.node_id))
    mine = query.where(tags.c.slice_id.is_(None), tags.c.name == row.tag, tags.c.value == row.value)
    return NodeGroup(row.id, row.name, row.tag, row.value, tuple(tx.scalars(mine.order_by(nodes_table.c.name))))
