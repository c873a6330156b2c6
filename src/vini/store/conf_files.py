"""Conf files, which nodes are asked to have; one for a node goes before one for its nodegroup, and that before one for
all."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from msgspec import structs
from sqlalchemy import delete as delete_rows
from sqlalchemy import insert, select, update

from vini.model import NotFound
from vini.rules.access import absent
from vini.rules.conf_files import MOST_BYTES, MOST_COMMAND, checked
from vini.rules.errors import Invalid
from vini.rules.nouns import ConfFile
from vini.rules.tags import conf_files_of
from vini.store import counters, nodegroups, nodes
from vini.store.database import Tx
from vini.store.page import AnyRow
from vini.store.tables import conf_files
from vini.store.tables import nodegroups as nodegroups_table
from vini.store.tables import nodes as nodes_table

COUNTER = "conf files"  # how often they changed
_COMMANDS = ("preinstall_cmd", "postinstall_cmd", "error_cmd")
_JOINED = conf_files.outerjoin(nodes_table).outerjoin(
    nodegroups_table, nodegroups_table.c.id == conf_files.c.nodegroup_id
)
_QUERY = select(
    *(c for c in conf_files.c if c.name not in ("node_id", "nodegroup_id")),
    nodes_table.c.name.label("node"),
    nodegroups_table.c.name.label("nodegroup"),
).select_from(_JOINED)


def put(tx: Tx, path: str, text: str, *, node: str = "", nodegroup: str = "", **more: Any) -> ConfFile:
    """There is this one afterwards, whether or not there was one with its path for the same nodes; `more`: other
    fields of a `ConfFile`.

    Raises Invalid where it is for a node and for a nodegroup, where that is no path, or all would be too large.
    """
    if node and nodegroup:
        raise Invalid("A conf file is for one node, for a nodegroup, or for all; name one of them.")
    checked(path)
    for command in _COMMANDS:
        if len(str(more.get(command, "")).encode()) > MOST_COMMAND:
            raise Invalid(f"A command has {MOST_COMMAND} bytes at most; put what is longer into a file, and call that.")
    counters.add(tx, COUNTER)  # first: whoever puts another one at the same time waits
    target = {
        "node_id": nodes.number(tx, node) if node else None,
        "nodegroup_id": nodegroups.get(tx, nodegroup).id if nodegroup else None,
    }
    same = [conf_files.c.path == path, *(conf_files.c[c].is_not_distinct_from(v) for c, v in target.items())]
    values = {"text": text, "mode": 0o644, "owner": "root", "enabled": True, **more}
    number = tx.scalar(select(conf_files.c.id).where(*same).order_by(conf_files.c.id).limit(1))
    if number is None:
        made = insert(conf_files).values(path=path, **target, **values).returning(conf_files.c.id)
        number = tx.execute(made).scalar_one()
    else:
        tx.execute(update(conf_files).where(conf_files.c.id == number).values(values))
    if (size := sum(map(_bytes, all(tx)))) > MOST_BYTES:
        raise Invalid(
            f"All conf files together would have {size} bytes, and may have {MOST_BYTES}; delete some "
            "(`vini conffile remove`), or let nodes fetch what is large."
        )
    return get(tx, number)


def get(tx: Tx, number: int) -> ConfFile:
    """Raises NotFound."""
    row = tx.execute(_QUERY.where(conf_files.c.id == number)).one_or_none()
    if row is None:
        raise NotFound(absent("conf file", str(number)))
    return _file(row)


def all(tx: Tx) -> list[ConfFile]:
    """In the order in which they came."""
    return [_file(row) for row in tx.execute(_QUERY.order_by(conf_files.c.id))]


def of_nodes(tx: Tx, names: Collection[str]) -> dict[str, list[ConfFile]]:
    """Node -> those that hold for it, by path."""
    files = all(tx)
    if not files:
        return {name: [] for name in names}
    groups = nodegroups.all(tx)
    return {
        name: list(conf_files_of(files, name, [g.name for g in groups if name in g.nodes]).values()) for name in names
    }


def of_node(tx: Tx, node: str) -> list[ConfFile]:
    """Those that hold for a node, by path."""
    return of_nodes(tx, [node])[node]


def delete(tx: Tx, number: int) -> None:
    """Raises NotFound."""
    if not tx.execute(delete_rows(conf_files).where(conf_files.c.id == number)).rowcount:
        raise NotFound(absent("conf file", str(number)))
    counters.add(tx, COUNTER)


def _bytes(file: ConfFile) -> int:
    """Of its texts, commands among them."""
    return sum(len(value.encode()) for value in structs.asdict(file).values() if isinstance(value, str))


def _file(row: AnyRow) -> ConfFile:
    return ConfFile(**{**row._mapping, "node": row.node or "", "nodegroup": row.nodegroup or ""})
