"""What `vini bench fleet` makes up: a store as a central would have filled it, and agents that claim what it holds.

That it measures and leaves nothing: tests/kernel/test_bench_live.py.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import structs

from vini.bench import fleet_agents, fleet_store
from vini.model import SliceSpec
from vini.rules.wishes import NewSite
from vini.store import nodes, persons, sites, slices, specs
from vini.store.database import Database


def test_what_fills_the_store_is_what_a_central_would_have_written(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'c.db'}")
    database.migrate()
    with database.transaction() as tx:
        sites.add(tx, NewSite(fleet_store.SITE))
        persons.add(tx, fleet_store.ADMIN)
    fleet_store.people(database)
    fleet_store.join(database, {"n1": b"1" * 32, "n2": b"2" * 32})
    assert fleet_store.fill(database, ["n1", "n2"], 2) > 0
    with database.transaction() as tx:
        name = fleet_store.filled(2)[1]
        row, held, uses = slices.get(tx, name), specs.of_slice(tx, name), specs.used(tx, "")
        assert set(row.topology.slivers) == set(held) == {"n1", "n2"}
        assert all(isinstance(s, SliceSpec) and s.slice == name and s.generation == 1 for s in held.values())
        assert specs.behind(tx, name) == {}
        assert [n.name for n in nodes.all(tx)] == ["n1", "n2"]
        for each in fleet_store.filled(2):  # as the store itself counts
            slices.put_topology(tx, each, row.topology, {n: structs.replace(s, slice=each, generation=2)
                                                         for n, s in held.items()}, 1.0)  # fmt: skip
        assert specs.used(tx, "") == uses
    database.close()


def test_an_agent_claims_what_it_is_told_to(tmp_path: Path) -> None:
    state = fleet_agents.states(tmp_path, "n1")
    (state / "uplink").mkdir(parents=True)
    agent, answers = fleet_agents._answers(state, ["home_f000"])
    assert answers.greeting("central").generations == {"home_f000": 1}
    agent.close()
