"""Tags of nodes, slices, slices in a nodegroup, and slivers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy import delete as delete_rows

from vini.model import NotFound
from vini.rules import grants
from vini.rules.access import absent
from vini.rules.caller import Caller
from vini.rules.errors import Invalid
from vini.rules.nouns import Tag
from vini.rules.tags import effective, nodegroups_of
from vini.store import authorized, nodegroups, nodes, slices
from vini.store.database import Tx
from vini.store.page import AnyRow, matches, page
from vini.store.tables import nodegroups as nodegroups_table
from vini.store.tables import nodes as nodes_table
from vini.store.tables import slices as slices_table
from vini.store.tables import tags

_JOINED = tags.outerjoin(slices_table).outerjoin(nodes_table, nodes_table.c.id == tags.c.node_id)
_JOINED = _JOINED.outerjoin(nodegroups_table, nodegroups_table.c.id == tags.c.nodegroup_id)
_QUERY = select(
    tags.c.id,
    tags.c.name,
    tags.c.value,
    slices_table.c.name.label("slice"),
    nodes_table.c.name.label("node"),
    nodegroups_table.c.name.label("nodegroup"),
).select_from(_JOINED)
_SAYS = (
    select(tags.c.id)
    .select_from(tags.join(slices_table))
    .where(slices_table.c.name == bindparam("of"), tags.c.name == bindparam("what"))
    .limit(1)
)
_GRANTING = select(slices_table.c.name).select_from(_JOINED).where(tags.c.name == grants.TAG)


def put(tx: Tx, name: str, value: str, *, slice_: str = "", node: str = "", nodegroup: str = "") -> Tag:
    """It has that value afterwards, whether or not there was one.  Raises Invalid where that is no target of a tag."""
    if not (slice_ or node) or (node and nodegroup) or (nodegroup and not slice_):
        raise Invalid("A tag is of a node, of a slice, of a slice in a nodegroup, or of a slice on a node.")
    if name == grants.TAG:
        grants.parsed(value)
    if not slice_:  # a node's tags say in which nodegroups it is
        nodegroups.changed(tx)
    elif name == grants.TAG:
        authorized.changed(tx)
    target = {
        "slice_id": _slice(tx, slice_) if slice_ else None,
        "node_id": nodes.number(tx, node) if node else None,
        "nodegroup_id": nodegroups.get(tx, nodegroup).id if nodegroup else None,
    }
    same = [tags.c.name == name, *(tags.c[c].is_not_distinct_from(v) for c, v in target.items())]
    number = tx.execute(update(tags).where(*same).values(value=value).returning(tags.c.id)).scalar_one_or_none()
    if number is None:
        made = tx.execute(insert(tags).values(name=name, value=value, **target).returning(tags.c.id))
        number = made.scalar_one()
    return get(tx, number)


def get(tx: Tx, number: int) -> Tag:
    """Raises NotFound."""
    row = tx.execute(_QUERY.where(tags.c.id == number)).one_or_none()
    if row is None:
        raise NotFound(absent("tag", str(number)))
    return _tag(row)


def some(
    tx: Tx,
    after: int | None,
    limit: int,
    *,
    name: str = "",
    slice_: str = "",
    node: str = "",
    nodegroup: str = "",
    caller: Caller | None = None,
) -> tuple[list[Tag], bool]:
    """One page by number, and whether more follow; with `caller` without those of slices that he may not see."""
    query = _QUERY.where(matches(tags.c.name, name))
    if caller is not None:
        query = query.where(tags.c.slice_id.is_(None) | slices_table.c.name.in_(slices.visible(caller)))
    for column, wanted in ((slices_table, slice_), (nodes_table, node), (nodegroups_table, nodegroup)):
        query = query.where(matches(column.c.name, wanted))
    rows, more = page(tx, query, tags.c.id, after, limit)
    return [_tag(row) for row in rows], more


def delete(tx: Tx, number: int) -> None:
    """Raises NotFound."""
    gone = get(tx, number)
    if not gone.slice:
        nodegroups.changed(tx)
    elif gone.name == grants.TAG:
        authorized.changed(tx)
    if not tx.execute(delete_rows(tags).where(tags.c.id == number)).rowcount:
        raise NotFound(absent("tag", str(number)))


def of_sliver(tx: Tx, slice_: str, node: str) -> dict[str, str]:
    """Name -> the value that holds for a slice on a node: sliver > nodegroup > slice."""
    mine = [_tag(row) for row in tx.execute(_QUERY.where(slices_table.c.name == slice_))]
    of_node = tx.execute(_QUERY.where(nodes_table.c.name == node, tags.c.slice_id.is_(None)))
    groups = nodegroups_of({row.name: row.value for row in of_node}, nodegroups.all(tx))
    return effective(mine, slice_, node, groups)


def says(tx: Tx, slice_: str, name: str) -> bool:
    """Whether a slice has a tag of that name, wherever it holds."""
    return tx.execute(_SAYS, {"of": slice_, "what": name}).first() is not None


def granting(tx: Tx) -> frozenset[str]:
    """The slices to whose processes operators grant anything, somewhere."""
    return frozenset(tx.scalars(_GRANTING))


def granted(
    tx: Tx, slices_of: Mapping[str, Iterable[str]], tagged: frozenset[str]
) -> dict[tuple[str, str], tuple[str, ...]]:
    """(node, slice) -> what operators grant to processes of the slice there, of those of these nodes and slices that
    have any; `tagged` is `granting`."""
    out = {}
    for node, names in slices_of.items():
        for slice_ in tagged.intersection(names):
            if words := of_sliver(tx, slice_, node).get(grants.TAG, "").replace(",", " ").split():
                out[node, slice_] = tuple(words)
    return out


def _slice(tx: Tx, name: str) -> int:
    found = tx.scalar(select(slices_table.c.id).where(slices_table.c.name == name))
    if found is None:
        raise NotFound(absent("slice", name))
    return int(found)


def _tag(row: AnyRow) -> Tag:
    return Tag(row.id, row.name, row.value, row.slice or "", row.node or "", row.nodegroup or "")
