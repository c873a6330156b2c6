"""Servers of the engine that operators added, and which nodes are at the sites of some."""

from __future__ import annotations

import secrets

from sqlalchemy import delete as delete_rows
from sqlalchemy import insert, select

from vini.model import Conflict, NotFound
from vini.rules.engine import EngineServer
from vini.store import counters, nodes, sites
from vini.store.database import Tx
from vini.store.tables import engine_servers
from vini.store.tables import nodes as nodes_table
from vini.store.tables import sites as sites_table

_ALL = (
    select(engine_servers.c.number, engine_servers.c.address, sites_table.c.login_base)
    .select_from(engine_servers.outerjoin(sites_table))
    .order_by(engine_servers.c.address)
)
_KEYS = (
    select(engine_servers.c.number, nodes_table.c.public_key)
    .join(nodes_table, nodes_table.c.site_id == engine_servers.c.site_id)
    .where(nodes_table.c.boot_state.in_(nodes.CONNECTABLE))
    .order_by(nodes_table.c.id)
)


def add(tx: Tx, address: str, site: str = "") -> EngineServer:
    """With a site: for that site's nodes.  Raises NotFound where there is no such site, Conflict where the address is
    taken."""
    counters.add(tx, nodes.COUNTER)  # first: whoever adds the same at this moment waits
    if old := find(tx, address):
        what = f"the one of site {old.site}" if old.site else "one of the cluster"
        raise Conflict(
            f"The engine's server {address} is {what} already; `vini central engine write --all` says what to copy "
            f"there, and before another one takes its place, `vini central engine remove {address}`."
        )
    number = secrets.randbits(48)  # not counted: a restored backup would count some anew
    site_id = sites.number(tx, site) if site else None
    tx.execute(insert(engine_servers).values(number=number, address=address, site_id=site_id))
    return EngineServer(number, address, site)


def remove(tx: Tx, address: str) -> EngineServer:
    """Raises NotFound."""
    counters.add(tx, nodes.COUNTER)
    found = find(tx, address)
    if found is None:
        known = ", ".join(s.address for s in all(tx)) or "none"
        raise NotFound(f"The engine has no server {address} that was added to it; there are: {known}.")
    tx.execute(delete_rows(engine_servers).where(engine_servers.c.address == address))
    return found


def find(tx: Tx, address: str) -> EngineServer | None:
    """None where there is none."""
    return next((server for server in all(tx) if server.address == address), None)


def all(tx: Tx) -> tuple[EngineServer, ...]:
    """By address."""
    return tuple(EngineServer(number, address, site or "") for number, address, site in tx.execute(_ALL))


def nodes_at(tx: Tx) -> dict[int, tuple[bytes, ...]]:
    """Number of each server at a site -> the public keys of that site's nodes that may connect."""
    found: dict[int, list[bytes]] = {server.number: [] for server in all(tx) if server.site}
    for number, key in tx.execute(_KEYS):
        found[number].append(key)
    return {number: tuple(keys) for number, keys in found.items()}
