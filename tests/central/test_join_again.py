"""A machine whose attempt to join broke off tries again by the same token, and is the same node; nobody else is."""

from __future__ import annotations

import threading
from base64 import b64encode
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from testbed_api import Api, populated

from vini.central.ca import Authority
from vini.central.run import Central
from vini.model import Conflict, ViniError
from vini.node import attempt, identity
from vini.rules.nouns import BootState
from vini.store import events, nodes, tokens
from vini.store.database import Database

HEX = "0" * 64


@pytest.fixture
def api(database: Database) -> Api:
    return populated(database)


class Machine:
    """What a machine sends to a central, with a state directory of its own."""

    def __init__(self, api: Api, directory: Path):
        self.state = directory / "state"
        self._http = TestClient(Central(api.database, Authority(directory / "ca"), lambda: api.now[0]).app)

    def asks(self, secret: str, name: str = "n9.princeton.example") -> httpx.Response:
        """As far as `vini node join` goes until the answer is lost."""
        key = identity.public_half(attempt.key_for(self.state, f"vini1.{secret}.{HEX}"))
        body = {"secret": secret, "name": name, "key": b64encode(key).decode(), "address": "192.0.2.9"}
        return self._http.post("/v1/join", json=body)


@pytest.fixture
def machine(api: Api, tmp_path: Path) -> Machine:
    return Machine(api, tmp_path)


def secret(api: Api) -> str:
    with api.database.transaction() as tx:
        return tokens.issue_join(tx, "princeton", 3600.0, api.now[0])


def joins(api: Api) -> int:
    with api.database.reading() as tx:
        return sum(e.what == "join" for e in events.since(tx, 0).events)


def test_whose_answer_was_lost_asks_again(api: Api, machine: Machine) -> None:
    mine = secret(api)
    first = machine.asks(mine)
    api.now[0] += 86400.0  # also when the token would have expired
    again = machine.asks(mine)
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json() == {"node": "n9.princeton.example", "site": "princeton"}
    assert joins(api) == 1


def test_the_token_is_used_for_everybody_else(api: Api, machine: Machine, tmp_path: Path) -> None:
    mine = secret(api)
    assert machine.asks(mine).status_code == 200
    other = Machine(api, tmp_path / "other")
    for name in ("n9.princeton.example", "n8.princeton.example"):
        refused = other.asks(mine, name)
        assert refused.status_code == 403 and "was used already" in refused.json()["sentence"]
    assert "was used already" in machine.asks(mine, "n8.princeton.example").json()["sentence"]


def test_nor_does_it_bring_back_a_node_that_was_deleted(api: Api, machine: Machine) -> None:
    mine = secret(api)
    machine.asks(mine)
    with api.database.transaction() as tx:
        nodes.delete(tx, "n9.princeton.example")
    assert "was used already" in machine.asks(mine).json()["sentence"]


@pytest.mark.parametrize("state", ["disabled", "reinstall"])
def test_nor_is_it_a_node_again_that_was_shut_out_since(api: Api, machine: Machine, state: BootState) -> None:
    mine = secret(api)
    machine.asks(mine)
    with api.database.transaction() as tx:
        nodes.set_state(tx, "n9.princeton.example", state)
    refused = machine.asks(mine)
    assert refused.status_code == 403 and "Ask for a new one" in refused.json()["sentence"]
    if state == "reinstall":
        assert machine.asks(secret(api)).status_code == 200


def test_who_asks_again_while_the_first_request_is_under_way_is_the_same_node(
    api: Api, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the database had stalled: the second waits for the first."""
    mine, real = secret(api), nodes.join
    first_is_in, go_on = threading.Event(), threading.Event()
    said: list[int] = []

    def slow(*given: Any) -> Any:
        if not first_is_in.is_set():
            first_is_in.set()
            assert go_on.wait(20)
        return real(*given)

    monkeypatch.setattr(nodes, "join", slow)
    threads = [threading.Thread(target=lambda: said.append(machine.asks(mine).status_code)) for _ in range(2)]
    threads[0].start()
    assert first_is_in.wait(20)
    threads[1].start()
    threads[1].join(1.0)  # it waits by now; where it has not come so far, it finds the first one done
    go_on.set()
    for thread in threads:
        thread.join()
    assert said == [200, 200] and joins(api) == 1


def test_another_token_is_another_attempt_with_another_key(tmp_path: Path) -> None:
    one, two = (f"vini1.{'a' * 20}{i}.{HEX}" for i in range(2))
    first = attempt.key_for(tmp_path, one)
    assert attempt.key_for(tmp_path, f" {one}\n") == first
    path = tmp_path / "uplink" / "joining.json"
    assert path.stat().st_mode & 0o077 == 0 and "a" * 20 not in path.read_text()
    assert attempt.key_for(tmp_path, two) != first
    attempt.over(tmp_path)
    attempt.over(tmp_path)
    assert not path.exists()


def test_a_disk_that_takes_no_key_is_told_before_the_token_is_spent(tmp_path: Path) -> None:
    (tmp_path / "uplink").write_text("in its place")
    with pytest.raises(ViniError, match="can't be written: .*; the token was not used"):
        attempt.key_for(tmp_path, f"vini1.{'a' * 20}.{HEX}")


def test_a_node_of_another_central_leaves_that_first(tmp_path: Path) -> None:
    theirs, ours = Authority(tmp_path / "theirs"), Authority(tmp_path / "ours")
    token = f"vini1.{'a' * 20}.{ours.fingerprint}"
    attempt.may(tmp_path, token)
    identity.write(tmp_path, identity.Identity("n1", "home", "https://theirs.example", bytes(32), theirs.pem))
    with pytest.raises(Conflict, match="is node n1 of https://theirs.example, .*`vini node leave` first"):
        attempt.may(tmp_path, token)
    identity.write(tmp_path, identity.Identity("n1", "home", "https://ours.example", bytes(32), ours.pem))
    attempt.may(tmp_path, token)
    (tmp_path / "uplink" / "identity.json").write_text("{")
    attempt.may(tmp_path, token)
