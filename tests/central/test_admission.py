"""What is full is full: for two who ask at the same moment, at one central or at two, and for all slices of a site."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import older
import pytest
from testbed_api import Api, email, populated

from vini import bus, placement
from vini.central.testbed import Testbed as Wishes
from vini.model import Bound, CapacityError, End, Impairment, Link, Resources, Sliver, Topology
from vini.rules import EVERYWHERE, Caller
from vini.rules.nouns import NodeSaid
from vini.rules.quota import Taken
from vini.store import nodes, sites, slices, specs, takings
from vini.store.database import Database

N1, N2 = "n1.princeton.example", "n2.princeton.example"
CAN = frozenset({"root", "cgroup2", "vxlan", "netem", "frr"})
ONE = placement.cost(Sliver("x"))
ADMIN = Caller(email("admin"), frozenset({("admin", EVERYWHERE)}))


class Deaf:
    """A bus without nodes."""

    def wake(self, names: object) -> None:
        pass

    def connected(self) -> frozenset[str]:
        return frozenset()

    async def ask(self, node: str, request: bus.Request) -> bus.Reply:
        raise bus.NodeAway(f"Node {node} is not connected, {request} can't be asked.")


def line(name: str, many: int, rate_mbit: float = 0.0, **pins: str) -> Topology:
    """Slivers s0, s1, ... in a line; `pins` has the nodes of some."""
    every = {s: Sliver(s, node=pins.get(s, "")) for s in (f"s{i}" for i in range(many))}
    rate = Impairment(rate_mbit=rate_mbit)
    links = (Link((End(f"s{i}"), End(f"s{i + 1}")), impairment=rate) for i in range(many - 1))
    return Topology(name, every, tuple(links))


def put(database: Database, topology: Topology) -> None:
    made = Wishes(database, Deaf(), lambda: 1_000_000.0)  # type: ignore[arg-type]
    asyncio.run(made.put(ADMIN, topology, "put"))


@pytest.fixture
def api(database: Database) -> Api:
    """With a second slice, and room for five slivers on one node."""
    made = populated(database)
    with database.transaction() as tx:
        slices.add(tx, "princeton_b", email("pi"), made.now[0])
        nodes.heard(tx, N1, 1.0, NodeSaid(CAN, "192.0.2.1", cores=100.0, memory_mib=round(5 * ONE.memory_mib)))
        nodes.heard(tx, N2, 1.0, NodeSaid(CAN, "192.0.2.2"))
        nodes.set_state(tx, N2, "safeboot")
    return made


def test_where_all_nodes_are_drained_the_way_out_is_said(api: Api, database: Database) -> None:
    api("admin", "PATCH", "/nodes/" + N1, {"boot_state": "safeboot"})
    with pytest.raises(CapacityError, match=f"drained, .* `vini node enable {N1}`"):
        put(database, line("princeton_iias", 2))


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever places waits a moment for another one: where two may come so far at once, both have seen the same."""
    both, place = threading.Barrier(2), placement.place

    def slowly(*args: Any) -> dict[str, str]:
        with suppress(threading.BrokenBarrierError):
            both.wait(0.5)
        return place(*args)

    monkeypatch.setattr(placement, "place", slowly)


def at_once(*asked: Callable[[], None]) -> list[str]:
    """What each came to."""
    outcomes: list[str] = []

    def one(ask: Callable[[], None]) -> None:
        try:
            ask()
            outcomes.append("ok")
        except CapacityError as e:
            outcomes.append(str(e))

    threads = [threading.Thread(target=one, args=[ask]) for ask in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(outcomes, key=lambda o: o != "ok")


def both(database: Database, another: Callable[[], Database], many: int) -> list[str]:
    second = another()
    return at_once(lambda: put(database, line("princeton_iias", many)), lambda: put(second, line("princeton_b", many)))


@pytest.mark.usefixtures("api", "together")
def test_two_at_once_do_not_overfill_a_node(database: Database, another: Callable[[], Database]) -> None:
    done, refused = both(database, another, 3)
    assert done == "ok"
    assert f"the nearest, node '{N1}', has 1 MiB of memory too little free" in refused
    with database.reading() as tx:
        assert specs.used(tx, "")[N1] == ONE * 3


@pytest.mark.usefixtures("together")
def test_two_at_once_do_not_overfill_a_quota(api: Api, database: Database, another: Callable[[], Database]) -> None:
    api("admin", "PATCH", "/sites/princeton", {"slivers": 3})
    done, refused = both(database, another, 2)
    assert done == "ok"
    assert "of 3 slivers its other slices have 2, and this asks for 2, 1 too many" in refused
    assert api("user", "GET", "/sites/princeton/taken").json()["slivers"] == 2


def of(api: Api, site: str = "princeton") -> Mapping[str, Any]:
    return api("user", "GET", f"/sites/{site}/taken").json()


def test_what_a_site_has_follows_what_is_asked(api: Api, database: Database) -> None:
    api("admin", "PATCH", "/nodes/" + N2, {"boot_state": "boot"})
    put(database, line("princeton_iias", 3, 10.0, s0=N1, s1=N2, s2=N1))
    put(database, line("princeton_b", 2))
    taken = {
        "slivers": 5,
        "cores": 5 * ONE.cores,
        "memory_mib": 5 * ONE.memory_mib,
        "link_mbit": 20.0,
        "vnis": 2,
        "disk_mb": 0,
    }
    assert of(api) == pytest.approx(taken)
    assert of(api, "mit")["slivers"] == 0
    put(database, Topology("princeton_iias"))
    assert (of(api)["slivers"], of(api)["vnis"]) == (2, 0)
    api("admin", "DELETE", "/slices/princeton_b")
    assert of(api)["slivers"] == 0


def test_links_between_nodes_have_quotas_of_their_own(api: Api, database: Database) -> None:
    for name in (N1, N2):
        api("admin", "PATCH", f"/nodes/{name}", {"boot_state": "boot"})
    api("admin", "PATCH", "/sites/princeton", {"link_mbit": 15.0})
    pins = {"s0": N1, "s1": N2, "s2": N1}
    with pytest.raises(CapacityError, match="of 15 Mbit/s of links between nodes .* asks for 20, 5 too many"):
        put(database, line("princeton_iias", 3, 10.0, **pins))
    with pytest.raises(CapacityError, match=r"link 's0--s1' says no rate \(nor do 1 others\)"):
        put(database, line("princeton_iias", 3, **pins))
    api("admin", "PATCH", "/sites/princeton", {"link_mbit": 20.0, "vnis": 1})
    with pytest.raises(CapacityError, match=r"of 1 links between nodes \(VNIs\) .* asks for 2, 1 too many"):
        put(database, line("princeton_iias", 3, 10.0, **pins))
    api("admin", "PATCH", "/sites/princeton", {"vnis": 2})
    put(database, line("princeton_iias", 3, 10.0, **pins))
    put(database, line("princeton_iias", 3, 10.0, **pins))  # its own do not count against it
    assert api("pi", "PATCH", "/sites/princeton", {"vnis": 9}).status_code == 403


def test_an_older_database_learns_what_its_slices_take(url: str) -> None:
    database = Database(url)
    database.migrate()
    populated(database)
    with database.transaction() as tx:
        nodes.heard(tx, N1, 1.0, NodeSaid(CAN, "192.0.2.1"))
    put(database, line("princeton_iias", 3))
    with database.transaction() as tx:
        older.back_to(tx, "0004")
    database.migrate()
    with database.reading() as tx:
        number = sites.number(tx, "princeton")
        assert takings.of_site(tx, number) == Taken(3, 3 * ONE.cores, 3 * ONE.memory_mib)
    database.close()


def test_what_is_set_apart_on_disks_counts_at_nodes_and_in_quotas(api: Api, database: Database) -> None:
    boxes = {
        name: Sliver(
            name, runtime="container", resources=Resources(disk_mb=400), volumes={"v": "/v"}, bounds={"v": Bound(200)}
        )
        for name in ("a", "b")
    }
    asked = Topology("princeton_iias", boxes)
    with database.transaction() as tx:
        nodes.heard(tx, N1, 1.0, NodeSaid(CAN | {"containers", "disks"}, "192.0.2.1", disk_mb=1000))
    with pytest.raises(CapacityError, match="600 MB of disk.*has 200 MB of disk too little free"):
        put(database, asked)
    with database.transaction() as tx:
        nodes.heard(tx, N1, 1.0, NodeSaid(CAN | {"containers", "disks"}, "192.0.2.1", disk_mb=1200))
    api("admin", "PATCH", "/sites/princeton", {"disk_mb": 1100})
    with pytest.raises(
        CapacityError, match="of 1100 MB of disk its other slices have 0, and this asks for 1200, 100 too"
    ):
        put(database, asked)
    api("admin", "PATCH", "/sites/princeton", {"disk_mb": 1300})
    put(database, asked)
    assert of(api)["disk_mb"] == 1200
    with database.reading() as tx:
        assert specs.used(tx, "princeton_b")[N1].disk_mb == 1200
        assert specs.used(tx, "princeton_iias")[N1].disk_mb == 0
