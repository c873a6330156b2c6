"""The substrate's links as operators declare them; and what slices take of the ways between nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete as delete_rows
from sqlalchemy import func, insert, select, update

from vini.bandwidth import Pair
from vini.model import Conflict, NotFound
from vini.rules.access import absent
from vini.rules.nouns import SubstrateLink
from vini.rules.substrate import SITE, Substrate, check_ends
from vini.rules.wishes import NewSubstrateLink
from vini.store import nodes, sites, slices
from vini.store.database import Tx
from vini.store.page import AnyRow
from vini.store.tables import crossings, substrate_links
from vini.store.tables import nodes as nodes_table
from vini.store.tables import sites as sites_table
from vini.store.tables import slices as slices_table

_ENDS = {
    f"{end}_{kind}": table.alias() for end in "ab" for kind, table in (("node", nodes_table), ("site", sites_table))
}


def _query() -> Any:
    joined: Any = substrate_links
    for name, table in _ENDS.items():
        joined = joined.outerjoin(table, table.c.id == substrate_links.c[f"{name}_id"])
    named = [table.c["name" if "node" in name else "login_base"].label(name) for name, table in _ENDS.items()]
    own = [c for c in substrate_links.c if not c.name.endswith(("_node_id", "_site_id"))]
    return select(*own, *named).select_from(joined).order_by(substrate_links.c.name)


_ALL = _query()


def all(tx: Tx) -> list[SubstrateLink]:
    """By name."""
    return [_link(row) for row in tx.execute(_ALL)]


def get(tx: Tx, name: str) -> SubstrateLink:
    """Raises NotFound."""
    row = tx.execute(_ALL.where(substrate_links.c.name == name)).one_or_none()
    if row is None:
        raise NotFound(absent("substrate link", name))
    return _link(row)


def picture(tx: Tx, measured: Mapping[Pair, float] | None = None) -> Substrate:
    """All of it, for questions; with what was measured of the ways between nodes."""
    links = all(tx)
    return Substrate(links, nodes.sites_of(tx) if links else {}, measured)


def add(tx: Tx, new: NewSubstrateLink) -> SubstrateLink:
    """Raises Conflict where there is one of this name, NotFound where an end is nowhere, Invalid where both are one."""
    check_ends(new.a, new.b)
    if tx.scalar(select(substrate_links.c.id).where(substrate_links.c.name == new.name)):
        raise Conflict(f"There is a substrate link {new.name!r} already; take another name.")
    values = {"name": new.name, "rate_mbit": new.rate_mbit, "delay_ms": new.delay_ms, "down_since": 0.0}
    tx.execute(insert(substrate_links).values(**values, **_end(tx, "a", new.a), **_end(tx, "b", new.b)))
    return get(tx, new.name)


def change(tx: Tx, name: str, values: dict[str, Any], now: float) -> SubstrateLink:
    """Columns -> what they are from now on."""
    if "down" in values:
        values = {**values, "down_since": now if values["down"] else 0.0}
    if values:
        tx.execute(update(substrate_links).where(substrate_links.c.name == name).values(values))
    return get(tx, name)


def delete(tx: Tx, name: str) -> None:
    """Raises NotFound."""
    if not tx.execute(delete_rows(substrate_links).where(substrate_links.c.name == name)).rowcount:
        raise NotFound(absent("substrate link", name))


def settle(tx: Tx, before: Substrate) -> None:
    """What rides on the substrate fails, or comes back, where that is another now than it was `before`.

    Ask for it whenever the substrate was changed, in one's turn (`takings.turn`).
    """
    after = picture(tx)
    a, b = nodes_table.alias(), nodes_table.alias()
    joined = crossings.join(a, a.c.id == crossings.c.a_id).join(b, b.c.id == crossings.c.b_id).join(slices_table)
    rows = tx.execute(select(slices_table.c.name, a.c.name, b.c.name).select_from(joined)).all()
    pairs = {(one, other) for _, one, other in rows}
    turned = {pair for pair in pairs if before.why_down(*pair) != after.why_down(*pair)}
    for slice_ in slices.locked(tx, {slice_ for slice_, one, other in rows if (one, other) in turned}):
        slices.amend(tx, slice_, after.marked)


def others(tx: Tx, slice_: str) -> dict[Pair, float]:
    """What all other slices together take between nodes, in Mbit/s."""
    a, b = nodes_table.alias(), nodes_table.alias()
    joined = crossings.join(a, a.c.id == crossings.c.a_id).join(b, b.c.id == crossings.c.b_id).join(slices_table)
    query = select(a.c.name, b.c.name, func.sum(crossings.c.mbit)).select_from(joined)
    rows = tx.execute(query.where(slices_table.c.name != slice_).group_by(a.c.name, b.c.name))
    return {(one, other): float(mbit) for one, other, mbit in rows}


def _end(tx: Tx, end: str, place: str) -> Mapping[str, int]:
    if place.startswith(SITE):
        return {f"{end}_site_id": sites.number(tx, place.removeprefix(SITE))}
    return {f"{end}_node_id": nodes.number(tx, place)}


def _link(row: AnyRow) -> SubstrateLink:
    ends = (row.a_node or f"{SITE}{row.a_site}", row.b_node or f"{SITE}{row.b_site}")
    return SubstrateLink(row.id, row.name, row.rate_mbit, row.delay_ms, row.down, row.down_since, *ends)
