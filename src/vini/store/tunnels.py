"""Tunnels: a number for each link that crosses machines, its VXLAN network identifier or GRE key, unique in the
testbed; and for each slice whose tunnels are encrypted, a port for its WireGuard.

Numbers are given in turn, so one that was freed is not given again before all others were: a node that has not heard
yet that a link ended never sees its number on another.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Column, bindparam, delete, insert, select

from vini.model import CapacityError, Value
from vini.store import counters
from vini.store.database import Tx
from vini.store.tables import tunnels, wireguards

MOST = (1 << 24) - 1  # RFC 7348
PORTS = range(20_001, 32_001)  # registered, little used, below those that Linux gives to clients (32768 to 60999)


class _Space(Value, frozen=True):
    """Numbers 1..most, of which a column has those that are taken."""

    column: Column[Any]
    counter: str
    most: int
    what: str


_NUMBERS = _Space(tunnels.c.vni, "vni", MOST, "tunnels")
_PORTS = _Space(wireguards.c.number, "wireguard", len(PORTS), "ports for slices with encrypted tunnels")


_HAD = select(tunnels.c.link, tunnels.c.vni).where(tunnels.c.slice == bindparam("of"))
_PORT = select(wireguards.c.number).where(wireguards.c.slice == bindparam("of"))
_NO_PORT = delete(wireguards).where(wireguards.c.slice == bindparam("of"))


def lease(tx: Tx, slice_: str, links: Collection[str]) -> dict[str, int]:
    """Link -> its number: the one that it had, or a new one.  Those of links that are not named are free again.

    Two transactions at once wait for each other.
    """
    had: dict[str, int] = dict(tx.execute(_HAD, {"of": slice_}).all())
    _give_back(tx, slice_, sorted(set(had) - set(links)))
    new = sorted(set(links) - set(had))
    given = dict(zip(new, _free(tx, _NUMBERS, len(new)), strict=True)) if new else {}
    if given:
        tx.execute(insert(tunnels), [{"slice": slice_, "link": link, "vni": vni} for link, vni in given.items()])
    return {link: given.get(link) or had[link] for link in links}


def lease_port(tx: Tx, slice_: str, wanted: bool) -> int:
    """The slice's UDP port for WireGuard, at all nodes: the one that it had, or a new one.

    Not `wanted`: that is free again, and there is none, 0.
    """
    if not wanted:
        tx.execute(_NO_PORT, {"of": slice_})
        return 0
    had = tx.scalar(_PORT, {"of": slice_})
    if had is None:
        (had,) = _free(tx, _PORTS, 1)
        tx.execute(insert(wireguards).values(slice=slice_, number=had))
    return PORTS[had - 1]


def give_back(tx: Tx, slice_: str) -> None:
    """All that a slice had."""
    lease(tx, slice_, ())
    lease_port(tx, slice_, wanted=False)


def _give_back(tx: Tx, slice_: str, links: list[str]) -> None:
    for some in (links[i : i + 500] for i in range(0, len(links), 500)):
        tx.execute(delete(tunnels).where(tunnels.c.slice == slice_, tunnels.c.link.in_(some)))


def _free(tx: Tx, space: _Space, count: int) -> list[int]:
    """The next ones in turn that nobody has."""
    found: list[int] = []
    at = counters.add(tx, space.counter, 0) % space.most  # the counter is ours until we commit
    left, least = space.most, 64
    while len(found) < count:
        if left <= 0:
            raise CapacityError(
                f"All {space.most} {space.what} of this testbed are in use; {count - len(found)} more are needed."
            )
        span = min(max(least, 2 * (count - len(found))), left, space.most - at)
        least *= 2  # past where all are taken in few questions
        taken = set(tx.scalars(select(space.column).where(space.column > at, space.column <= at + span)))
        some = [number for number in range(at + 1, at + span + 1) if number not in taken][: count - len(found)]
        found += some
        moved = some[-1] - at if len(found) == count and some else span
        at, left = (at + moved) % space.most, left - moved
        counters.add(tx, space.counter, moved)
    return found
