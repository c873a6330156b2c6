"""Twenty thousand links between two nodes, in many slices: no two have one number, none costs more for the others."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select
from test_cost_of_a_change import CAN, MOST, WHO, Asked, Nobody, delayed

from vini import bus, mirror
from vini.central import testbed
from vini.central.delivery import Lack
from vini.central.desk import StoredDesk
from vini.model import End, Link, SliceSpec, Sliver, Topology, Vxlan
from vini.node.agent import Agent
from vini.node.fake import FakeDriver
from vini.node.fake_agent import agent_over
from vini.node.ledgers import Ledgers
from vini.rules.caller import Caller
from vini.rules.nouns import NodeSaid
from vini.rules.wishes import NewSite
from vini.store import counters, nodes, persons, roles, sites, slices, tables, tokens, tunnels
from vini.store.database import Database

SLICES, EACH = 100, 200
ALL = SLICES * EACH
N1, N2 = "n1", "n2"


class TestNumbers:
    def test_each_link_has_its_own_and_what_is_freed_rests(self, database: Database) -> None:
        names = [f"k{i}" for i in range(EACH)]
        with database.transaction() as tx:
            first = {s: set(tunnels.lease(tx, f"s{s}", names).values()) for s in range(SLICES)}
        taken = set().union(*first.values())
        assert len(taken) == ALL
        with database.transaction() as tx:
            for s in range(0, SLICES, 2):
                tunnels.give_back(tx, f"s{s}")
        with database.transaction() as tx:
            again = [n for s in range(SLICES // 2) for n in tunnels.lease(tx, f"t{s}", names).values()]
        assert len(set(again)) == len(again) == ALL // 2
        assert not taken & set(again), "neither what others have, nor what was freed a moment ago"
        with database.reading() as tx:
            assert tx.execute(select(func.count(), func.count(tables.tunnels.c.vni.distinct()))).one() == (ALL, ALL)

    def test_past_where_all_are_taken_it_asks_little(self, database: Database) -> None:
        with database.transaction() as tx:
            tunnels.lease(tx, "dense", [f"k{i}" for i in range(ALL)])
            counters.add(tx, "vni", tunnels.MOST - ALL)  # the turn begins anew, where all of them are
        asked = Asked(database)
        with database.transaction() as tx:
            assert tunnels.lease(tx, "one", ["k"]) == {"k": ALL + 1}
        assert 0 < len(asked.taken()) <= 30


class Bed:
    """A central's parts over SQLite, two agents over machines in dicts, and what both nodes were told last."""

    def __init__(self, database: Database, states: Path):
        self.database = database
        self.names = [f"home_s{i:03}" for i in range(SLICES)]
        with database.transaction() as tx:
            sites.add(tx, NewSite("home", max_slices=SLICES, slivers=2 * SLICES, vnis=ALL))
            person = persons.add(tx, WHO)
            roles.grant(tx, person.id, "admin")
            for i, name in enumerate((N1, N2), 1):
                said = NodeSaid(CAN, f"198.18.0.{i}", cores=64.0, memory_mib=1 << 18)
                nodes.join(tx, name, "home", bytes([i]) * 32, said, 1.0)
            for name in self.names:
                slices.add(tx, name, WHO, 1.0)
            secret = tokens.issue_api(tx, WHO, ("read", "write", "admin"), 1e9, 1.0)
        with database.reading() as tx:
            caller = tokens.whose(tx, secret, 2.0)
            assert caller
            self.caller: Caller = caller
        self.testbed = testbed.Testbed(database, Nobody(), lambda: 2.0)
        self.desk = StoredDesk(database, lambda: 2.0)
        self.machines = {name: FakeDriver() for name in (N1, N2)}
        self.agents: dict[str, Agent] = {
            name: agent_over(machine, Ledgers.below(states / name, lambda: 2.0))
            for name, machine in self.machines.items()
        }
        self.has: dict[str, dict[str, int]] = {N1: {}, N2: {}}

    def ask(self, topology: Topology) -> None:
        self.testbed._put(self.caller, topology, "test", None, 0.0, time.monotonic())

    async def deliver(self) -> None:
        """What is newer reaches the nodes."""
        for node, agent in self.agents.items():
            (newer,) = self.desk.newer([Lack(node, bus.Greeting("", 1, "", CAN, self.has[node]), None)])
            for spec in newer.specs:
                report = await agent.accept(spec, lambda *_: None, "central")
                assert all(row.state == "ready" for row in report.slivers)
                self.has[node][spec.slice] = spec.generation

    def tunnels(self, node: str) -> list[Vxlan]:
        return [o for o in self.machines[node].have.values() if isinstance(o, Vxlan)]


def asked(name: str) -> Topology:
    links = tuple(Link((End("a", f"v{i}"), End("b", f"v{i}")), name=f"k{i}") for i in range(EACH))
    return Topology(name, {"a": Sliver("a", node=N1), "b": Sliver("b", node=N2)}, links)


@pytest.fixture
def bed(migrated_file: Path, tmp_path: Path) -> Iterator[Bed]:
    shutil.copy(migrated_file, tmp_path / "central.db")
    made = Bed(Database(f"sqlite:///{tmp_path}/central.db"), tmp_path)
    yield made
    for agent in made.agents.values():
        agent.close()
    made.database.close()


async def test_they_are_all_there_and_a_change_of_one_slice_concerns_no_other(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in bed.names:
        bed.ask(asked(name))
    await bed.deliver()
    ends = {node: {o.vni: o for o in bed.tunnels(node)} for node in (N1, N2)}
    assert len(bed.tunnels(N1)) == len(bed.tunnels(N2)) == len(ends[N1]) == ALL
    assert ends[N1].keys() == ends[N2].keys()
    for number, here in ends[N1].items():
        there = ends[N2][number]
        assert (here.ns.partition(".")[0], here.dev) == (there.ns.partition(".")[0], there.dev)
        assert (here.local, here.remote) == (there.remote, there.local) == ("198.18.0.1", "198.18.0.2")

    statements, looked = Asked(bed.database), set[str]()
    mirrored = mirror.mirrored

    def noting(spec: SliceSpec, *how: frozenset[tuple[str, str]]) -> frozenset[object]:
        looked.add(spec.slice)
        return mirrored(spec, *how)

    monkeypatch.setattr(mirror, "mirrored", noting)
    bed.ask(delayed(asked(bed.names[7]), 3))
    assert 0 < len(statements.taken()) <= MOST + 4, "as of any slice on two nodes"
    await bed.deliver()
    assert looked == {bed.names[7]}, "an agent goes through what it holds of others, too"
    assert {o.vni for o in bed.tunnels(N1)} == ends[N1].keys()

    for topology in (*(Topology(name, {}) for name in bed.names[::10]), *map(asked, bed.names[::10])):
        bed.ask(topology)
    with bed.database.reading() as tx:
        now = dict(tx.execute(select(tables.tunnels.c.vni, tables.tunnels.c.slice)).all())
    assert len(now) == ALL
    again = {number for number, of in now.items() if of in bed.names[::10]}
    assert len(again) == ALL // 10 and not again & ends[N1].keys(), "freed ones rest"
