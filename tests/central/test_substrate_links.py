"""The substrate that operators declare: what rides on a link that is down is told so, and what fits is bounded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import older
import pytest
from msgspec.structs import replace
from own_place import eventually
from sqlalchemy import text
from test_admission import ADMIN, CAN, N1, N2, Deaf, line
from testbed_api import Api, populated

from vini.central.testbed import Testbed as Wishes
from vini.model import CapacityError, Topology
from vini.placement import places
from vini.rules.nouns import NodeSaid
from vini.store import nodes, slices, specs, substrate
from vini.store.database import Database

A, B = "princeton_iias", "princeton_b"
PINS = {"s0": N1, "s1": N2, "s2": N1}
X = {"name": "x", "a": N1, "b": N2}
WHY = "substrate link x is down: new fibre"


@pytest.fixture
def api(database: Database) -> Api:
    made = populated(database)
    with database.transaction() as tx:
        slices.add(tx, B, "pi@princeton.example", made.now[0])
        for i, name in enumerate((N1, N2)):
            nodes.heard(tx, name, 1.0, NodeSaid(CAN, f"192.0.2.{i + 1}"))
    return made


def put(api: Api, topology: Topology) -> None:
    asyncio.run(Wishes(api.database, Deaf(), lambda: api.now[0]).put(ADMIN, topology, "put"))  # type: ignore[arg-type]


def downs(api: Api, slice_: str = A) -> set[str]:
    """What its rides say, at all ends."""
    with api.database.reading() as tx:
        return {ride.down for spec in specs.of_slice(tx, slice_).values() for ride in spec.rides}


def generation(api: Api, slice_: str = A) -> int:
    with api.database.reading() as tx:
        number = slices.get(tx, slice_).generation
        assert {s.generation for s in specs.of_slice(tx, slice_).values()} <= {number}
    return number


def test_what_rides_on_a_link_that_is_taken_down_is_told_so(api: Api) -> None:
    put(api, line(A, 3, **PINS))
    put(api, replace(line(B, 3, **PINS), substrate="heal"))
    assert api("admin", "POST", "/substrate-links", X).status_code == 201
    before, healing = generation(api), generation(api, B)
    assert downs(api) == {""}
    down = api("tech", "PATCH", "/substrate-links/x", {"down": "new fibre"})
    assert (down.json()["down"], down.json()["down_since"]) == ("new fibre", api.now[0])
    assert downs(api) == {WHY}
    assert (generation(api), generation(api, B)) == (before + 1, healing), "a slice that heals itself is left alone"
    put(api, line(A, 3, 5.0, **PINS))
    assert downs(api) == {WHY}, "also what is asked for meanwhile"
    up = api("tech", "PATCH", "/substrate-links/x", {"down": ""}, if_match=down.headers["ETag"])
    assert (up.status_code, up.json()["down_since"]) == (200, 0.0)
    assert downs(api) == {""}


def test_slices_that_end_at_that_moment_are_no_hindrance(api: Api, another: Callable[[], Database]) -> None:
    """Who takes a link down waits for who ends a slice, and that one for nothing of his."""
    for name in (A, B):
        put(api, line(name, 3, **PINS))
    api("admin", "POST", "/substrate-links", X)
    second, under_way, said = another(), threading.Event(), []
    if second.is_sqlite:
        pytest.skip("SQLite has one writer")

    def switch() -> None:
        under_way.wait(10)
        said.append(api("admin", "PATCH", "/substrate-links/x", {"down": "new fibre"}).status_code)

    thread = threading.Thread(target=switch)
    thread.start()
    with second.transaction() as tx:
        slices.get(tx, B, lock=True)
        under_way.set()
        _waits_for_us(api.database)
        slices.delete(tx, B)
    thread.join()
    assert said == [200] and downs(api) == {WHY}


def _waits_for_us(database: Database) -> None:
    """Until one of the other connections waits for a lock."""

    def someone() -> bool:
        with database.reading() as tx:
            return bool(tx.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))

    eventually(someone)


def test_a_link_that_is_not_declared_any_more_fails_nothing(api: Api) -> None:
    put(api, line(A, 3, **PINS))
    api("admin", "POST", "/substrate-links", X)
    api("admin", "PATCH", "/substrate-links/x", {"down": "new fibre"})
    assert api("admin", "DELETE", "/substrate-links/x").status_code == 204
    assert downs(api) == {""}
    assert api("user", "GET", "/substrate-links/x").status_code == 404


def test_who_may(api: Api) -> None:
    assert api("tech", "POST", "/substrate-links", X).status_code == 403
    api("admin", "POST", "/substrate-links", X)
    assert api("admin", "POST", "/substrate-links", X).json()["error"] == "Conflict"
    assert api("admin", "POST", "/substrate-links", {**X, "name": "y", "b": N1}).json()["error"] == "Invalid"
    assert api("admin", "POST", "/substrate-links", {**X, "name": "y", "b": "site:nowhere"}).status_code == 404
    assert api("admin", "POST", "/substrate-links", {**X, "name": "y", "b": "site:mit"}).json()["b"] == "site:mit"
    assert api("user", "PATCH", "/substrate-links/x", {"down": "mine"}).status_code == 403
    assert api("tech", "PATCH", "/substrate-links/x", {"rate_mbit": 1.0}).status_code == 403
    assert [k["name"] for k in api("outsider", "GET", "/substrate-links").json()["items"]] == ["x", "y"]
    api("admin", "DELETE", f"/nodes/{N2}")
    assert [k["name"] for k in api("user", "GET", "/substrate-links").json()["items"]] == ["y"]


def test_what_does_not_fit_on_the_substrate_is_refused(api: Api) -> None:
    api("admin", "POST", "/substrate-links", {**X, "rate_mbit": 50.0})
    put(api, line(A, 3, 15.0, **PINS))
    with pytest.raises(CapacityError, match="other slices have 30, and this asks for 30, 10 too many; 20 fit"):
        put(api, line(B, 3, 15.0, **PINS))
    put(api, line(B, 3, 10.0, **PINS))
    put(api, Topology(B))
    put(api, line(A, 3, 25.0, **PINS))


def test_slivers_that_may_be_anywhere_go_around_what_is_full(api: Api) -> None:
    """And where none of it fits, what is full where they would go first is told."""
    n3 = "n3.princeton.example"
    with api.database.transaction() as tx:
        nodes.join(tx, n3, "princeton", bytes([9]) * 32, NodeSaid(CAN, "192.0.2.3"), api.now[0])
    api("admin", "POST", "/substrate-links", {**X, "rate_mbit": 50.0})
    put(api, line(A, 3, 20.0, **PINS))
    apart = line(B, 2, 15.0, s0=N1)
    apart = replace(apart, slivers={n: replace(s, apart="x") for n, s in apart.slivers.items()})
    put(api, apart)
    with api.database.reading() as tx:
        assert specs.of_slice(tx, B).keys() == {N1, n3}
    api("admin", "POST", "/substrate-links", {**X, "name": "y", "b": n3, "rate_mbit": 10.0})
    put(api, Topology(B))
    with pytest.raises(CapacityError, match="of the 10 Mbit/s of link 'y' .* this asks for 15, 5 too many; 10 fit"):
        put(api, apart)


def test_who_is_somewhere_is_not_moved_to_make_room(api: Api) -> None:
    """What runs would be lost; a third node, from which there is room, is no reason."""
    n3 = "n3.princeton.example"
    with api.database.transaction() as tx:
        nodes.join(tx, n3, "princeton", bytes([9]) * 32, NodeSaid(CAN, "192.0.2.3"), api.now[0])
    api("admin", "POST", "/substrate-links", {**X, "rate_mbit": 50.0})
    put(api, line(A, 3, 10.0, **PINS))
    put(api, line(B, 2, 10.0, s0=N1, s1=N2))
    held = {"s0": N1, "s1": N2}
    put(api, line(B, 2, 20.0))
    assert at(api, B) == held
    with pytest.raises(CapacityError, match="other slices have 20, and this asks for 40, 10 too many; 30 fit"):
        put(api, line(B, 2, 40.0))
    assert at(api, B) == held
    put(api, line(B, 2, 40.0, s1=n3))
    assert at(api, B) == {"s0": N1, "s1": n3}, "who asks for it is moved"


def at(api: Api, slice_: str) -> dict[str, str]:
    with api.database.reading() as tx:
        return places(specs.of_slice(tx, slice_))


def test_an_older_database_learns_what_rides_where(url: str) -> None:
    database = Database(url)
    database.migrate()
    made = populated(database)
    with database.transaction() as tx:
        for i, name in enumerate((N1, N2)):
            nodes.heard(tx, name, 1.0, NodeSaid(CAN, f"192.0.2.{i + 1}"))
    put(made, line(A, 3, 15.0, **PINS))
    with database.transaction() as tx:
        older.back_to(tx, "0005")
    database.migrate()
    with database.reading() as tx:
        assert substrate.others(tx, B) == {(N1, N2): 30.0}
    database.close()
