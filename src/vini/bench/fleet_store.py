"""What a testbed's database holds before anything is measured: a site, an administrator, nodes, and many slices."""

from __future__ import annotations

import time
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import msgspec
from sqlalchemy import insert, text, update

from vini import bus, placement
from vini.bench.fleet_agents import CAPABILITIES
from vini.embed import embed
from vini.model import Node, Sliver, SliverStatus, Topology
from vini.node.identity import public_half
from vini.store import counters, nodes, sites, tables, tokens
from vini.store.database import Database, Tx

SITE, ADMIN = "home", "ada@example.org"
_CORES, _MEMORY_MIB = 64.0, 262144
_USE = placement.cost(Sliver("x"))


def people(database: Database) -> str:
    """Let the site have slices; a token of the administrator, who is there already."""
    now = time.time()
    with database.transaction() as tx:
        tx.execute(update(tables.sites).values(max_slices=100_000))
        return tokens.issue_api(tx, ADMIN, ("read", "write", "admin"), 86400.0, now)


def join(database: Database, keys: dict[str, bytes], address: str = "198.18.0.1") -> None:
    """Machines that have joined: node -> its private key; the first has this address (RFC 2544: for benchmarks)."""
    first = ip_address(address)
    now = time.time()
    with database.transaction() as tx:
        site = sites.number(tx, SITE)
        rows = [
            {
                "name": name, "site_id": site, "boot_state": "boot", "public_key": public_half(key),
                "capabilities": " ".join(sorted(CAPABILITIES)), "address": str(first + i), "mtu": 1500,
                "cores": _CORES, "memory_mib": _MEMORY_MIB, "version": "fleet", "joined": now, "last_heard": now,
                "clock_offset_s": 0.0, "clock_error_s": 0.0,
            }
            for i, (name, key) in enumerate(keys.items())
        ]  # fmt: skip
        tx.execute(insert(tables.nodes), rows)


def filled(count: int) -> tuple[str, ...]:
    """The names of the slices that `fill` makes."""
    return tuple(f"{SITE}_f{i:03}" for i in range(count))


def one_on_each(name: str, names: Sequence[str]) -> Topology:
    """A sliver on each node, without links, as slices of PlanetLab were."""
    return Topology(name, {node: Sliver(node, node=node) for node in names})


def fill(database: Database, names: Sequence[str], count: int) -> int:
    """`count` slices with a sliver on each of these nodes, all acknowledged at generation 1; the bytes of all specs.

    Written as rows, in the form that the central itself would have written; all but the name is the same in each.
    """
    first = filled(1)[0]
    with database.reading() as tx:
        able = [row.node for row in nodes.all(tx) if row.name in set(names)]
        numbers = nodes.numbers(tx, names)
        site = sites.number(tx, SITE)
    topology = one_on_each(first, names)
    bodies = _bodies(topology, able)
    blob = msgspec.json.encode(topology)
    now = time.time()
    size = 0
    with database.transaction() as tx:
        if not database.is_sqlite:
            tx.execute(text("SET LOCAL synchronous_commit = off"))
        seq = counters.add(tx, "specs")
        for slice_ in filled(count):
            new, old = slice_.encode(), first.encode()
            tx.execute(
                insert(tables.slices).values(
                    name=slice_, site_id=site, description="", url="", creator=ADMIN, created=now,
                    expires=now + 1e6, max_slivers=0, updated=now, generation=1, topology=blob.replace(old, new),
                )
            )  # fmt: skip
            rows = []
            for node, (body, report) in bodies.items():
                body, report = body.replace(old, new), report.replace(old, new)
                size += len(body)
                rows.append((numbers[node], slice_, 1, body, False, seq, 1, report, now, _USE.cores, _USE.memory_mib))
            _insert(tx, rows)
        all_ = _USE * count
        tx.execute(insert(tables.uses), [{"node_id": n, "cores": all_.cores, "memory_mib": all_.memory_mib}
                                         for n in numbers.values()])  # fmt: skip
    _settle(database)
    return size


def _bodies(topology: Topology, able: Sequence[Node]) -> dict[str, tuple[bytes, bytes]]:
    """Node -> its spec, and a report that all is well."""
    placed = {s.name: s.node for s in topology.slivers.values()}
    made = embed(topology, able, 1, placed=placed, vnis={})
    out = {}
    for node, spec in made.items():
        rows = (SliverStatus(f"{topology.name}.{node}", "ready", ""),)
        report = bus.Report(rows, 5, 0.01, topology.name, 1, 1)
        out[node] = msgspec.json.encode(spec), msgspec.json.encode(report)
    return out


_COLUMNS = (
    "node_id",
    "slice",
    "generation",
    "body",
    "ends",
    "seq",
    "acked",
    "report",
    "reported_at",
    "cores",
    "memory_mib",
)


def _insert(tx: Tx, rows: list[tuple[Any, ...]]) -> None:
    if tx.dialect.name == "sqlite":
        tx.exec_driver_sql(f"INSERT INTO specs ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})", rows)
        return
    cursor = tx.connection.driver_connection.cursor()  # type: ignore[union-attr]
    with cursor.copy(f"COPY specs ({', '.join(_COLUMNS)}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _settle(database: Database) -> None:
    """What a database that has been up for some time has done: statistics, and what was written is on the disk."""
    with database._writer.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:  # noqa: SLF001
        connection.exec_driver_sql("ANALYZE" if database.is_sqlite else "VACUUM ANALYZE")
        if not database.is_sqlite:
            connection.exec_driver_sql("CHECKPOINT")
