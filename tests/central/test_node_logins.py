"""Who logged in past the central is an event, once, and it is its node's word."""

from __future__ import annotations

from typing import Any

import pytest
from fake_agents import central, eventually, node
from msgspec.structs import replace
from testbed_api import Api, email, populated

from vini import bus
from vini.central.desk import StoredDesk
from vini.model import Netns, SliceSpec, Sliver, Topology
from vini.rules.logins import Login
from vini.store import slices
from vini.store.database import Database

N1 = "n1.princeton.example"
SLICE = "princeton_iias"


@pytest.fixture
def api(database: Database) -> Api:
    made = populated(database)
    spec = SliceSpec(SLICE, N1, 1, frozenset({Netns(f"{SLICE}.a")}))
    with database.transaction() as tx:
        slices.put_topology(tx, SLICE, Topology(SLICE, {"a": Sliver("a")}), {N1: spec}, 1.0)
    return made


def login(number: int, user: str = f"{SLICE}.a", seconds: float = -1.0) -> Login:
    return Login(number, user, email("user"), "192.0.2.9", 1_700_000_000.0, seconds)


def told(api: Api, *rows: Login) -> None:
    StoredDesk(api.database, lambda: api.now[0]).reported([(N1, bus.Logins(rows))])


def seen(api: Api, who: str = "admin") -> list[dict[str, Any]]:
    items = api(who, "GET", "/events?limit=100").json()["items"]
    return [e for e in items if e["what"] in ("begin ssh", "end ssh")]


def test_it_is_an_event_of_the_slice_once(api: Api) -> None:
    desk = StoredDesk(api.database)
    assert desk.logins_until([N1, "nobody"]) == [0, 0]
    told(api, login(5), login(6, seconds=2.5), login(7), login(8, f"{SLICE}.b"))
    assert desk.logins_until([N1]) == [8]
    events = seen(api, "user")
    assert {(e["what"], e["who"], e["source"], e["target"], e["duration_s"]) for e in events} == {
        ("begin ssh", f"node {N1}", "192.0.2.9", SLICE, 0.0), ("end ssh", f"node {N1}", "192.0.2.9", SLICE, 2.5)
    }  # fmt: skip
    began = next(e["detail"] for e in events if e["what"] == "begin ssh")
    assert began == f"{email('user')} in a, b, 3 times; first 2023-11-14 22:13:20 UTC"
    told(api, login(7), login(8))
    assert len(seen(api)) == 2
    told(api, login(9))
    assert len(seen(api)) == 3


def test_of_a_slice_that_the_node_has_not_it_is_one_of_the_node(api: Api) -> None:
    told(api, login(1, "mit_other.x"), login(1 << 62), login(2, f"{SLICE}.\0x\n", float("nan")))
    (event,) = [e for e in seen(api) if e["kind"] == "node"]
    assert event["target"] == N1 and event["detail"].startswith("slice mit_other: ")
    assert StoredDesk(api.database).logins_until([N1]) == [2]
    assert not any("\0" in e["detail"] for e in seen(api))


def test_a_node_that_lies_fills_nothing_and_what_is_more_is_counted(api: Api) -> None:
    for lot in range(3):
        told(api, *(replace(login(lot * 1000 + n), person=f"{lot}.{n}" + "x" * 5000) for n in range(1, 1001)))
    events = seen(api)
    assert len(api("admin", "GET", "/events?limit=1000").json()["items"]) < 300
    assert all(len(e["detail"]) < 1000 for e in events)
    told(api, login(4000))
    api.now[0] += 60
    told(api, login(5000), replace(login(5001), source="y" * 5000))
    items = api("admin", "GET", "/events?limit=1000").json()["items"]
    ours = [e for e in items if e["what"] in ("begin ssh", "end ssh", "log in")]
    assert len(ours) == 200 + 3
    (more,) = [e["detail"] for e in ours if e["what"] == "log in"]
    assert more.startswith("and 2801 more in one minute")
    assert max(len(e["source"]) for e in ours) <= 255


class Ssh:
    """The part of a node's `SshService` that is asked here."""

    def __init__(self) -> None:
        self.rows = tuple(login(n) for n in range(1, 6))

    def newest_login(self) -> int:
        return self.rows[-1].number

    def logins(self, after: int) -> tuple[Login, ...]:
        return tuple(r for r in self.rows if r.number > after)[:2]


async def test_a_central_asks_for_all_that_is_new(tmp_path) -> None:
    async with central(tmp_path) as c, node(tmp_path / "n", c.admit("one")) as n:
        n.answers._ssh = ssh = Ssh()

        def numbers() -> list[int]:
            return [r.number for m in c.desk.said("one", bus.Logins) for r in m.rows]

        await eventually(lambda: numbers() == [1, 2, 3, 4, 5])
        ssh.rows += (login(6),)
        c.desk.until = 5
        await eventually(lambda: numbers()[-1] == 6)


async def test_a_node_that_tells_out_of_order_and_twice_stays_connected(tmp_path) -> None:
    async with central(tmp_path) as c, node(tmp_path / "n", c.admit("one")) as n:
        ssh = Ssh()
        ssh.logins = lambda after: (login(4), login(2), login(4), login(1 << 62), login(-1)) if after < 4 else ()  # type: ignore[method-assign]
        n.answers._ssh = ssh
        await eventually(lambda: [r.number for m in c.desk.said("one", bus.Logins) for r in m.rows] == [2, 4])
        greeted = len(c.desk.said("one", bus.Greeting))
        ssh.rows += (login(6),)
        ssh.logins = lambda after: (login(6), login(5)) if after < 5 else ()  # type: ignore[method-assign]
        await eventually(lambda: [r.number for m in c.desk.said("one", bus.Logins) for r in m.rows][-2:] == [5, 6])
        assert len(c.desk.said("one", bus.Greeting)) == greeted, "it did not have to connect anew"
