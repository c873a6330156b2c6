"""How long packets take between nodes: one row for each node that measured, whatever number of others it asked.

A row for each two would be half a million of them with a thousand nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec
from sqlalchemy import select, true
from sqlalchemy.dialects import postgresql, sqlite

from vini.bandwidth import Pair
from vini.rules import mesh
from vini.rules.mesh import Measured, Member
from vini.store import nodes as nodes_store
from vini.store.database import Tx
from vini.store.tables import latencies, nodes

_DECODER = msgspec.msgpack.Decoder(dict[str, Measured])


def members(tx: Tx) -> list[Member]:
    """The nodes that can be asked, by name."""
    query = select(nodes.c.name, nodes.c.address).where(nodes.c.boot_state.in_(("boot", "safeboot")))
    return mesh.members((name, address) for name, address in tx.execute(query))


def known(tx: Tx, names: Collection[str] | None = None) -> dict[str, dict[str, Measured]]:
    """Node -> what it learned of others; of these nodes, or of all."""
    query = select(nodes.c.name, latencies.c.body).select_from(latencies.join(nodes))
    if names is not None:
        query = query.where(nodes.c.name.in_(names))
    return {str(name): _read(body) for name, body in tx.execute(query)}


def note(tx: Tx, learned: Mapping[str, Mapping[str, float | None]], now: float) -> None:
    """Node -> round trips in ms to others, now (None: nothing came back).  Of nodes that there aren't nothing is
    written."""
    before = known(tx, learned.keys())
    numbers = tx.execute(select(nodes.c.id, nodes.c.name).where(nodes.c.name.in_(learned.keys())).order_by(nodes.c.id))
    rows = [
        {"node_id": i, "body": msgspec.msgpack.encode(mesh.after(before.get(name, {}), learned[name], now))}
        for i, name in numbers
    ]
    if rows:
        made = (sqlite if tx.dialect.name == "sqlite" else postgresql).insert(latencies)
        tx.execute(made.on_conflict_do_update(index_elements=["node_id"], set_={"body": made.excluded.body}), rows)


def all(tx: Tx, now: float, names: Collection[str] | None = None) -> dict[Pair, Measured]:
    """All that is believed, of each two nodes; or only between these."""
    if names is not None and len(names) < 2:
        return {}
    found = known(tx, names)
    wanted = nodes.c.name.in_(names) if names is not None and nodes_store.are_few(names) else true()
    if names is not None:
        found = {node: {p: m for p, m in of.items() if p in names} for node, of in found.items()}
    joined = {str(name): float(at) for name, at in tx.execute(select(nodes.c.name, nodes.c.joined).where(wanted))}
    return mesh.believed(found, joined, now)


def _read(body: bytes) -> dict[str, Measured]:
    try:
        return _DECODER.decode(body)
    except msgspec.DecodeError:  # another version's: it is measured anew
        return {}
