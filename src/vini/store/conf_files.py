"""Conf files, kept for who configures nodes; one for a node goes before one for its nodegroup, and that before one for
all."""

from __future__ import annotations

from sqlalchemy import delete as delete_rows
from sqlalchemy import insert, select

from vini.model import NotFound
from vini.rules.access import absent
from vini.rules.errors import Invalid
from vini.rules.nouns import ConfFile
from vini.rules.tags import conf_files_of
from vini.store import nodegroups, nodes
from vini.store.database import Tx
from vini.store.page import AnyRow
from vini.store.tables import conf_files
from vini.store.tables import nodegroups as nodegroups_table
from vini.store.tables import nodes as nodes_table

_JOINED = conf_files.outerjoin(nodes_table).outerjoin(
    nodegroups_table, nodegroups_table.c.id == conf_files.c.nodegroup_id
)
_QUERY = select(
    *(c for c in conf_files.c if c.name not in ("node_id", "nodegroup_id")),
    nodes_table.c.name.label("node"),
    nodegroups_table.c.name.label("nodegroup"),
).select_from(_JOINED)


def add(
    tx: Tx,
    path: str,
    text: str,
    *,
    mode: int = 0o644,
    owner: str = "root",
    enabled: bool = True,
    node: str = "",
    nodegroup: str = "",
) -> ConfFile:
    """Raises Invalid where it is for a node and for a nodegroup."""
    if node and nodegroup:
        raise Invalid("A conf file is for one node, for a nodegroup, or for all; name one of them.")
    values = {
        "path": path, "text": text, "mode": mode, "owner": owner, "enabled": enabled,
        "node_id": nodes.number(tx, node) if node else None,
        "nodegroup_id": nodegroups.get(tx, nodegroup).id if nodegroup else None,
    }  # fmt: skip
    return get(tx, tx.execute(insert(conf_files).values(values).returning(conf_files.c.id)).scalar_one())


def get(tx: Tx, number: int) -> ConfFile:
    """Raises NotFound."""
    row = tx.execute(_QUERY.where(conf_files.c.id == number)).one_or_none()
    if row is None:
        raise NotFound(absent("conf file", str(number)))
    return _file(row)


def all(tx: Tx) -> list[ConfFile]:
    """In the order in which they came."""
    return [_file(row) for row in tx.execute(_QUERY.order_by(conf_files.c.id))]


def of_node(tx: Tx, node: str) -> list[ConfFile]:
    """Those that hold for a node, by path."""
    groups = [g.name for g in nodegroups.all(tx) if node in g.nodes]
    return list(conf_files_of(all(tx), node, groups).values())


def delete(tx: Tx, number: int) -> None:
    """Raises NotFound."""
    if not tx.execute(delete_rows(conf_files).where(conf_files.c.id == number)).rowcount:
        raise NotFound(absent("conf file", str(number)))


def _file(row: AnyRow) -> ConfFile:
    return ConfFile(**{**row._mapping, "node": row.node or "", "nodegroup": row.nodegroup or ""})
