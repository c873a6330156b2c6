"""A testbed with one of each role, and the API as each of them sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx
from fastapi.testclient import TestClient

from vini.central import passwords
from vini.central.app import make_app
from vini.rules.nouns import NodeSaid
from vini.rules.wishes import NewSite
from vini.store import members, nodes, persons, roles, sites, slices, tokens
from vini.store.database import Database

ROLES = ("admin", "pi", "tech", "user", "outsider")  # at princeton; the outsider is a PI elsewhere
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
PASSWORD = "correct horse battery"
HASH = passwords.hashed(PASSWORD)  # once: it takes its time


@dataclass
class Api:
    """Requests as one of the testbed's persons."""

    database: Database
    now: list[float] = field(default_factory=lambda: [1_000_000.0])
    secrets: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.app = make_app(self.database, clock=lambda: self.now[0])
        self.http = TestClient(self.app, raise_server_exceptions=False)

    def __call__(self, who: str, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        if who:
            headers["Authorization"] = f"Bearer {self.secrets.get(who, who)}"
        return self.http.request(
            method, f"/v1{path}", json=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )


def email(who: str) -> str:
    return f"{who}@princeton.example"


def populated(database: Database) -> Api:
    """Two sites, a person of each role, two nodes, a slice whose member is `user`."""
    api = Api(database)
    now = api.now[0]
    with database.transaction() as tx:
        sites.add(tx, NewSite("princeton", max_slices=3))
        sites.add(tx, NewSite("mit"))
        for who in ROLES:
            person = persons.add(tx, email(who), who.title(), HASH)
            site = {"admin": "", "outsider": "mit"}.get(who, "princeton")
            roles.grant(tx, person.id, "pi" if who == "outsider" else who, site)  # type: ignore[arg-type]
            api.secrets[who] = tokens.issue_api(tx, email(who), ("read", "write", "admin"), 1e9, now)
        for i, name in enumerate(("n1.princeton.example", "n2.princeton.example")):
            nodes.join(tx, name, "princeton", bytes([i]) * 32, NodeSaid(frozenset({"netem", "frr"})), now)
        row = slices.add(tx, "princeton_iias", email("pi"), now)
        members.add(tx, row.id, email("user"))
    return api
