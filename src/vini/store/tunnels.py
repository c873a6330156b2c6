"""Tunnels: a VXLAN network identifier for each link that crosses machines, unique in the testbed.

Numbers are given in turn, so one that was freed is not given again before all others were: a node that has not heard
yet that a link ended never sees its number on another.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import delete, insert, select

from vini.model import CapacityError
from vini.store import counters
from vini.store.database import Tx
from vini.store.tables import tunnels

MOST = (1 << 24) - 1  # RFC 7348


def lease(tx: Tx, slice_: str, links: Collection[str]) -> dict[str, int]:
    """Link -> its VNI: the one that it had, or a new one.  Those of links that are not named are free again.

    Two transactions at once wait for each other.
    """
    query = select(tunnels.c.link, tunnels.c.vni).where(tunnels.c.slice == slice_)
    had: dict[str, int] = dict(tx.execute(query).all())
    _give_back(tx, slice_, sorted(set(had) - set(links)))
    new = sorted(set(links) - set(had))
    given = dict(zip(new, _free(tx, len(new)), strict=True)) if new else {}
    if given:
        tx.execute(insert(tunnels), [{"slice": slice_, "link": link, "vni": vni} for link, vni in given.items()])
    return {link: given.get(link) or had[link] for link in links}


def _give_back(tx: Tx, slice_: str, links: list[str]) -> None:
    for some in (links[i : i + 500] for i in range(0, len(links), 500)):
        tx.execute(delete(tunnels).where(tunnels.c.slice == slice_, tunnels.c.link.in_(some)))


def _free(tx: Tx, count: int) -> list[int]:
    """The next ones in turn that nobody has."""
    found: list[int] = []
    at = counters.add(tx, "vni", 0) % MOST  # the counter is ours until we commit
    left = MOST
    while len(found) < count:
        if left <= 0:
            raise CapacityError(f"All {MOST} tunnels of this testbed are in use; {count - len(found)} more are needed.")
        span = min(max(64, 2 * (count - len(found))), left, MOST - at)
        taken = set(tx.scalars(select(tunnels.c.vni).where(tunnels.c.vni > at, tunnels.c.vni <= at + span)))
        some = [vni for vni in range(at + 1, at + span + 1) if vni not in taken][: count - len(found)]
        found += some
        moved = some[-1] - at if len(found) == count and some else span
        at, left = (at + moved) % MOST, left - moved
        counters.add(tx, "vni", moved)
    return found
