"""A central of a newer version begins on the database of an older one, while nodes run what the older one asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flow import unbroken
from own_place import eventually
from test_testbed_chaos import SLICE, TOPOLOGY
from testbed import Testbed, testbed

from vini import edit
from vini.central import settings
from vini.model import Topology
from vini.store.database import Database

sys.path.insert(0, str(Path(__file__).parent.parent / "central"))
import older
import postgres

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan", "ping", "bird")]


@pytest.fixture(params=["sqlite", "postgresql"])
def bed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    if request.param == "sqlite":
        with testbed(("n1", "n2"), tmp_path_factory.mktemp) as made:
            yield made
        return
    if why := postgres.missing():
        pytest.skip(why)
    cluster = postgres.Cluster()
    try:
        with testbed(("n1", "n2"), tmp_path_factory.mktemp, cluster.create("central")) as made:
            yield made
    finally:
        cluster.stop()


def test_a_database_is_migrated_under_nodes_that_run_and_they_keep_what_they_hold(bed: Testbed) -> None:
    """Where several centrals may share it, two of the newer version begin at once."""
    bed.vini("slice", "create", SLICE)
    bed.put(TOPOLOGY, "up")
    bed.converged(SLICE)
    others = [bed.another_central()] if bed.database else []
    try:
        with unbroken(bed.directory, bed.hosts.values(), TOPOLOGY, "a", "d"):
            for cost, revision in enumerate(("0012", "0001"), 50):
                migrated(bed, revision, others)
                after = bed.put(edit.set_cost(bed.client().asked(SLICE), "b", "c", cost), f"cost {cost}")
                eventually(lambda g=after.generation: all(h.held() == {SLICE: g} for h in bed.hosts.values()))
                bed.converged(SLICE)
        said = [event.what for event in bed.client().events(SLICE, 1000)]
        assert sorted(said) == ["cost 50", "cost 51", "up"]
        assert "and none was changed" in bed.vini("central", "audit", "--dir", str(bed.central.directory))
    finally:
        for other in others:
            other.kill()
        bed.central.up()
        bed.put(Topology(SLICE), "down")
        eventually(lambda: not any(h.held() or h.observe() for h in bed.hosts.values()), 120)


def migrated(bed: Testbed, revision: str, others: list) -> None:
    """The database is as that version left it; the centrals that begin on it are of this one."""
    before = {host.name: host.held() for host in bed.hosts.values()}
    for central in (bed.central, *others):
        central.kill()
    database = Database(settings.read(bed.central.directory).database_url(bed.central.directory))
    with database.transaction() as tx:
        older.back_to(tx, revision)
    database.close()
    for central in (bed.central, *others):
        central.start()
    for central in (bed.central, *others):
        central.up()
    eventually(lambda: all(host.is_connected() for host in bed.hosts.values()))
    eventually(lambda: bed.settled(SLICE))
    assert {host.name: host.held() for host in bed.hosts.values()} == before
