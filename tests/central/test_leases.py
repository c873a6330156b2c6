"""Leases that count: a node is one slice's for its time, and nobody is driven from where he may stay."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from test_admission import ADMIN, CAN, N1, N2, Deaf, line
from testbed_api import Api, email, populated

from vini import bus
from vini.central.looks import Looks
from vini.central.testbed import Testbed as Wishes
from vini.model import CapacityError, Sliver, SliverStatus, Topology
from vini.placement import places
from vini.rules.nouns import NodeSaid
from vini.store import events, nodes, slices, specs
from vini.store.database import Database

HOUR = 3600
NOW = 1_000_800.0  # a whole hour
A, B = "princeton_iias", "princeton_b"


@pytest.fixture
def api(database: Database) -> Api:
    made = populated(database)
    made.now[0] = NOW
    with database.transaction() as tx:
        slices.add(tx, B, email("pi"), NOW)
        slices.change(tx, A, {"expires": NOW + 100 * HOUR, "description": "a test", "url": "https://x.example"})
        for i, name in enumerate((N1, N2)):
            nodes.heard(tx, name, 1.0, NodeSaid(CAN, f"192.0.2.{i + 1}"))
    return made


def put(api: Api, topology: Topology) -> None:
    made = Wishes(api.database, Deaf(), lambda: api.now[0])  # type: ignore[arg-type]
    asyncio.run(made.put(ADMIN, topology, "put"))


def lease(api: Api, slice_: str, start: float, end: float, node: str = N1) -> Any:
    """In hours from now."""
    wish = {"slice": slice_, "node": node, "start": NOW + start * HOUR, "end": NOW + end * HOUR}
    return api("pi", "POST", "/leases", wish)


def on(name: str, node: str) -> Topology:
    return Topology(name, {"a": Sliver("a", node=node)})


def ends(api: Api, slice_: str) -> dict[str, float]:
    """Node -> after how many hours the slice's slivers there end."""
    with api.database.reading() as tx:
        return {n: (s.expires - NOW) / HOUR for n, s in specs.of_slice(tx, slice_).items() if s.objects}


def test_a_node_that_another_slice_has_leased_takes_no_slivers(api: Api) -> None:
    assert lease(api, B, 0, 2).status_code == 201
    with pytest.raises(CapacityError) as told:
        put(api, on(A, N1))
    assert f"pinned to node '{N1}', which slice '{B}' has leased from 1970-01-12 14:00 UTC" in str(told.value)
    assert "free from 1970-01-12 16:00 UTC on" in str(told.value)
    put(api, line(A, 4))
    with api.database.reading() as tx:
        assert set(places(specs.of_slice(tx, A)).values()) == {N2}
    put(api, on(B, N1))
    api.now[0] += 2 * HOUR
    put(api, on(A, N1))


def test_where_all_are_leased_the_first_that_is_free_is_told(api: Api) -> None:
    lease(api, B, 0, 3)
    lease(api, B, 0, 2, N2)
    with pytest.raises(CapacityError, match=f"the first that is free is '{N2}'.* free from 1970-01-12 16:00 UTC on"):
        put(api, line(A, 2))


def test_where_none_is_free_before_the_slice_ends_no_time_is_told(api: Api) -> None:
    for node in (N1, N2):
        lease(api, B, 99, 101, node)
    with pytest.raises(CapacityError) as told:
        put(api, line(A, 2))
    assert "are leased, and none is free again before this slice ends (1970-01-16 18:00 UTC)" in str(told.value)
    assert f"renew it (`vini slice renew {A}`), or lease a node" in str(told.value)
    assert "try then" not in str(told.value)


def test_a_node_is_called_free_only_from_when_on_one_may_stay(api: Api) -> None:
    """It is free now, for two hours."""
    lease(api, B, 2, 4)
    lease(api, B, 6, 7)
    with pytest.raises(CapacityError, match="has leased from 1970-01-12 16:00 .* free from 1970-01-12 21:00 UTC on"):
        put(api, on(A, N1))
    lease(api, B, 99, 101)
    with pytest.raises(CapacityError, match="and which is not free again before this slice ends; pin it to another"):
        put(api, on(A, N1))


def test_nobody_new_comes_to_where_he_could_not_stay(api: Api) -> None:
    lease(api, B, 50, 51)
    with pytest.raises(CapacityError, match="lease that one: `vini lease add"):
        put(api, on(A, N1))
    assert lease(api, A, 0, 1).status_code == 201
    put(api, on(A, N1))
    assert ends(api, A) == {N1: 50.0}, "who has a lease too stays until that of another begins"


def test_one_lease_after_another(api: Api) -> None:
    assert lease(api, A, 0, 2).status_code == 201
    put(api, on(A, N1))
    assert ends(api, A) == {N1: 100.0}
    with api.database.reading() as tx:
        before = slices.get(tx, A).generation
    after = lease(api, B, 2, 4)
    assert after.status_code == 201
    assert ends(api, A) == {N1: 2.0}
    with api.database.reading() as tx:
        assert slices.get(tx, A).generation == before + 1
        assert {s.generation for s in specs.of_slice(tx, A).values()} == {before + 1}
        told, _ = events.some(tx, None, 9, what="stay", target=A)
    assert [e.detail for e in told] == [f"slivers on node {N1} stay until 1970-01-12 16:00 UTC, as its leases say"]
    assert api("pi", "DELETE", f"/leases/{after.json()['id']}").status_code == 204
    assert ends(api, A) == {N1: 100.0}


class Answers(Deaf):
    """Nodes whose slivers are all ready."""

    async def ask(self, node: str, request: bus.Request) -> bus.Reply:
        assert (node, request) == (N1, bus.AskStatus(A))
        return bus.Report((SliverStatus(f"{A}.a", "ready"),), 0, 0.0, A, 1 << 40)


def test_the_status_says_who_has_to_go_and_when(api: Api) -> None:
    looks = Looks(api.database, Answers(), lambda: api.now[0])  # type: ignore[arg-type]
    put(api, on(A, N1))
    assert asyncio.run(looks.status(ADMIN, A)).slivers[0].leaves == ""
    lease(api, A, 0, 2)
    lease(api, B, 2, 4)
    (row,) = asyncio.run(looks.status(ADMIN, A)).slivers
    assert row.leaves == f"until 1970-01-12 16:00 UTC: from then on another slice has leased node {N1}"


def test_who_may_stay_is_not_driven_away(api: Api) -> None:
    put(api, on(A, N1))
    refused = lease(api, B, 10, 12)
    assert (refused.status_code, refused.json()["error"]) == (409, "Conflict")
    said = refused.json()["sentence"]
    assert f"has slivers of slice '{A}', which has no lease there" in said
    assert f"begins at 1970-01-16 18:00 UTC; ask for that, or ask for node '{N2}', which is free then." in said
    assert lease(api, B, 100, 101).status_code == 201
    put(api, Topology(A))
    assert lease(api, B, 10, 12).status_code == 201, "it has gone"


def test_a_time_that_is_taken_names_the_nearest(api: Api) -> None:
    lease(api, B, 1, 3)
    said = lease(api, A, 2, 4).json()["sentence"]
    assert f"is leased by slice '{B}' from 1970-01-12 15:00 UTC to 1970-01-12 17:00 UTC" in said
    assert "The nearest time that fits begins at 1970-01-12 17:00 UTC" in said


def test_a_slice_that_is_renewed_stays_on_a_leased_node_until_the_lease(api: Api) -> None:
    put(api, Topology(A, {"a": Sliver("a", node=N1), "b": Sliver("b", node=N2)}))
    lease(api, B, 150, 151)
    assert api("pi", "POST", f"/slices/{A}/renewals", {"expires": NOW + 200 * HOUR}).status_code == 200
    assert ends(api, A) == {N1: 150.0, N2: 200.0}
    api.now[0] += 150 * HOUR
    assert api("pi", "POST", f"/slices/{A}/renewals", {"expires": NOW + 300 * HOUR}).status_code == 200
    assert ends(api, A) == {N1: 150.0, N2: 300.0}, "its time there is over, and it does not come back by itself"
    made = Wishes(api.database, Deaf(), lambda: api.now[0])  # type: ignore[arg-type]
    seen = {row.sliver: row.why for row in asyncio.run(made.looks.status(ADMIN, A)).slivers if "over" in row.why}
    assert list(seen) == [f"{A}.a"]
    assert "was over at 1970-01-18 20:00 UTC; where its slice lives on, `vini up`" in seen[f"{A}.a"]
