"""Whoever is to be told is told: by a real SMTP server and a real HTTP server, once where both work."""

from __future__ import annotations

import hmac
import json
import re
import threading
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from testbed_api import Api, email, populated

from vini.central import settings
from vini.central.notices import Channels, Notifier
from vini.model import ViniError
from vini.rules import expiry
from vini.rules.notices import TRIES, Mail, Webhook, pause
from vini.store import events, reminders, slices
from vini.store.database import Database

controller = pytest.importorskip("aiosmtpd.controller", reason="pip install aiosmtpd")
A = "princeton_iias"
SECRET = "a secret that both know"


class Sink:
    """Keeps the mails that it takes; refuses all while `broken`."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], Message]] = []
        self.broken = False

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802, ARG002
        if self.broken:
            return "451 try again later"
        self.mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content)))
        return "250 taken"


class AtAnyPort(controller.Controller):
    """It says at which, before it asks itself whether it is there."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@pytest.fixture
def sink() -> Iterator[tuple[Sink, int]]:
    taken = Sink()
    made = AtAnyPort(taken, hostname="127.0.0.1", port=0)
    made.start()
    yield taken, made.port
    made.stop()


class Hook(ThreadingHTTPServer):
    """Keeps what it is told, and answers `status`."""

    def __init__(self) -> None:
        self.told: list[tuple[dict[str, str], bytes]] = []
        self.status = 204
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:  # noqa: N802
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append((dict(self.headers.items()), body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def api(database: Database) -> Api:
    return populated(database)


def notifier(api: Api, sink: int = 0, hook: Hook | None = None, **more: Any) -> Notifier:
    """That has begun to look: what happened before is told to nobody."""
    mail = Mail("127.0.0.1", "vini@central.example", sink, "none", **more) if sink else None
    hooks = (Webhook(f"http://127.0.0.1:{hook.server_port}/x", SECRET),) if hook else ()
    made = Notifier(api.database, Channels(mail, hooks, "https://central.example:8443"), lambda: api.now[0])
    api.now[0] += 60
    assert made.step() == 0
    return made


def happens(api: Api, what: str, detail: str = "", kind: str = "slice", target: str = A) -> None:
    with api.database.transaction() as tx:
        events.add(tx, at=api.now[0], who="central", what=what, kind=kind, target=target, detail=detail)


def test_members_of_a_slice_are_reminded_of_its_end_by_mail(api: Api, sink: tuple[Sink, int]) -> None:
    taken, port = sink
    made = notifier(api, port)
    with api.database.transaction() as tx:
        api.now[0] = slices.get(tx, A).expires - 2 * expiry.DAY_S
        reminders.remind(tx, api.now[0])
    happens(api, "change slice")
    assert made.step() == 0, "events of the last seconds may still come in out of order"
    api.now[0] += 11
    assert made.step() == 1
    ((to, mail),) = taken.mails
    assert to == [email("user")] and mail["To"] == email("user")
    assert mail["Subject"] == f"VINI: slice {A}: remind of the end" and mail["Auto-Submitted"] == "auto-generated"
    assert f"It ends in 2.0 days; `vini slice renew {A}` prolongs it." in mail.get_payload()
    api.now[0] += 1e6
    assert made.step() == 0 and len(taken.mails) == 1


def test_a_server_that_is_away_is_asked_again_and_given_up_some_day(api: Api, sink: tuple[Sink, int]) -> None:
    taken, port = sink
    made = notifier(api, port)
    happens(api, "expire")
    api.now[0] += 11
    taken.broken = True
    assert made.step() == 0
    assert made.step() == 0, "not at once"
    taken.broken = False
    api.now[0] += pause(1)
    assert made.step() == 1 and len(taken.mails) == 1

    taken.broken = True
    happens(api, "expire")
    for tries in range(1, TRIES + 1):
        api.now[0] += 11 if tries == 1 else pause(tries - 1)
        made.step()
    found = api("admin", "GET", "/events?what=notify").json()["items"]
    assert [(e["kind"], e["target"], e["result"]) for e in found] == [("mail", email("user"), "ViniError")]
    assert "given up after 10 tries" in found[0]["detail"] and "451" in found[0]["detail"]
    taken.broken = False
    api.now[0] += 1e6
    assert made.step() == 0 and len(taken.mails) == 1


def test_a_webhook_is_told_with_a_signature(api: Api, hook: Hook) -> None:
    made = notifier(api, hook=hook)
    happens(api, "path failed", "link a--b failed")
    happens(api, "log in", kind="person", target=email("user"))
    api.now[0] += 11
    assert made.step() == 1
    ((headers, body),) = hook.told
    said = json.loads(body)
    assert (said["what"], said["target"], said["detail"]) == ("path failed", A, "link a--b failed")
    at, _, digest = headers["VINI-Signature"].removeprefix("t=").partition(",v1=")
    assert int(at) == api.now[0]
    assert digest == hmac.new(SECRET.encode(), at.encode() + b"." + body, sha256).hexdigest()
    assert headers["VINI-Event"] == f"{said['id']}"


@pytest.mark.parametrize("status", [500, 302, 404])
def test_what_a_webhook_does_not_take_is_told_again(api: Api, hook: Hook, status: int) -> None:
    made = notifier(api, hook=hook)
    hook.status = status
    happens(api, "expire")
    api.now[0] += 11
    assert made.step() == 0
    hook.status = 200
    api.now[0] += pause(1)
    assert made.step() == 1
    assert len(hook.told) == 2 and hook.told[0][1] == hook.told[1][1]


def test_a_central_that_dies_while_it_sends_loses_nothing(api: Api, hook: Hook, another: Any) -> None:
    made = notifier(api, hook=hook)
    happens(api, "expire")
    api.now[0] += 11
    made._tried = lambda _: False  # type: ignore[method-assign]  # it dies before it has sent
    made.step()
    second = Notifier(another(), made._channels, lambda: api.now[0])
    assert second.step() == 0, "they are the other one's, as long as that may be alive"
    api.now[0] += 301
    assert second.step() == 1 and len(hook.told) == 1


def test_an_account_that_is_disabled_gets_no_mail(api: Api, sink: tuple[Sink, int]) -> None:
    taken, port = sink
    made = notifier(api, port)
    api("admin", "PATCH", f"/persons/{email('user')}", {"enabled": False})
    happens(api, "expire")
    api.now[0] += 11
    assert made.step() == 0 and not taken.mails


def test_an_operator_writes_it_into_the_settings(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/private-testbed.md").read_text()
    (block,) = [b for b in re.findall(r"```json\n(.*?)```", page, re.DOTALL) if "webhooks" in b]
    (tmp_path / "settings.json").write_text(block)
    found = settings.read(tmp_path)
    assert found.mail is not None and (found.mail.port, found.mail.security) == (587, "starttls")
    assert found.webhooks[0].what == ("path *",)
    (tmp_path / "settings.json").write_text(block.replace("sender", "sendr"))
    with pytest.raises(ViniError, match="mend the file"):
        settings.read(tmp_path)
