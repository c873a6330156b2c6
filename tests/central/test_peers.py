"""Centrals that know of each other by the database: who has which node, who is dead, and who may ask."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from vini import bus
from vini.central import peers
from vini.central.ca import Authority
from vini.central.peers import Peers, Question
from vini.store import centrals
from vini.store.centrals import CentralRow
from vini.store.database import Database


class FakeHub:
    """Nodes that answer with their name."""

    def __init__(self, *nodes: str) -> None:
        self.nodes = frozenset(nodes)

    def connected(self) -> frozenset[str]:
        return self.nodes

    async def ask(self, node: str, request: bus.Request, progress: Any = None) -> bus.Reply:  # noqa: ARG002
        if node not in self.nodes:
            raise bus.NodeAway(f"Node {node} is not connected.")
        return bus.Lines((node,))


@pytest.fixture
def both(database: Database, tmp_path: Path) -> tuple[Peers, Peers]:
    ca = Authority(tmp_path / "ca").pem
    one = Peers(FakeHub("n1"), database, "https://one.example", ca)  # type: ignore[arg-type]
    other = Peers(FakeHub("n2"), database, "https://other.example", ca)  # type: ignore[arg-type]
    for each in (one, other, one):
        each._look(each._hub.connected())
    return one, other


def test_each_knows_the_nodes_of_the_other(both: tuple[Peers, Peers]) -> None:
    one, other = both
    assert one.connected() == other.connected() == {"n1", "n2"}
    other._hub.nodes = frozenset({"n1", "n2"})  # type: ignore[attr-defined]
    other._look(other._hub.connected())
    one._look(one._hub.connected())
    assert one._holder("n1") is None, "a central asks its own nodes itself, whoever else claims to have them"
    holder = one._holder("n2")
    assert holder and holder.url == "https://other.example"


def test_whose_beat_stands_still_is_dead_whatever_clocks_say(both, database: Database, monkeypatch) -> None:
    one, other = both
    now = [1e6]
    monkeypatch.setattr(peers, "time", SimpleNamespace(monotonic=lambda: now[0]))
    one._look(frozenset())
    now[0] += peers._DEAD_S + 1
    one._look(frozenset())
    assert one.connected() == {"n1"}
    other._look(frozenset({"n2"}))
    one._look(frozenset())
    assert one.connected() == {"n1", "n2"}, "it lives after all"
    now[0] += peers._GONE_S + 1
    one._look(frozenset())
    with database.reading() as tx:
        assert [row.id for row in centrals.others(tx, "")] == [one._me.id]


def test_what_a_killed_central_left_is_not_asked_when_it_lives_again(
    both, database: Database, tmp_path: Path, monkeypatch, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = both
    now = [time.monotonic()]
    monkeypatch.setattr(peers, "time", SimpleNamespace(monotonic=lambda: now[0]))
    again = Peers(FakeHub(), database, "https://other.example", Authority(tmp_path / "ca").pem)  # type: ignore[arg-type]
    again._look(frozenset())
    assert again._holder("n2") is None, "itself, of the life before: the secret is another one now"
    assert again._holder("n1") is not None
    one._look(frozenset({"n1"}))
    now[0] += peers._BEAT_S + 0.1
    again._look(frozenset({"n2"}))
    one._look(frozenset({"n1"}))
    holder = one._holder("n2")
    assert holder and holder.secret == again._me.secret != other._me.secret
    assert not caplog.records
    other._look(frozenset({"n2"}))  # it is not dead: somebody gave both the same address
    again._look(frozenset())
    assert "as `internal` in its settings.json" in caplog.text


def test_only_who_knows_the_secret_is_answered(both: tuple[Peers, Peers]) -> None:
    one, _ = both
    http = TestClient(Starlette(routes=one.routes))
    body = msgspec.msgpack.encode(Question("n1", bus.AskStatus("s")))
    known = {"Authorization": f"Central {one._me.secret}"}
    for headers in ({}, {"Authorization": "Central "}, {"Authorization": f"Bearer {one._me.secret}"}):
        assert http.post(peers._ASK, content=body, headers=headers).status_code == 401
    answer = http.post(peers._ASK, content=body, headers=known)
    assert msgspec.msgpack.decode(answer.content, type=bus.Reply) == bus.Lines(("n1",))
    away = http.post(peers._ASK, content=msgspec.msgpack.encode(Question("n2", bus.Hello())), headers=known)
    assert msgspec.msgpack.decode(away.content, type=bus.Reply) == bus.Refusal("NodeAway", "Node n2 is not connected.")
    for nonsense in (b"", b"\xff", msgspec.msgpack.encode({"node": "n1", "request": {"message": "stop"}})):
        assert http.post(peers._ASK, content=nonsense, headers=known).status_code == 400
    assert http.post(peers._ASK, content=bytes(peers._MOST_BYTES + 1), headers=known).status_code == 413


def test_whatever_a_central_asks_for_a_user_may_go_through_another() -> None:
    """The rest is of the central that attends to the node, or of the machine itself; commands go another way."""
    own = {
        bus.Accept, bus.Foresee, bus.Authorize, bus.AskRtts, bus.AskUsage, bus.Stop, bus.Configure, bus.AskConfFiles,
        bus.AskLogins, *get_args(bus.Stream),
    }  # fmt: skip
    assert set(get_args(peers._Question)) == set(get_args(bus.Request)) - own


def test_a_row_is_written_once_and_taken_back(database: Database) -> None:
    row = CentralRow("a", "https://a", "s", 1, frozenset({"n1", "n2"}))
    with database.transaction() as tx:
        centrals.announce(tx, row)
        centrals.announce(tx, msgspec.structs.replace(row, beat=2, nodes=frozenset()))
        assert centrals.others(tx, "b") == [CentralRow("a", "https://a", "s", 2, frozenset())]
        assert centrals.others(tx, "a") == []
        centrals.withdraw(tx, ["a"])
        assert centrals.others(tx, "b") == []
