"""Two centrals, PostgreSQL and NATS as processes: any central serves any node, whoever is killed nothing is lost."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_place import eventually
from test_testbed_chaos import SLICE, TOPOLOGY, Victim, chaos, seeded, victims
from testbed import Testbed, testbed

from vini import edit
from vini.bus import Report
from vini.model import Topology

sys.path.insert(0, str(Path(__file__).parent.parent / "central"))
import postgres

pytestmark = [
    pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan", "ping", "bird"),
    pytest.mark.skipif(not shutil.which("nats-server"), reason="no nats-server: apt install nats-server"),
]  # fmt: skip
_ROUNDS = 1


@pytest.fixture
def cluster() -> Iterator[postgres.Cluster]:
    if why := postgres.missing():
        pytest.skip(why)
    made = postgres.Cluster()
    yield made
    made.stop()


@pytest.fixture
def bed(cluster: postgres.Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    with testbed(("n1", "n2"), tmp_path_factory.mktemp, cluster.create("central"), nats=True) as made:
        made.vini("slice", "create", SLICE)
        yield made


def test_any_central_serves_any_node_and_who_is_killed_loses_nothing(
    bed: Testbed, cluster: postgres.Cluster, request: pytest.FixtureRequest
) -> None:
    """In few rounds the engine is always among them; in many, all of it is as often as anybody."""
    asked = request.config.getoption("--chaos-rounds")
    rounds, always = (asked, "") if asked else (_ROUNDS, "engine")
    rng = seeded(request.config, rounds)
    bed.put(TOPOLOGY, "up")
    bed.converged(SLICE)
    n1, n2 = bed.hosts.values()
    assert "over tls://" in n1.uplink() and "over tls://" in n2.uplink()

    other = bed.another_central()
    other.up()
    try:

        def served() -> bool:
            rows = asyncio.run(bed.client(other).status(SLICE))
            return len(rows) == 4 and all(row.state == "ready" for row in rows)

        eventually(served)
        for sliver in "ab":  # on n1, and on n2
            assert bed.vini("exec", "-s", SLICE, sliver, "--", "echo", "hi", at=other) == "hi\n"
        bed.central.kill()  # the one that the nodes know
        started = time.monotonic()
        now = bed.client(other).asked(SLICE)
        changed = edit.set_cost(now, "b", "c", 77)
        generation = bed.client(other).call("PUT", f"/slices/{SLICE}/topology", Report, changed, what="up").generation
        eventually(lambda: all(h.held() == {SLICE: generation} for h in bed.hosts.values()))
        eventually(served)
        print(f"the other central has changed all {time.monotonic() - started:.2f} s after the first was killed")
        bed.central.up()

        assert bed.engine
        every = [
            *victims(bed, cluster), Victim("other central", other.kill, other.start),
            Victim("engine", bed.engine.kill, bed.engine.start),
        ]  # fmt: skip
        chaos(bed, every, rounds, rng, always, other)

        bed.vini("node", "disable", "n2")
        eventually(lambda: "An administrator has disabled it" in n2.uplink())
        bed.vini("node", "enable", "n2")
        eventually(n2.is_connected)
    finally:
        other.kill()
        bed.central.up()
        bed.put(Topology(SLICE), "down")
        eventually(lambda: not any(h.held() or h.observe() for h in bed.hosts.values()), 120)
