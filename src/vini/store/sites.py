"""Sites: places that host nodes and people, with a quota."""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy import delete as delete_rows

from vini.model import Conflict, NotFound
from vini.rules.access import absent
from vini.rules.nouns import Site
from vini.rules.wishes import NewSite
from vini.store.database import Tx
from vini.store.page import AnyRow, matches, page
from vini.store.tables import engine_servers, nodes, sites, slices

_FOUND = select(sites).where(sites.c.login_base == bindparam("of"))
_LOCKED = _FOUND.with_for_update()


def add(tx: Tx, new: NewSite) -> Site:
    """Raises Conflict where the name is taken."""
    if _find(tx, new.login_base):
        raise Conflict(f"There is a site {new.login_base!r} already; change that one, or take another name.")
    values = {field: getattr(new, field) for field in new.__struct_fields__}
    tx.execute(insert(sites).values(values))
    return get(tx, new.login_base)


def get(tx: Tx, login_base: str, lock: bool = False) -> Site:
    """Raises NotFound.  With `lock` nobody else changes it until this transaction ends."""
    row = _find(tx, login_base, lock)
    if row is None:
        raise NotFound(absent("site", login_base))
    return _site(row)


def all(tx: Tx) -> list[Site]:
    """By name."""
    return [_site(row) for row in tx.execute(select(sites).order_by(sites.c.login_base))]


def some(tx: Tx, after: str | None, limit: int, name: str = "", enabled: bool | None = None) -> tuple[list[Site], bool]:
    """One page by name, and whether more follow."""
    query = select(sites).where(matches(sites.c.login_base, name))
    if enabled is not None:
        query = query.where(sites.c.enabled.is_(enabled))
    rows, more = page(tx, query, sites.c.login_base, after, limit)
    return [_site(row) for row in rows], more


def change(tx: Tx, login_base: str, values: dict[str, Any]) -> Site:
    """Columns -> what they are from now on."""
    if values:
        tx.execute(update(sites).where(sites.c.login_base == login_base).values(values))
    return get(tx, login_base)


def delete(tx: Tx, login_base: str) -> None:
    """Raises Conflict while it has nodes, slices, or servers of the engine."""
    site = get(tx, login_base, lock=True)
    for table, what in ((nodes, "node"), (slices, "slice"), (engine_servers, "engine server")):
        if count := tx.scalar(select(func.count()).select_from(table).where(table.c.site_id == site.id)):
            which = f"1 {what}; delete it first" if count == 1 else f"{count} {what}s; delete them first"
            raise Conflict(f"Site {login_base!r} has {which}.")
    tx.execute(delete_rows(sites).where(sites.c.id == site.id))


def number(tx: Tx, login_base: str) -> int:
    """Its id.  Raises NotFound."""
    found = tx.scalar(select(sites.c.id).where(sites.c.login_base == login_base))
    if found is None:
        raise NotFound(absent("site", login_base))
    return int(found)


def slice_count(tx: Tx, site_id: int) -> int:
    """How many slices it has."""
    return tx.scalar(select(func.count()).select_from(slices).where(slices.c.site_id == site_id)) or 0


def _find(tx: Tx, login_base: str, lock: bool = False) -> AnyRow | None:
    return tx.execute(_LOCKED if lock else _FOUND, {"of": login_base}).one_or_none()


def _site(row: AnyRow) -> Site:
    return Site(**row._mapping)
