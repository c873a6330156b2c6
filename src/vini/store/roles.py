"""Roles: what a person may at a site, or, as an admin, everywhere."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import bindparam, delete, insert, select

from vini.model import NotFound
from vini.rules.caller import EVERYWHERE, Role
from vini.rules.errors import Invalid
from vini.store import sites
from vini.store.database import Tx
from vini.store.tables import roles
from vini.store.tables import sites as sites_table

Held = tuple[str, str]  # (role, site)
_OF = (
    select(roles.c.person_id, roles.c.role, sites_table.c.login_base)
    .select_from(roles.outerjoin(sites_table, sites_table.c.id == roles.c.site_id))
    .where(roles.c.person_id.in_(bindparam("of", expanding=True)))
)
_ENABLED = _OF.where(sites_table.c.enabled.is_not(False))


def grant(tx: Tx, person_id: int, role: Role, site: str = EVERYWHERE) -> None:
    """He has it afterwards, whether or not he had.  Raises Invalid where a role is held elsewhere than it can be."""
    if (role == "admin") != (site == EVERYWHERE):
        raise Invalid("An admin is one everywhere, without a site; every other role is held at a site. Name the site.")
    if (role, site) not in of(tx, [person_id]).get(person_id, ()):
        tx.execute(insert(roles).values(person_id=person_id, role=role, site_id=_site(tx, site)))


def revoke(tx: Tx, person_id: int, role: str, site: str = EVERYWHERE) -> None:
    """Raises NotFound where he hasn't it."""
    at = roles.c.site_id.is_(None) if site == EVERYWHERE else roles.c.site_id == _site(tx, site)
    gone = tx.execute(delete(roles).where(roles.c.person_id == person_id, roles.c.role == role, at))
    if not gone.rowcount:
        raise NotFound(f"He has no role {role!r}" + (f" at site {site!r}." if site else " everywhere."))


def of(tx: Tx, person_ids: Collection[int], enabled: bool = False) -> dict[int, set[Held]]:
    """Person -> his roles; with `enabled` without those at sites that are disabled."""
    if not person_ids:
        return {}
    found: dict[int, set[Held]] = {}
    for person, role, site in tx.execute(_ENABLED if enabled else _OF, {"of": list(person_ids)}):
        found.setdefault(person, set()).add((role, site or EVERYWHERE))
    return found


def _site(tx: Tx, site: str) -> int | None:
    return None if site == EVERYWHERE else sites.number(tx, site)
