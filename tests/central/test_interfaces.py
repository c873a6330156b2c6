"""The network interfaces of nodes: told with the introduction, kept as a whole, shown to whoever sees nodes."""

from __future__ import annotations

from typing import Any

import msgspec
import older
import pytest
from msgspec.structs import replace
from testbed_api import Api, populated

from vini import bus
from vini.central.desk import StoredDesk
from vini.rules.interfaces import MOST_INTERFACES, NodeInterface, believed
from vini.rules.nouns import NodeSaid
from vini.rules.words import MOST
from vini.store import nodes
from vini.store.database import Database

N1, N2 = "n1.princeton.example", "n2.princeton.example"
ETH0 = NodeInterface("eth0", "02:00:00:00:00:01", 1500, ("192.0.2.1/24", "2001:db8::1/64"), 1000)
ETH1 = NodeInterface("eth1", "02:00:00:00:00:02", 9000)


@pytest.fixture
def api(database: Database) -> Api:
    made = populated(database)
    with database.transaction() as tx:
        nodes.heard(tx, N1, made.now[0], NodeSaid(address="2001:DB8::1"))
    return made


def introduce(api: Api, *words: tuple[str, tuple[NodeInterface, ...]]) -> None:
    desk = StoredDesk(api.database, lambda: api.now[0])
    desk.reported([(n, bus.Greeting("1", 1, n, frozenset(), {}, interfaces=told)) for n, told in words])


def seen(api: Api, node: str, who: str = "user") -> list[dict[str, Any]]:
    page = api(who, "GET", f"/nodes/{node}/interfaces").json()
    assert page["next"] == ""
    return page["items"]


def names(api: Api, node: str) -> list[str]:
    return [row["name"] for row in seen(api, node)]


def shown(node: str, one: NodeInterface, primary: bool) -> dict[str, Any]:
    return {**msgspec.to_builtins(one), "addresses": list(one.addresses), "mac": one.mac, "mtu": one.mtu,
            "speed_mbit": one.speed_mbit, "node": node, "primary": primary}  # fmt: skip


def test_what_a_node_tells_is_shown_with_the_one_that_others_reach_it_by(api: Api) -> None:
    introduce(api, (N1, (ETH1, ETH0)), (N2, (ETH0,)), ("gone", (ETH0,)))
    assert seen(api, N1) == [shown(N1, ETH0, True), shown(N1, ETH1, False)]
    assert seen(api, N2) == [shown(N2, ETH0, False)], "nobody knows its address"


def test_what_it_tells_anew_takes_the_place_of_all_before(api: Api) -> None:
    introduce(api, (N1, (ETH0, ETH1)), (N2, (ETH0,)))
    introduce(api, (N1, (replace(ETH0, mtu=1400), replace(ETH1, name="eth2"))))
    assert [(row["name"], row["mtu"]) for row in seen(api, N1)] == [("eth0", 1400), ("eth2", 9000)]
    introduce(api, (N1, (ETH0,)), (N1, (ETH1,)))
    assert names(api, N1) == ["eth1"], "of two words of one node the later holds"
    introduce(api, (N1, ()))
    assert (names(api, N1), names(api, N2)) == ([], ["eth0"])


def test_an_older_agent_tells_none(api: Api) -> None:
    introduce(api, (N1, (ETH0,)))
    said = {"message": "greeting", "version": "0.1", "pid": 1, "node": N1, "capabilities": [], "generations": {}}
    StoredDesk(api.database).reported([(N1, msgspec.convert(said, bus.Greeting))])
    assert names(api, N1) == []
    assert api("user", "GET", f"/nodes/{N1}").json()["version"] == "0.1"


def test_what_is_as_it_was_is_not_written(api: Api) -> None:
    def places() -> list[Any]:
        """A row that is written has another place."""
        with api.database.reading() as tx:
            place = {"postgresql": "ctid::text", "sqlite": "rowid"}[tx.dialect.name]
            return list(tx.exec_driver_sql(f"SELECT {place} FROM interfaces ORDER BY node_id, name"))

    introduce(api, (N1, (ETH0, ETH1)), (N2, (ETH0,)))
    before = places()
    introduce(api, (N1, (ETH1, ETH0)), (N2, (ETH0,)))
    assert places() == before
    introduce(api, (N1, (ETH0, replace(ETH1, speed_mbit=7))), (N2, (ETH0,)))
    assert [now == was for now, was in zip(places(), before, strict=True)] == [False, False, True]


def test_a_node_that_is_deleted_takes_them_along(api: Api) -> None:
    introduce(api, (N1, (ETH0,)), (N2, (ETH0,)))
    with api.database.transaction() as tx:
        nodes.delete(tx, N1)
    assert api("user", "GET", f"/nodes/{N1}/interfaces").status_code == 404
    assert [row["node"] for row in api("user", "GET", "/interfaces").json()["items"]] == [N2]


def test_all_of_them_come_in_pages(api: Api) -> None:
    introduce(api, (N1, (ETH0, ETH1, replace(ETH1, name="a.1"))), (N2, (ETH0,)))

    def rows(query: str) -> list[tuple[str, str]]:
        found, cursor = [], ""
        while True:
            page = api("outsider", "GET", "/interfaces?" + query.format(cursor=cursor)).json()
            found += [(row["node"], row["name"]) for row in page["items"]]
            if not (cursor := page["next"]):
                return found

    assert rows("limit=1&cursor={cursor}") == [(N1, "a.1"), (N1, "eth0"), (N1, "eth1"), (N2, "eth0")]
    assert rows("name=eth0") == [(N1, "eth0"), (N2, "eth0")]
    assert rows(f"node={N1}&name=eth*") == [(N1, "eth0"), (N1, "eth1")]
    assert rows("node=n9") == []


def test_who_may_see_nodes_may_see_them(api: Api) -> None:
    introduce(api, (N1, (ETH0,)))
    for who in ("admin", "pi", "tech", "user", "outsider"):
        assert len(seen(api, N1, who)) == 1
    for path in ("/interfaces", f"/nodes/{N1}/interfaces"):
        assert api("", "GET", path).status_code == 401


def test_whatever_a_node_says_of_them_is_bounded(api: Api) -> None:
    many = [f"2001:db8::{i:x}/64" for i in range(1, 1000)]
    bad = NodeInterface(
        "eth0",
        "02:00:00:00:00:zz",
        1 << 40,
        ("here", "192.0.2.1", "192.0.2.300/24", "fe80::1%x/64", "1\0/8", *many),
        -5,
    )
    wrong = [replace(ETH1, name=n) for n in ("", "a b", "a/b", "x" * 16, "a\0", "a\n", "é")]
    introduce(api, (N1, (*wrong, bad, ETH0, *(replace(ETH1, name=f"e{i}") for i in range(1000)))))
    first, *others = [row for row in seen(api, N1) if row["name"] == "eth0"]
    assert not others and (first["mac"], first["mtu"], first["speed_mbit"]) == ("", MOST, 0)
    assert set(first["addresses"]) == set(many[:59])
    assert len(seen(api, N1)) == MOST_INTERFACES


@pytest.mark.parametrize(
    "said, kept",
    [
        (NodeInterface("a", "02:AB:00:00:00:01"), NodeInterface("a", "02:ab:00:00:00:01")),
        (NodeInterface("a", "02:ab:00:00:00:01:02"), NodeInterface("a")),
        (NodeInterface("a", addresses=("2001:DB8:0::1/64",)), NodeInterface("a", addresses=("2001:db8::1/64",))),
        (NodeInterface("a", addresses=("192.0.2.1/24",) * 3), NodeInterface("a", addresses=("192.0.2.1/24",))),
        (NodeInterface("a", addresses=("1/" * 10**6,)), NodeInterface("a")),
    ],
)
def test_what_is_said_is_kept_as_everybody_writes_it(said: NodeInterface, kept: NodeInterface) -> None:
    assert believed([said]) == {"a": kept}


def test_an_older_database_knows_of_none_until_they_are_told(url: str) -> None:
    database = Database(url)
    database.migrate()
    api = populated(database)
    introduce(api, (N1, (ETH0,)))
    with database.transaction() as tx:
        older.back_to(tx, "0019")
    database.migrate()
    assert names(api, N1) == []
    introduce(api, (N1, (ETH0,)))
    assert names(api, N1) == ["eth0"]
    database.close()


def test_the_mtu_of_the_one_that_others_reach_it_by_is_what_links_to_it_go_by(api: Api) -> None:
    """Not what it was when the machine joined: whoever learns that the network carries less changes the interface."""

    def mtu() -> int:
        with api.database.reading() as tx:
            return nodes.get(tx, N1).node.mtu

    joined = mtu()
    introduce(api, (N1, (ETH1,)))
    assert mtu() == joined, "of an interface with other addresses nothing follows"
    for told, kept in ((1400, 1400), (65536, 9000), (575, 9000), (-1, 9000), (576, 576)):
        introduce(api, (N1, (ETH1, replace(ETH0, mtu=told))))
        assert mtu() == kept
    introduce(api, (N1, ()))
    assert mtu() == 576, "an older agent tells none"
