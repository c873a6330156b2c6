"""How far nodes are: measured by a mesh of them, kept by the central, and what slices are given by it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from fake_agents import QUICK, node
from fake_agents import central as central_with
from fake_agents import eventually as soon
from msgspec.structs import replace
from test_admission import ADMIN, CAN, N1, N2, Deaf
from testbed_api import Api, populated

from vini import bus
from vini.central.desk import StoredDesk
from vini.central.testbed import Testbed as Wishes
from vini.model import CapacityError, End, Impairment, Link, Shape, Sliver, Topology
from vini.rules.mesh import BELIEVED_S
from vini.rules.nouns import NodeSaid
from vini.store import latencies, nodes, specs
from vini.store.database import Database

A = "princeton_iias"
N3 = "n3.princeton.example"


@pytest.fixture
def api(database: Database) -> Api:
    """Three nodes: from the first to the second 6 ms and back, to the third 40."""
    made = populated(database)
    with database.transaction() as tx:
        nodes.join(tx, N3, "princeton", b"3" * 32, NodeSaid(), made.now[0])
        for i, name in enumerate((N1, N2, N3)):
            nodes.heard(tx, name, made.now[0], NodeSaid(CAN, f"192.0.2.{i + 1}"))
        latencies.note(tx, {N1: {N2: 6.0, N3: 40.0}, N2: {N3: 44.0}}, made.now[0])
    return made


def asking(delay: float, a: str = N1, b: str = N2) -> Topology:
    links = (Link((End("a"), End("b")), impairment=Impairment(delay_ms=delay)),)
    return Topology(A, {"a": Sliver("a", node=a), "b": Sliver("b", node=b)}, links)


def wishes(api: Api) -> Wishes:
    return Wishes(api.database, Deaf(), lambda: api.now[0])  # type: ignore[arg-type]


def put(api: Api, topology: Topology) -> None:
    asyncio.run(wishes(api).put(ADMIN, topology, "put"))


def emulated(api: Api) -> set[float]:
    """In ms, at all ends."""
    with api.database.reading() as tx:
        found = specs.of_slice(tx, A).values()
    return {o.delay_us / 1e3 for s in found for o in s.objects if isinstance(o, Shape)}


def test_the_path_takes_its_part_of_a_links_delay(api: Api) -> None:
    put(api, asking(10.0))
    assert emulated(api) == {7.0}
    held = wishes(api).looks.holders(ADMIN, A)
    assert {n: h.underlay_ms for n, h in held.items()} == {N1: {"a--b": 3.0}, N2: {"a--b": 3.0}}


def test_what_takes_longer_than_a_link_asks_for_is_refused_and_changes_nothing(api: Api) -> None:
    with pytest.raises(CapacityError) as told:
        put(api, asking(10.0, b=N3))
    assert "'a--b' asks for a delay of 10 ms" in str(told.value)
    assert f"between nodes {N1!r} and {N3!r}" in str(told.value)
    assert f"takes 20 ms, 10 ms more; ask for as much, or pin them to nearer nodes (from {N1!r} the nearest that fits "
    assert f"is {N2!r}, 3 ms)" in str(told.value)
    assert emulated(api) == set()
    put(api, asking(10.0, b=""))
    with api.database.reading() as tx:
        assert N3 not in specs.of_slice(tx, A)


def test_what_is_up_stays_up_when_the_network_takes_longer(api: Api) -> None:
    put(api, asking(10.0))
    with api.database.transaction() as tx:
        latencies.note(tx, {N1: {N2: 30.0}}, api.now[0] + 1)
    put(api, replace(asking(10.0), substrate="heal"))
    assert emulated(api) == set(), "it takes longer than that by itself"
    with pytest.raises(CapacityError, match=r"asks for a delay of 9 ms, .* takes 15 ms, 6 ms more"):
        put(api, asking(9.0))


def test_what_was_measured_is_shown_and_forgotten(api: Api) -> None:
    first = api("user", "GET", "/node-ways?limit=2").json()
    assert [row["name"] for row in first["items"]] == [N1, N2] and first["next"]
    at = api.now[0]
    assert first["items"][1]["ways"] == {N1: {"rtt_ms": 6.0, "at": at}, N3: {"rtt_ms": 44.0, "at": at}}
    last = api("user", "GET", f"/node-ways?cursor={first['next']}").json()
    assert [row["name"] for row in last["items"]] == [N3]
    assert api("", "GET", "/node-ways").status_code == 401
    api.now[0] += BELIEVED_S + 1
    assert {len(row["ways"]) for row in api("user", "GET", "/node-ways").json()["items"]} == {0}


def test_a_node_that_joins_anew_is_another_machine(api: Api) -> None:
    with api.database.transaction() as tx:
        nodes.set_state(tx, N2, "reinstall")
        nodes.join(tx, N2, "princeton", b"new" + b"2" * 29, NodeSaid(CAN, "192.0.2.2"), api.now[0] + 10)
        assert latencies.all(tx, api.now[0] + 20).keys() == {(N1, N3)}
        nodes.delete(tx, N1)
        assert latencies.all(tx, api.now[0] + 20) == {}


def test_the_desk_says_whose_turn_it_is_and_writes_down_what_comes(api: Api) -> None:
    desk = StoredDesk(api.database, lambda: api.now[0])
    asked = {n: q for n, q in zip((N1, N2, N3, "gone"), desk.far([N1, N2, N3, "gone"]), strict=True) if q}
    assert asked == {
        N1: bus.AskRtts("192.0.2.1", {N2: "192.0.2.2"}),
        N2: bus.AskRtts("192.0.2.2", {N3: "192.0.2.3"}),
        N3: bus.AskRtts("192.0.2.3", {N1: "192.0.2.1"}),
    }
    api.now[0] += 60
    desk.reported([(N1, bus.Rtts({N2: 7.0})), (N3, bus.Rtts({N1: None})), ("gone", bus.Rtts({N1: 1.0}))])
    with api.database.reading() as tx:
        found = {pair: m.rtt_us / 1000 for pair, m in latencies.all(tx, api.now[0]).items()}
    assert found == {(N1, N2): 7.0, (N1, N3): 40.0, (N2, N3): 44.0}, "who does not answer is where he was"


async def test_a_node_measures_whom_it_is_told_to_and_only_that_counts(tmp_path) -> None:
    asked: list[tuple[str, Mapping[str, str]]] = []

    def measure(local: str, peers: Mapping[str, str]) -> dict[str, float | None]:
        asked.append((local, peers))
        return {**dict.fromkeys(peers, 5.0), "b": None, "stranger": 1.0}

    async with central_with(tmp_path, rhythm=replace(QUICK, mesh=0.05)) as c:
        c.desk.ways["one"] = bus.AskRtts("192.0.2.1", {"b": "192.0.2.2", "c": "192.0.2.3"})
        async with node(tmp_path / "n", c.admit("one"), measure=measure):
            await soon(lambda: len(c.desk.said("one", bus.Rtts)) > 1)
    assert c.desk.said("one", bus.Rtts)[0] == bus.Rtts({"b": None, "c": 5.0})
    assert asked[0] == ("192.0.2.1", {"b": "192.0.2.2", "c": "192.0.2.3"})
