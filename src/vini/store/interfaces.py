"""The network interfaces of nodes, as each said when it introduced itself last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from sqlalchemy import bindparam, delete, insert, select

from vini.rules.interfaces import NodeInterface, believed, has
from vini.rules.nouns import InterfaceRow
from vini.store.database import Tx
from vini.store.page import AnyRow, matches, page
from vini.store.tables import interfaces, nodes

_COLUMNS = (interfaces.c.name, interfaces.c.mac, interfaces.c.mtu, interfaces.c.addresses, interfaces.c.speed_mbit)
_JOINED = interfaces.join(nodes)
_KEY = nodes.c.name + " " + interfaces.c.name  # there is no space in the name of a node
_QUERY = select(nodes.c.name.label("node"), nodes.c.address, *_COLUMNS).select_from(_JOINED)
_BEFORE = select(interfaces.c.node_id, *_COLUMNS).where(interfaces.c.node_id.in_(bindparam("of", expanding=True)))
_NUMBERS = select(nodes.c.name, nodes.c.id).where(nodes.c.name.in_(bindparam("of", expanding=True)))


def note(tx: Tx, said: Mapping[str, Sequence[NodeInterface]]) -> None:
    """These nodes have these interfaces and no others; of one that was deleted nothing is written.

    Whoever calls holds their rows: two centrals may be told at once.
    """
    ids = dict(tx.execute(_NUMBERS, {"of": list(said)}).all())
    before: dict[int, dict[str, NodeInterface]] = {i: {} for i in ids.values()}
    for row in tx.execute(_BEFORE, {"of": list(before)}):
        before[row.node_id][row.name] = NodeInterface(
            row.name, row.mac, row.mtu, tuple(row.addresses.split()), row.speed_mbit
        )
    new = {i: now for name, i in sorted(ids.items()) if (now := believed(said[name])) != before[i]}
    if not new:
        return
    tx.execute(delete(interfaces).where(interfaces.c.node_id.in_(new)))
    if rows := [_columns(i, one) for i, those in new.items() for one in those.values()]:
        tx.execute(insert(interfaces), rows)


def some(
    tx: Tx, after: str | None, limit: int, node: str = "", name: str = ""
) -> tuple[list[InterfaceRow], bool]:  # fmt: skip
    """One page by node and name, and whether more follow; `after` is an `InterfaceRow.key`."""
    query = _QUERY.where(matches(nodes.c.name, node), matches(interfaces.c.name, name))
    rows, more = page(tx, query, _KEY, after, limit)
    return [_row(row) for row in rows], more


def _columns(node: int, one: NodeInterface) -> dict[str, int | str]:
    return {
        "node_id": node, "name": one.name, "mac": one.mac, "mtu": one.mtu, "addresses": " ".join(one.addresses),
        "speed_mbit": one.speed_mbit,
    }  # fmt: skip


def _row(row: AnyRow) -> InterfaceRow:
    addresses = tuple(row.addresses.split())
    primary = bool(row.address) and has(addresses, str(ip_address(row.address)))
    return InterfaceRow(row.node, row.name, row.mac, row.mtu, addresses, row.speed_mbit, primary)
