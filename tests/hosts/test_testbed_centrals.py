"""Two centrals on one PostgreSQL serve at once: what one of them accepts reaches the nodes of the other."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from own_place import eventually
from testbed import Central, Testbed, testbed

from vini import edit
from vini.model import Topology
from vini.node import identity as identities
from vini.topology import parse

sys.path.insert(0, str(Path(__file__).parent.parent / "central"))
import postgres

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan", "ping")]

LINE = parse("""
name: home_line
routing: static
slivers: {a: {node: n1}, b: {node: n2}}
links: [a -- b]
""")


@pytest.fixture(params=["hub"])
def bed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """Each central has its own hub, or runs its own nats-server."""
    if why := postgres.missing():
        pytest.skip(why)
    own_engine = request.param == "engine"
    if own_engine and not shutil.which("nats-server"):
        pytest.skip("no nats-server: apt install nats-server")
    cluster = postgres.Cluster()
    try:
        with testbed(("n1", "n2"), tmp_path_factory.mktemp, cluster.create("central"), own_engine=own_engine) as made:
            made.vini("slice", "create", LINE.name)
            yield made
    finally:
        cluster.stop()


@pytest.fixture
def other(bed: Testbed) -> Iterator[Central]:
    made = bed.another_central()
    made.up()
    yield made
    made.kill()


def dials(bed: Testbed, name: str, central: Central) -> None:
    host = bed.hosts[name]
    me = identities.read(host.state)
    assert isinstance(me, identities.Identity)
    (identities.directory(host.state) / "engine.json").unlink(missing_ok=True)  # that of the other central
    identities.write(host.state, msgspec.structs.replace(me, central=central.url))
    eventually(lambda: host.uplink().startswith(f"connected to {central.url} "))


@pytest.mark.parametrize("bed", ["hub", "engine"], indirect=True)
def test_each_asks_the_nodes_of_the_other(bed: Testbed, other: Central) -> None:
    """Whichever central a user has logged in to: status, tables, commands, and when a change has arrived."""
    dials(bed, "n2", other)
    bed.put(LINE)

    def ready(central: Central) -> bool:
        return [r.state for r in asyncio.run(bed.client(central).status(LINE.name))] == ["ready"] * 2

    for central in (bed.central, other):
        eventually(lambda c=central: ready(c))
        client = bed.client(central)
        assert asyncio.run(client.fib_entries(LINE.name)).keys() == {"a", "b"}
        assert asyncio.run(client.loads(LINE.name)).keys() == {"a", "b"}
        for sliver in ("a", "b"):
            code, said = asyncio.run(client.output(LINE.name, sliver, ["sh", "-c", "echo $VINI_SLIVER; exit 7"]))
            assert (code, said) == (7, f"{LINE.name}.{sliver}\n")
    report = bed.put(edit.set_impairment(bed.client().asked(LINE.name), "a", "b", delay_ms=7.0))
    assert {r.sliver: r.state for r in report.slivers} == dict.fromkeys((f"{LINE.name}.a", f"{LINE.name}.b"), "ready")
    assert bed.hosts["n2"].held() == {LINE.name: report.generation}, "who waited has been told when all had it"
    for path in ("ask", "run"):
        refused = httpx.post(f"{other.url}/v1/peers/{path}", verify=False, headers={"Authorization": "Central x"})
        assert refused.status_code in (401, 404), "a stranger does not know the secret"

    other.kill()
    seen = bed.client().call("GET", f"/slices/{LINE.name}/status", dict)
    assert "which does not answer this one" in seen["away"]["n2"] or "not connected" in seen["away"]["n2"], seen
    dials(bed, "n2", bed.central)
    eventually(lambda: ready(bed.central))
    bed.put(Topology(LINE.name), "down")
    eventually(lambda: not any(h.held() or h.observe() for h in bed.hosts.values()))


def test_what_one_accepts_reaches_the_nodes_of_the_other(bed: Testbed, other: Central) -> None:
    n1, n2 = bed.hosts.values()
    dials(bed, "n2", other)
    bed.put(LINE)
    eventually(lambda: n1.slivers() == {"home_line.a"} and n2.slivers() == {"home_line.b"})
    for delay in (10, 20, 30):
        now = bed.client().asked(LINE.name)
        started = time.monotonic()
        generation = bed.put(edit.set_impairment(now, "a", "b", delay_ms=float(delay)), wait_s=0).generation
        eventually(lambda g=generation: n2.held() == {LINE.name: g})
        print(f"reached the other central's node after {time.monotonic() - started:.2f} s")
    eventually(lambda: n1.is_as_asked() and n2.is_as_asked())
    assert bed.client(other).asked(LINE.name) == bed.client().asked(LINE.name)

    bed.vini("node", "disable", "n2")  # by the one that it is not connected to
    eventually(lambda: "An administrator has disabled it" in n2.said())
    bed.vini("node", "enable", "n2")
    eventually(n2.is_connected)

    other.kill()
    dials(bed, "n2", bed.central)
    bed.put(Topology(LINE.name), "down")
    eventually(lambda: not any(h.held() or h.observe() for h in bed.hosts.values()))
