"""What one change costs the database: a few statements, built once, however many nodes and slices there are."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from msgspec.structs import replace
from sqlalchemy import event
from sqlalchemy.sql import ClauseElement

from vini import bus
from vini.central import testbed
from vini.central.delivery import Lack, Who
from vini.central.desk import StoredDesk
from vini.formats import generate
from vini.model import End, Impairment, Link, Sliver, SliverStatus, Topology
from vini.rules.caller import Caller
from vini.rules.nouns import NodeSaid
from vini.rules.wishes import NewSite
from vini.store import nodes, persons, roles, sites, slices, specs, tokens
from vini.store.database import Database

NAME, WHO = "home_one", "ada@example.org"
CAN = frozenset({"root", "cgroup2", "vxlan", "netem"})
MOST = 23  # of a change; 32 before its statements were counted
MOST_OF_ALL = 34  # with who asks, what the node lacks, who may log in there, and what it reports; 43 before


class Nobody:
    """A `bus.seam.Bus` of which nobody ever hears."""

    def connected(self) -> frozenset[str]:
        return frozenset()

    def wake(self, names: Collection[str]) -> None:
        pass


class Asked:
    """The statements that were asked of a database."""

    def __init__(self, database: Database):
        self.all: list[ClauseElement] = []
        event.listen(database._writer, "before_execute", self._note)
        if database.is_sqlite:
            event.listen(database._reader, "before_execute", self._note)

    def _note(self, _: object, statement: ClauseElement, *__: object) -> None:
        self.all.append(statement)

    def taken(self) -> list[ClauseElement]:
        """Those since it was asked last."""
        taken, self.all = self.all, []
        return taken


def populate(database: Database, count: int) -> str:
    """So many nodes, and a slice that has nothing yet; the token of an admin."""
    with database.transaction() as tx:
        sites.add(tx, NewSite("home", max_slices=9, slivers=9999, vnis=9999))
        person = persons.add(tx, WHO)
        roles.grant(tx, person.id, "admin")
        for i in range(count):
            nodes.join(tx, f"n{i:03}", "home", i.to_bytes(32), NodeSaid(CAN, f"198.18.0.{i + 1}", cores=64.0,
                                                                       memory_mib=1 << 18), 1.0)  # fmt: skip
        slices.add(tx, NAME, WHO, 1.0)
        return tokens.issue_api(tx, WHO, ("read", "write", "admin"), 1e9, 1.0)


def delayed(topology: Topology, ms: float) -> Topology:
    first, *others = topology.links
    return replace(topology, links=(replace(first, impairment=Impairment(delay_ms=ms)), *others))


class Bed:
    """A central's parts that a change goes through, over a database."""

    def __init__(self, database: Database, count: int, topology: Topology):
        self.database, self.topology = database, topology
        self.secret = populate(database, count)
        self.testbed, self.desk = testbed.Testbed(database, Nobody(), lambda: 2.0), StoredDesk(database, lambda: 2.0)
        self.asked = Asked(database)
        self.marks = {}
        for ms in (1, 2):  # what is remembered between changes is remembered
            self.change(ms)
        self.asked.taken()

    def change(self, ms: float) -> list[ClauseElement]:
        """What was asked for the change itself."""
        with self.database.reading() as tx:
            caller = tokens.whose(tx, self.secret, 2.0)
        before = len(self.asked.all)
        done = self.testbed._put(caller, delayed(self.topology, ms), "test", None, 0.0, started=0.0)
        statements = self.asked.all[before:]
        for node in sorted(done.written):
            had = bus.Greeting("", 1, "", CAN, {NAME: done.generation - 1})
            (newer,) = self.desk.newer([Lack(node, had, self.marks.get(node))])
            assert [s.generation for s in newer.specs] == [done.generation]
            self.desk.authorized([Who(node, self.marks.get(node))])
            report = bus.Report((SliverStatus(f"{NAME}.s", "ready"),), slice=NAME, generation=done.generation)
            self.desk.reported([(node, report)])
            self.marks[node] = newer.mark
        return statements


LINE = replace(generate("line:3"), name=NAME)


def across(count: int) -> Topology:
    """A line with a sliver on each node."""
    slivers = {f"s{i}": Sliver(f"s{i}", node=f"n{i:03}") for i in range(count)}
    links = tuple(Link((End(f"s{i}"), End(f"s{i + 1}"))) for i in range(count - 1))
    return Topology(NAME, slivers, links)


def test_a_change_asks_for_little_and_only_what_was_asked_before(database: Database) -> None:
    """A statement that is built costs more than to ask it, so all of them are built once."""
    bed = Bed(database, 2, LINE)
    first = bed.change(3)
    every = bed.asked.taken()
    assert 0 < len(first) <= MOST
    assert len(first) < len(every) <= MOST_OF_ALL
    bed.change(4)
    again = bed.asked.taken()
    assert [id(s) for s in again] == [id(s) for s in every]


def test_it_asks_the_same_however_many_nodes_there_are(database: Database) -> None:
    bed = Bed(database, 150, LINE)
    asked = bed.change(3)
    assert 0 < len(asked) <= MOST
    assert not {id(nodes._ALL), id(nodes._NUMBERS), id(specs._USED)} & {id(s) for s in asked}, "it looks at all nodes"


@pytest.mark.parametrize("count", [3, 120])
def test_a_slice_on_many_nodes_costs_no_statement_for_each(database: Database, count: int) -> None:
    bed = Bed(database, count, across(count))
    asked = bed.change(3)
    assert 0 < len(asked) <= MOST + 4


def test_who_asks_is_found_by_what_was_built_before(database: Database) -> None:
    secret = populate(database, 1)
    asked = Asked(database)
    for _ in range(2):
        with database.reading() as tx:
            assert isinstance(tokens.whose(tx, secret, 2.0), Caller)
    every = [id(s) for s in asked.all]
    assert len(every) == 4 and every[:2] == every[2:]
