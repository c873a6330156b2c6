"""Nodes: the machines that joined, and what they last said of themselves."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy import delete as delete_rows

from vini.model import Conflict, NotFound
from vini.rules.access import absent
from vini.rules.errors import Invalid
from vini.rules.nouns import BootState, NodeRow, NodeSaid
from vini.rules.words import MOST, NODE
from vini.store import counters, sites
from vini.store.database import Tx
from vini.store.page import AnyRow, matches, page
from vini.store.tables import nodes, specs
from vini.store.tables import sites as sites_table

COUNTER = "nodes"  # counts how often it changed which nodes there are, and which of them may connect
_KEY = re.compile(r"[A-Za-z0-9+/]{43}=")  # 32 bytes in base64
_PARTS = 20  # of an agent, of which it may say that they fail
_FEW = 100  # names, for which the database is asked one by one
_OF = nodes.c.name.in_(bindparam("of", expanding=True))
_QUERY = select(*(c for c in nodes.c if c.name != "site_id"), sites_table.c.login_base.label("site")).select_from(
    nodes.join(sites_table)
)
_ALL = _QUERY.order_by(nodes.c.name)
_NAMED = _ALL.where(_OF)
_NUMBERS = select(nodes.c.id, nodes.c.name)
_SOME_NUMBERS = _NUMBERS.where(_OF)
_ADDRESSES = select(nodes.c.address).where(nodes.c.address != "").order_by(nodes.c.address)
CONNECTABLE = ("boot", "safeboot")
_MAY_CONNECT = nodes.c.boot_state.in_(CONNECTABLE)
_IDENTITIES = select(nodes.c.name, nodes.c.public_key, nodes.c.boot_state).where(_OF)


def join(tx: Tx, name: str, site: str, public_key: bytes, said: NodeSaid, at: float = 0.0) -> NodeRow:
    """A machine becomes a node, or with a new key the one of its name that was to be reinstalled.

    Asked again with the same key it changes nothing.  Raises Conflict where another node has the name, the key, or
    the address; Invalid where that is no name or address.
    """
    _check_said(name, said)
    site_id = sites.number(tx, site)
    row = tx.execute(select(nodes).where(nodes.c.name == name).with_for_update()).one_or_none()
    if row is not None and row.public_key != public_key:
        _may_replace(row, site_id)
    _check_unclaimed(tx, name, public_key, said.address)
    values = {**_columns(said), "site_id": site_id, "public_key": public_key}
    if row is None:
        fresh = {"name": name, "boot_state": "boot", "joined": at, "last_heard": 0.0, "clock_offset_s": 0.0}
        tx.execute(insert(nodes).values({**values, **fresh}))
        _changed(tx)
    elif row.public_key != public_key:
        tx.execute(update(nodes).where(nodes.c.id == row.id).values({**values, "boot_state": "boot", "joined": at}))
        tx.execute(update(specs).where(specs.c.node_id == row.id).values(acked=0))  # it holds nothing of before
        _changed(tx)
    return get(tx, name)


def _check_said(name: str, said: NodeSaid) -> None:
    if not re.fullmatch(NODE, name):
        raise Invalid(f"{name[:80]!r} is no name for a node: take a DNS name in small letters: n1.princeton.example.")
    try:
        ip_address(said.address or "::")
    except ValueError as e:
        raise Invalid(f"{said.address[:80]!r} is no IPv4 or IPv6 address by which other nodes could reach it.") from e


def _may_replace(row: AnyRow, site_id: int) -> None:
    if row.site_id != site_id:
        raise Conflict(f"There is a node {row.name!r} at another site; give this machine another name.")
    if row.boot_state != "reinstall":
        raise Conflict(
            f"There is a node {row.name!r} already. If this machine takes its place, `vini node reinstall {row.name}` "
            "first; else give this machine another name (--name)."
        )


def _check_unclaimed(tx: Tx, name: str, public_key: bytes, address: str) -> None:
    if other := tx.scalar(select(nodes.c.name).where(nodes.c.public_key == public_key, nodes.c.name != name)):
        raise Conflict(f"Node {other!r} has this key: was the disk copied? Remove the key on this machine, join again.")
    if not address or ip_address(address).is_loopback:
        return
    if other := tx.scalar(select(nodes.c.name).where(nodes.c.address == address, nodes.c.name != name)):
        raise Conflict(f"Node {other!r} has the address {address}; give this one its own, or delete {other!r}.")


def heard(tx: Tx, name: str, at: float, said: NodeSaid, clock_offset_s: float = 0.0) -> None:
    """It is alive, and this is how it is.  Raises NotFound for one that was deleted."""
    values = {**_columns(said), "last_heard": at, "clock_offset_s": _finite(clock_offset_s)}
    if not tx.execute(update(nodes).where(nodes.c.name == name).values(values)).rowcount:
        raise NotFound(absent("node", name))


def measured(tx: Tx, offsets: Mapping[str, tuple[float, float]], at: float) -> None:
    """These are alive, and their clocks are ahead by so much, give or take so much; of one that was deleted nothing is
    written."""
    values = {"clock_offset_s": bindparam("ahead"), "clock_error_s": bindparam("error"), "last_heard": at}
    change = update(nodes).where(nodes.c.name == bindparam("of")).values(values)
    rows = [
        {"of": n, "ahead": _finite(ahead), "error": _finite(error)} for n, (ahead, error) in sorted(offsets.items())
    ]
    if rows:
        tx.execute(change, rows)


def ail(tx: Tx, said: Mapping[str, tuple[str, ...]]) -> None:
    """This is what fails in the agents of these; of one that was deleted nothing is written."""
    for name, sentences in sorted(said.items()):
        tx.execute(update(nodes).where(nodes.c.name == name).values(failing=_lines(sentences)))


def addresses(tx: Tx) -> list[str]:
    """Of all nodes, whatever state they are in, by which others reach them."""
    return [address for (address,) in tx.execute(_ADDRESSES)]


def identities(tx: Tx, names: Collection[str]) -> dict[str, tuple[bytes, str]]:
    """Name -> public key and boot state, of those that there are."""
    return {name: (key, state) for name, key, state in tx.execute(_IDENTITIES, {"of": list(names)})}


def get(tx: Tx, name: str, lock: bool = False) -> NodeRow:
    """Raises NotFound."""
    query = _QUERY.where(nodes.c.name == name)
    row = tx.execute(query.with_for_update(of=nodes) if lock else query).one_or_none()
    if row is None:
        raise NotFound(absent("node", name))
    return _node(row)


def all(tx: Tx) -> list[NodeRow]:
    """By name."""
    return [_node(row) for row in tx.execute(_ALL)]


def named(tx: Tx, names: Collection[str]) -> list[NodeRow]:
    """Of these, those that there are, by name."""
    found = tx.execute(_NAMED, {"of": list(names)}) if are_few(names) else tx.execute(_ALL)
    return [_node(row) for row in found if row.name in names]


def sites_of(tx: Tx) -> dict[str, str]:
    """Node -> its site; nothing else is read of them."""
    query = select(nodes.c.name, sites_table.c.login_base).select_from(nodes.join(sites_table))
    return dict(tx.execute(query).all())


def are_few(names: Collection[str]) -> bool:
    """Whether the database is asked for these; of more, looking at all nodes is quicker."""
    return len(names) < _FEW


def some(
    tx: Tx, after: str | None, limit: int, name: str = "", site: str = "", boot_state: str = ""
) -> tuple[list[NodeRow], bool]:
    """One page by name, and whether more follow."""
    query = _QUERY.where(matches(nodes.c.name, name), matches(sites_table.c.login_base, site))
    rows, more = page(tx, query.where(matches(nodes.c.boot_state, boot_state)), nodes.c.name, after, limit)
    return [_node(row) for row in rows], more


def heard_of(tx: Tx) -> dict[str, int]:
    """The number of each one's site, of all that may connect and ever did."""
    query = select(nodes.c.name, nodes.c.site_id).where(nodes.c.last_heard > 0, _MAY_CONNECT)
    return {name: site for name, site in tx.execute(query)}  # noqa: C416 - rows are no pairs to mypy


def connectable(tx: Tx) -> set[str]:
    """The names of those that may talk to a central: a node that is drained may, one that is disabled may not."""
    return set(tx.scalars(select(nodes.c.name).where(_MAY_CONNECT)))


def keys_of_connectable(tx: Tx) -> set[bytes]:
    """Their public keys."""
    return set(tx.scalars(select(nodes.c.public_key).where(_MAY_CONNECT)))


def set_state(tx: Tx, name: str, state: BootState) -> NodeRow:
    """Raises NotFound."""
    tx.execute(update(nodes).where(nodes.c.name == name).values(boot_state=state))
    _changed(tx)
    return get(tx, name)


def delete(tx: Tx, name: str) -> None:
    """With its specs, tags and leases.  Raises NotFound."""
    if not tx.execute(delete_rows(nodes).where(nodes.c.name == name)).rowcount:
        raise NotFound(absent("node", name))
    _changed(tx)


def _changed(tx: Tx) -> None:
    """Which nodes there are, or which of them may connect, is another after this transaction."""
    counters.add(tx, COUNTER)


def numbers(tx: Tx, names: Collection[str]) -> dict[str, int]:
    """Name -> id.  Raises NotFound for the first that there isn't."""
    rows = tx.execute(_SOME_NUMBERS, {"of": list(names)}) if are_few(names) else tx.execute(_NUMBERS)
    found = {name: i for i, name in rows if name in names}
    for name in sorted(set(names) - set(found)):
        raise NotFound(absent("node", name))
    return found


def number(tx: Tx, name: str) -> int:
    """Its id.  Raises NotFound."""
    found = tx.scalar(select(nodes.c.id).where(nodes.c.name == name))
    if found is None:
        raise NotFound(absent("node", name))
    return int(found)


def _columns(said: NodeSaid) -> dict[str, Any]:
    """What a machine says of itself is its own affair: what no database could hold is left out or cut."""
    return {
        "capabilities": " ".join(sorted(word for c in said.capabilities if (word := _plain(c).replace(" ", "")))),
        "address": _plain(said.address),
        "mtu": _bounded(said.mtu),
        "cores": _finite(said.cores),
        "memory_mib": _bounded(said.memory_mib),
        "disk_mb": _bounded(said.disk_mb),
        "version": _plain(said.version),
        "rate_mbit": max(0.0, _finite(said.rate_mbit)),
        "failing": _lines(said.failing),
        "wireguard": said.wireguard if _KEY.fullmatch(said.wireguard) else "",
    }


def _lines(sentences: tuple[str, ...]) -> str:
    return "\n".join(filter(None, map(_plain, sentences[:_PARTS])))


def _plain(text: str) -> str:
    return "".join(c for c in text[:254] if c.isprintable())


def _bounded(number: int) -> int:
    return min(max(number, 0), MOST)


def _finite(number: float) -> float:
    return number if math.isfinite(number) else 0.0


def _node(row: AnyRow) -> NodeRow:
    said = {"capabilities": frozenset(row.capabilities.split()), "failing": tuple(row.failing.splitlines())}
    return NodeRow(**{**row._mapping, **said})
