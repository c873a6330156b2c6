"""`vini bench fleet`, as small as can be: it measures a central with a few agents, and leaves nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from vini.bench import fleet, fleet_agents, fleet_postgres, fleet_processes, fleet_store
from vini.bench.ours import PLACE
from vini.model import SliceSpec
from vini.rules.wishes import NewSite
from vini.store import nodes, persons, sites, slices, specs
from vini.store.database import Database

TINY = fleet.Sizes(agents=3, slices=2, rounds=2, changes=2, changes_of_all=1, idle_s=0.2, settled_s=0.2, rest_s=0.2)
root = pytest.mark.skipif(os.geteuid() != 0, reason="the benchmarks' lock is root's")


def left() -> list[Path]:
    return [p for p in (PLACE.state, PLACE.run, Path("/dev/shm/vbench-fleet")) if p.exists()]


@root
@pytest.mark.parametrize("postgres", [True, False])
def test_every_figure_is_there_and_nothing_is_left(monkeypatch: pytest.MonkeyPatch, postgres: bool) -> None:
    if not postgres:
        monkeypatch.setattr(fleet_postgres, "programs", lambda: None)
    elif fleet_postgres.programs() is None:
        pytest.skip("PostgreSQL is not installed")
    results = fleet.measure(quick=True, say=lambda _: None, sizes=TINY)
    names = [r["name"] for r in msgspec.json.decode(msgspec.json.encode(results))["rows"]]
    for figure in ("accepted", "every agent holds its spec", "the node holds it", "a page of 100", "memory of a real"):
        assert any(figure in name for name in names), figure
    assert [m["name"] for m in results["missing"]] == ([] if postgres else ["PostgreSQL"])
    assert {r["name"] for r in results["rows"] if r["target"] is not None} <= {n for n in names if "real agent" in n}
    assert left() == []


@root
@pytest.mark.skipif(not shutil.which("nats-server"), reason="nats-server is not installed")
def test_what_the_engine_costs_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_postgres, "programs", lambda: None)
    results = fleet.measure(quick=True, say=lambda _: None, sizes=structs.replace(TINY, engine="nats"))
    figures = {r["name"]: r["value"] for r in msgspec.json.decode(msgspec.json.encode(results))["rows"]}
    assert figures["memory of nats-server"] > 1
    assert left() == []


@root
def test_ctrl_c_in_the_middle_leaves_nothing() -> None:
    sizes = msgspec.json.encode(structs.replace(TINY, idle_s=600.0)).decode()
    program = (
        "import msgspec, sys; from vini.bench import fleet\n"
        f"fleet.measure(True, lambda t: print(t, flush=True), msgspec.json.decode({sizes!r}, type=fleet.Sizes))"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout
    for line in process.stdout:
        if b"nothing to do" in line:
            break
    children = fleet_processes.children(process.pid)
    assert len(children) >= 2
    process.send_signal(signal.SIGINT)
    process.wait(120)
    assert left() == []
    deadline = time.monotonic() + 120
    while any(Path(f"/proc/{pid}").exists() for pid in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)


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
