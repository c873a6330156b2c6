"""Whoever is to be told is told: by a real SMTP server and a real HTTP server, once where both work."""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import shutil
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from email import message_from_bytes
from email.message import Message
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from testbed_api import Api, email, populated

from vini.central import hooks, mailing, settings
from vini.central.ca import Authority
from vini.central.clocks import Clocks
from vini.central.mailing import Unsent
from vini.central.notices import Channels, Notifier
from vini.central.run import Central
from vini.cli import vini
from vini.model import ViniError
from vini.rules import expiry
from vini.rules.notices import FIRST_S, LONGEST_S, OLD_S, TRIES, Mail, Webhook, pause, shown, trial
from vini.store import counters, events, nodes, reminders, slices
from vini.store import notices as store
from vini.store.database import Database
from vini.store.notices import Lane
from vini.store.tables import notices as notices_table

controller = pytest.importorskip("aiosmtpd.controller", reason="pip install aiosmtpd")
AuthResult = pytest.importorskip("aiosmtpd.smtp").AuthResult
A = "princeton_iias"
SECRET = "a secret that both know"


class Sink:
    """Keeps the mails that it takes; refuses all while `broken`."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], Message]] = []
        self.broken = False
        self.unknown = ""  # what it says to each recipient; "": that it knows him
        self.farewell = "221 bye"
        self.asked = 0  # for how many passwords

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802, ARG002
        if self.unknown:
            return self.unknown
        envelope.rcpt_tos.append(address)
        return "250 known"

    async def handle_QUIT(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802, ARG002
        return self.farewell

    def __call__(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> Any:  # noqa: ARG002
        """Whether that is the password."""
        self.asked += 1
        return AuthResult(success=data.password == b"right", handled=False)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802, ARG002
        if self.broken:
            return "451 try again later"
        self.mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content)))
        return "250 taken"


class AtAnyPort(controller.Controller):
    """It says at which, before it asks itself whether it is there."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        socket.create_connection(("127.0.0.1", self.port)).close()


@pytest.fixture
def sink() -> Iterator[tuple[Sink, int]]:
    taken = Sink()
    made = AtAnyPort(taken, hostname="127.0.0.1", port=0, authenticator=taken, auth_require_tls=False)
    made.start()
    yield taken, made.port
    made.stop()


class Hook(ThreadingHTTPServer):
    """Keeps what it is told, and answers `status`."""

    def __init__(self) -> None:
        self.told: list[tuple[dict[str, str], bytes]] = []
        self.status = 204
        self.slow = threading.Event()  # set: it answers one letter at a time
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:  # noqa: N802
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append((dict(self.headers.items()), body))
        self.send_response(self.server.status)
        if 300 <= self.server.status < 400:
            self.send_header("Location", "/elsewhere")
        while self.server.slow.is_set():
            self.send_header("X-More", "x")
            self.flush_headers()
            time.sleep(0.05)
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
    return begun(api, api.database, Channels(mail, hooks, "https://central.example:8443"))


def begun(api: Api, database: Database, channels: Channels) -> Notifier:
    """The same of a central with these channels."""
    made = Notifier(database, channels, lambda: api.now[0], lambda _: api.now[0])
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
    assert made.step() == 1
    ((to, mail),) = taken.mails
    assert to == [email("user")] and mail["To"] == email("user")
    assert mail["Subject"] == f"VINI: slice {A}: remind of the end" and mail["Auto-Submitted"] == "auto-generated"
    said = mail.get_payload(decode=True).decode()  # type: ignore[union-attr]
    assert f"It ends in 2.0 days, at 1970-01-26 13:46 UTC; `vini slice renew {A}` prolongs it." in said
    api.now[0] += 1e6
    assert made.step() == 0 and len(taken.mails) == 1


def test_who_was_a_member_is_told_that_the_slice_has_ended(api: Api, sink: tuple[Sink, int], tmp_path: Path) -> None:
    taken, port = sink
    made = notifier(api, port)
    clocks = Clocks(lambda: api.now[0], unsynchronised=lambda: "")
    central = Central(api.database, Authority(tmp_path), lambda: api.now[0], made._channels, clocks=clocks)
    with api.database.transaction() as tx:
        api.now[0] = slices.get(tx, A).expires + 1
    assert A in central._end_expired()
    assert made.step() >= 1
    (mail,) = [m for to, m in taken.mails if to == [email("user")] and f"slice {A}" in m["Subject"]]
    assert mail["Subject"] == f"VINI: slice {A}: expire"
    assert "It is over, and nothing of it is left." in mail.get_payload()
    api.now[0] += 1e6
    assert made.step() == 0


def test_whoever_has_the_name_of_an_expired_slice_now_is_not_told_of_its_end(api: Api, sink: tuple[Sink, int]) -> None:
    taken, port = sink
    made = notifier(api, port)
    happens(api, "expire")  # and it is there again before others are told of it
    made.step()
    assert not taken.mails


def test_by_a_clock_that_is_doubted_no_notice_is_given_up(api: Api, sink: tuple[Sink, int], tmp_path: Path) -> None:
    taken, port = sink
    made = notifier(api, port)
    with api.database.transaction() as tx:
        nodes.measured(tx, {"n1.princeton.example": (0.0, 0.01)}, api.now[0])
    central = Central(api.database, Authority(tmp_path), lambda: api.now[0], made._channels)
    central.hub.attended = lambda: frozenset({"n1.princeton.example"})  # type: ignore[method-assign]
    central._notifier = made

    def measured(ahead: float) -> None:
        central._clocks._looked()
        central._clocks._counts_from = 0.0  # nothing is on its way
        central._clocks.note({"n1.princeton.example": ahead}, {})
        asyncio.run(central._tidy())

    def waiting() -> int:
        with api.database.reading() as tx:
            return store.held(tx).get(Lane("mail"), store.Held()).waiting

    happens(api, "slowed")
    taken.broken = True
    asyncio.run(central._notify())  # it has just started, so nothing was measured
    happens(api, "stay")
    api.now[0] += 90 * 86400.0
    for _ in range(TRIES + 2):
        asyncio.run(central._notify())
        measured(-90 * 86400.0)
        api.now[0] += LONGEST_S
    assert waiting() == 1, "one is not given up, and the other not passed over"
    taken.broken = False
    api.now[0] -= 90 * 86400.0
    measured(0.0)
    asyncio.run(central._notify())
    assert len(taken.mails) == 2 and not waiting()


def test_a_server_that_is_away_is_asked_again_for_days_and_given_up_then(api: Api, sink: tuple[Sink, int]) -> None:
    taken, port = sink
    made = notifier(api, port)
    happens(api, "slowed")
    taken.broken = True
    assert made.step() == 0
    assert made.step() == 0, "not at once"
    taken.broken = False
    api.now[0] += pause(1)
    assert made.step() == 1 and len(taken.mails) == 1

    taken.broken = True
    happens(api, "slowed")
    began, tries = api.now[0], 0
    while not (found := api("admin", "GET", "/events?what=notify").json()["items"]):
        made.step()
        tries += 1
        api.now[0] += pause(tries)
    assert OLD_S <= api.now[0] - began < OLD_S + 3 * LONGEST_S, "as long as mail servers try (RFC 5321, 4.5.4.1)"
    assert [(e["kind"], e["target"], e["result"]) for e in found] == [("mail", email("user"), "ViniError")]
    assert f"given up after {tries} tries" in found[0]["detail"] and "451" in found[0]["detail"]
    taken.broken = False
    api.now[0] += 1e6
    assert made.step() == 0 and len(taken.mails) == 1


def test_an_address_that_is_wrong_is_given_up_at_once_and_no_other_waits_for_it(
    api: Api, sink: tuple[Sink, int]
) -> None:
    taken, port = sink
    made = notifier(api, port)
    taken.unknown = "550 5.1.1 no such mailbox"
    happens(api, "slowed")
    assert made.step() == 0
    (found,) = api("admin", "GET", "/events?what=notify").json()["items"]
    assert "given up after one try" in found["detail"] and "550 5.1.1 no such mailbox" in found["detail"]
    taken.unknown = "550 5.7.1 relaying denied"
    happens(api, "slowed")
    assert made.step() == 0
    taken.unknown = ""
    api.now[0] += pause(1)
    assert made.step() == 1, "what the operator can mend is tried again"


def test_a_wrong_password_is_told_and_nothing_is_lost(api: Api, sink: tuple[Sink, int]) -> None:
    taken, port = sink
    mail = Mail("127.0.0.1", "vini@central.example", port, "none", "vini", "wrong")
    with pytest.raises(Unsent, match=r"does not let 'vini' in \(535 .*see the user and the password"):
        mailing.send(mail, "ada@example.org", trial(0.0, ""), "")
    made = notifier(api, port)
    made._channels = Channels(mail)
    for _ in range(5):
        happens(api, "slowed")
    taken.asked = 0
    assert made.step() == 0
    assert taken.asked == 2, "by both methods; the others would fail as that one did"
    made._channels = Channels(msgspec.structs.replace(mail, password="right"))
    api.now[0] += FIRST_S
    assert made.step() == 5 and len(taken.mails) == 5


def test_a_server_that_says_good_bye_badly_has_taken_the_mail(api: Api, sink: tuple[Sink, int]) -> None:
    taken, port = sink
    made = notifier(api, port)
    taken.farewell = "421 I am tired"
    happens(api, "slowed")
    assert made.step() == 1
    api.now[0] += 1e6
    assert made.step() == 0 and len(taken.mails) == 1


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_server_without_the_tls_that_was_asked_for_gets_no_password(sink: tuple[Sink, int], security: Any) -> None:
    taken, port = sink
    mail = Mail("127.0.0.1", "vini@central.example", port, security, "vini", "right")
    with pytest.raises(Unsent, match="--security"):
        mailing.send(mail, "ada@example.org", trial(0.0, ""), "")
    assert not taken.mails and not taken.asked


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_certificate_that_nobody_vouches_for_is_told_of(tmp_path: Path, security: Any) -> None:
    served = Authority(tmp_path).serve(["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(served.certificate, served.key)
    more = {"tls_context": context} if security == "starttls" else {"ssl_context": context}
    taken = Sink()
    made = AtAnyPort(taken, hostname="127.0.0.1", port=0, **more)
    made.start()
    try:
        mail = Mail("127.0.0.1", "vini@central.example", made.port, security)
        with pytest.raises(Unsent, match="certificate that this machine does not believe"):
            mailing.send(mail, "ada@example.org", trial(0.0, ""), "")
    finally:
        made.stop()
    assert not taken.mails


@pytest.mark.parametrize("wrong", [{"server": "mail..example"}, {"user": "vini", "password": "Schlüssel"}])
def test_a_setting_that_can_not_be_said_to_a_server_loses_no_notice(
    api: Api, sink: tuple[Sink, int], wrong: dict[str, str]
) -> None:
    _, port = sink
    made = notifier(api, port)
    right = made._channels.mail
    assert right is not None
    made._channels = Channels(msgspec.structs.replace(right, **wrong))
    happens(api, "slowed")
    assert made.step() == 0
    with api.database.reading() as tx:
        assert store.held(tx)[Lane("mail")].waiting == 1
    made._channels = Channels(right)
    api.now[0] += FIRST_S
    assert made.step() == 1


@pytest.mark.parametrize(
    ("written", "meant"), [("", "starttls"), ("STARTTLS", "starttls"), ("TLS", "tls"), ("none", "none")]
)
def test_what_was_written_by_hand_before_it_was_checked_is_taken(
    sink: tuple[Sink, int], written: str, meant: str
) -> None:
    taken, port = sink
    text = {"server": "127.0.0.1", "sender": "VINI testbed <vini@example.org>", "port": port, "security": written}
    mail = msgspec.json.decode(msgspec.json.encode(text), type=Mail)
    assert mail.security == meant and msgspec.json.decode(msgspec.json.encode(mail), type=Mail) == mail
    if meant == "none":
        mailing.send(mail, "ada@example.org", trial(0.0, ""), "")
        ((_, found),) = taken.mails
        assert found["From"] == text["sender"] and found["Message-ID"].endswith("@example.org>")


def test_a_webhook_that_was_written_by_hand_is_taken_and_said_as_far_as_it_can_be() -> None:
    text = b'{"url": "https://[abc/hook", "secret": ""}'
    hook = msgspec.json.decode(text, type=Webhook)
    assert shown(hook.url) == "a webhook whose URL is none"
    assert shown("https://me:word@chat.example:8443/in/s3cret") == "https://chat.example:8443"


@pytest.mark.parametrize("sender", ["vini", "VINI <vini>", "VINI <vini@x.example>\n", "a@x.example, b@x.example"])
def test_what_is_no_sender_is_not(sender: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode({"server": "x", "sender": sender}), type=Mail)


def test_whatever_an_account_has_for_an_address_stops_no_other_mail(sink: tuple[Sink, int]) -> None:
    taken, port = sink
    mail = Mail("127.0.0.1", "vini@central.example", port, "none")
    for odd in ("a,b", "a<b", 'a"b', "a;b", "a:b", "(a", "a..b", ".a", "ä", "[", "a\\", "=?utf-8?q?x?="):
        with suppress(Unsent):
            mailing.send(mail, f"{odd}@x.example", trial(0.0, ""), "")
    assert all(len(to) == 1 for to, _ in taken.mails)


def test_a_clock_that_was_wrong_for_a_while_holds_up_no_notice(api: Api, sink: tuple[Sink, int]) -> None:
    taken, port = sink
    made = notifier(api, port)
    taken.broken = True
    happens(api, "slowed")
    api.now[0] += 4 * expiry.DAY_S
    assert made.step() == 0
    taken.broken = False
    api.now[0] -= 4 * expiry.DAY_S - 60
    assert made.step() == 1 and len(taken.mails) == 1


@pytest.mark.parametrize("apart", [31 * expiry.DAY_S, -6 * expiry.DAY_S, 6 * expiry.DAY_S])
def test_where_the_databases_clock_is_another_none_is_thrown_away(
    api: Api, sink: tuple[Sink, int], apart: float
) -> None:
    """Ahead, behind, or right beside a central whose own is late (the last one)."""
    taken, port = sink
    made = notifier(api, port)
    taken.broken = True
    happens(api, "slowed")
    made.step()
    made._now = lambda _: api.now[0] + apart  # type: ignore[method-assign]
    happens(api, "stay")
    for _ in range(TRIES + 2):
        assert made.step() == 0
        api.now[0] += 60.0
        with api.database.transaction() as tx:  # due at once
            tx.execute(notices_table.update().values(due=made._now(tx)))
    taken.broken = False
    assert made.step() == 2 and len(taken.mails) == 2


def test_a_webhook_is_told_with_a_signature(api: Api, hook: Hook) -> None:
    made = notifier(api, hook=hook)
    happens(api, "path failed", "link a--b failed")
    happens(api, "log in", kind="person", target=email("user"))
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
    happens(api, "slowed")
    assert made.step() == 0
    hook.status = 200
    api.now[0] += pause(1)
    assert made.step() == 1
    assert len(hook.told) == 2 and hook.told[0][1] == hook.told[1][1]


def test_a_name_that_takes_long_to_be_found_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    found, over = threading.Event(), threading.Event()

    def slowly(*_: Any, **__: Any) -> list[Any]:
        found.wait()
        over.set()
        return []

    monkeypatch.setattr(hooks, "_TIMEOUT_S", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    threading.Timer(20.0, found.set).start()
    with pytest.raises(Unsent, match="http://slow.example:8 does not answer"):
        hooks.post(Webhook("http://user:word@slow.example:8/services/T0/secret", SECRET), trial(0.0, ""), 0.0)
    assert not found.is_set(), "the resolver has not answered yet"
    found.set()
    over.wait()


def test_nobody_reads_in_logs_and_events_by_what_url_a_hook_lets_in(
    api: Api, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    made = notifier(api, hook=hook)
    hook.status = 500
    happens(api, "slowed")
    while not (found := api("admin", "GET", "/events?what=notify").json()["items"]):
        made.step()
        api.now[0] += LONGEST_S
    assert found[0]["target"] == f"http://127.0.0.1:{hook.server_port}"
    assert "500" in caplog.text and "/x" not in caplog.text + found[0]["detail"]


def test_one_that_answers_without_end_holds_up_nobody_for_long(
    api: Api, hook: Hook, sink: tuple[Sink, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "_TIMEOUT_S", 0.5)
    taken, port = sink
    made = notifier(api, port, hook)
    hook.slow.set()
    for _ in range(5):
        happens(api, "slowed")
    try:
        assert made.step() == 5 and len(taken.mails) == 5, "mails do not wait for it"
    finally:
        hook.slow.clear()
    assert len(hook.told) == 1, "the others of its own would wait as long"
    api.now[0] += pause(1)
    assert made.step() == 5


def test_one_that_is_gone_takes_no_mails_place(
    api: Api, hook: Hook, sink: tuple[Sink, int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(store, "MOST", 3)
    taken, port = sink
    made = notifier(api, port, hook)
    hook.status = 500
    for _ in range(5):
        happens(api, "path failed")
    assert made.step() == 0
    assert "2 notices were dropped" in caplog.text
    with api.database.reading() as tx:
        assert store.held(tx) == {Lane("webhook", made._channels.webhooks[0].url): store.Held(3, 1)}
    happens(api, "slowed")
    assert made.step() == 1 and len(taken.mails) == 1


def test_a_redirection_leads_nowhere(api: Api, hook: Hook) -> None:
    made = notifier(api, hook=hook)
    hook.status = 307
    with pytest.raises(Unsent, match="redirection"):
        hooks.post(made._channels.webhooks[0], trial(0.0, ""), 0.0)
    assert len(hook.told) == 1


def test_two_secrets_for_one_url_are_two_notices_and_no_more(api: Api, hook: Hook) -> None:
    made = notifier(api, hook=hook)
    first = made._channels.webhooks[0]
    made._channels = Channels(None, (first, Webhook(first.url, "another")))
    happens(api, "slowed")
    made.step()
    assert len({headers["VINI-Signature"] for headers, _ in hook.told}) == len(hook.told) == 2


def test_a_central_that_dies_while_it_sends_loses_nothing(
    api: Api, hook: Hook, another: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = notifier(api, hook=hook)
    happens(api, "slowed")
    with monkeypatch.context() as patch:
        patch.setattr(hooks, "post", lambda *_: sys.exit())  # it dies before it has sent
        with pytest.raises(SystemExit):
            made.step()
    second = Notifier(another(), made._channels, lambda: api.now[0], lambda _: api.now[0])
    assert second.step() == 0, "they are the other one's, as long as that may be alive"
    api.now[0] += 301
    assert second.step() == 1 and len(hook.told) == 1


# --- several centrals on one database ---------------------------------------------------------------


def test_of_two_centrals_each_tells_by_what_it_has(api: Api, sink: tuple[Sink, int], hook: Hook, another: Any) -> None:
    taken, port = sink
    mail = Channels(Mail("127.0.0.1", "vini@central.example", port, "none"))
    hooks_ = Channels(webhooks=(Webhook(f"http://127.0.0.1:{hook.server_port}/x", SECRET),))
    nothing, one, other = Channels(), begun(api, api.database, mail), begun(api, another(), hooks_)
    for first, second in ((one, other), (other, one)):
        happens(api, "slowed")
        assert begun(api, api.database, nothing).step() == 0
        assert (first.step(), second.step()) == (1, 1)
        assert (first.step(), second.step()) == (0, 0)
    assert (len(taken.mails), len(hook.told)) == (2, 2)


def test_what_only_one_of_two_centrals_chose_is_told_and_what_both_chose_once(
    api: Api, sink: tuple[Sink, int], hook: Hook, another: Any
) -> None:
    taken, port = sink
    url = f"http://127.0.0.1:{hook.server_port}/x"
    mail = Mail("127.0.0.1", "vini@central.example", port, "none", what=("slowed",))
    more = msgspec.structs.replace(mail, what=("slowed", "stay"))
    one = begun(api, api.database, Channels(mail, (Webhook(url, SECRET, ("path *", "stay")),)))
    other = begun(api, another(), Channels(more, (Webhook(url, SECRET, ("slowed", "stay")),)))
    for what in ("slowed", "stay", "path failed"):
        happens(api, what)
    for _ in range(2):
        for each in (one, other):
            each.step()
    assert sorted(m["Subject"].rpartition(": ")[2] for _, m in taken.mails) == ["slowed", "stay"]
    assert sorted(json.loads(body)["what"] for _, body in hook.told) == ["path failed", "slowed", "stay"]


def test_who_was_in_a_slice_is_told_by_the_central_that_can_whichever_ends_it(
    api: Api, sink: tuple[Sink, int], another: Any, tmp_path: Path
) -> None:
    taken, port = sink
    made = notifier(api, port)
    clocks = Clocks(lambda: api.now[0], unsynchronised=lambda: "")
    other = Central(another(), Authority(tmp_path), lambda: api.now[0], clocks=clocks)
    with api.database.transaction() as tx:
        api.now[0] = slices.get(tx, A).expires + 1
    assert A in other._end_expired()
    assert made.step() >= 1
    assert [to for to, mail in taken.mails if f"slice {A}: expire" in mail["Subject"]] == [[email("user")]]


def test_who_sends_what_goes_by_the_databases_clock(
    api: Api, hook: Hook, another: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    channels = Channels(webhooks=(Webhook(f"http://127.0.0.1:{hook.server_port}/x", SECRET),))
    one = Notifier(api.database, channels, time.time)
    other = Notifier(another(), channels, lambda: time.time() + 3600.0)
    assert one.step() == 0
    api.now[0] = time.time()
    happens(api, "slowed")
    with monkeypatch.context() as patch:
        patch.setattr(hooks, "post", lambda *_: sys.exit())
        with pytest.raises(SystemExit):
            one.step()
    assert other.step() == 0, (
        "its own clock is ahead by an hour, and what the other one claimed is still the other one's"
    )
    assert not hook.told


def test_an_event_that_becomes_visible_after_a_later_one_is_told_all_the_same(
    api: Api, hook: Hook, another: Any
) -> None:
    if api.database.is_sqlite:
        pytest.skip("SQLite has one writer")
    made = notifier(api, hook=hook)
    with another().transaction() as tx:
        happen = {"at": api.now[0] - 3600.0, "who": "central", "kind": "slice", "target": A}
        events.add(tx, what="slowed", **happen)
        happens(api, "path failed")
        assert made.step() == 1, "the clock of who writes the other one is an hour behind"
    assert made.step() == 1
    assert [json.loads(body)["what"] for _, body in hook.told] == ["path failed", "slowed"]


def test_who_is_new_is_told_of_nothing_old_and_who_comes_back_of_nothing_very_old(api: Api, hook: Hook) -> None:
    happens(api, "slowed")
    made = notifier(api, hook=hook)
    happens(api, "path failed")
    api.now[0] += OLD_S + 1
    happens(api, "path back")
    assert made.step() == 1
    assert [json.loads(body)["what"] for _, body in hook.told] == ["path back"]


def test_a_version_before_had_looked_at_some_events(api: Api, hook: Hook) -> None:
    happens(api, "slowed")
    with api.database.transaction() as tx:
        last = events.some(tx, None, 1)[0][0].id
        counters.add(tx, "notices", last + 1)
    happens(api, "path failed")
    channels = Channels(webhooks=(Webhook(f"http://127.0.0.1:{hook.server_port}/x", SECRET),))
    made = Notifier(api.database, channels, lambda: api.now[0], lambda _: api.now[0])
    assert made.step() == 1
    assert [json.loads(body)["what"] for _, body in hook.told] == ["path failed"]
    with api.database.reading() as tx:
        assert counters.value(tx, "notices") == 0


def test_an_account_that_is_disabled_gets_no_mail(api: Api, sink: tuple[Sink, int]) -> None:
    taken, port = sink
    made = notifier(api, port)
    api("admin", "PATCH", f"/persons/{email('user')}", {"enabled": False})
    happens(api, "slowed")
    assert made.step() == 0 and not taken.mails


def test_an_operator_writes_it_into_the_settings(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/private-testbed.md").read_text()
    (block,) = [b for b in re.findall(r"```json\n(.*?)```", page, re.DOTALL) if "webhooks" in b]
    (tmp_path / "settings.json").write_text(block)
    found = settings.read(tmp_path)
    assert found.mail is not None and (found.mail.port, found.mail.security) == (587, "starttls")
    assert found.webhooks[0].what == ("path *",)
    for right, wrong in [
        ("sender", "sendr"), ('"user"', '"security": "ssl", "user"'), ("https://chat", "chat"), ("vini@", "vini"),
    ]:  # fmt: skip
        (tmp_path / "settings.json").write_text(block.replace(right, wrong))
        with pytest.raises(ViniError, match="mend the file"):
            settings.read(tmp_path)


# --- from the command line -----------------------------------------------------------------------


def central(directory: Path, *words: str, code: int = 0, typed: str = "") -> str:
    """`vini central` with these words."""
    done = CliRunner().invoke(vini, ["central", *words[:2], "--dir", str(directory), *words[2:]], input=typed)
    said = done.output if isinstance(done.exception, SystemExit | None) else str(done.exception)
    assert (done.exit_code == 0) == (code == 0), said
    return said


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Where a central is."""
    done = CliRunner().invoke(
        vini, ["central", "init", "--dir", str(tmp_path / "c"), "--name", "central.example", "--admin", "ada@x.example"]
    )
    assert done.exit_code == 0, done.output
    return tmp_path / "c"


def test_an_operator_sets_a_mail_server_and_sees_that_it_works(made: Path, sink: tuple[Sink, int]) -> None:
    taken, port = sink
    assert "`vini central mail set` names a server" in central(made, "mail")
    assert "No mail server is set" in central(made, "mail", "test", "ada@x.example", code=1)
    server = ("mail", "set", "--server", "127.0.0.1", "--port", str(port), "--security", "none")
    named = (*server, "--sender", "vini@x.example", "--user", "vini", "--password-file", "-")
    assert "can't be set so" in central(made, *server, "--sender", "nobody", code=1)
    assert "ASCII" in central(made, *named, code=1, typed="Schlüssel\n")
    odd = ("mail", "set", "--server", "mail..example", "--sender", "vini@x.example")
    assert "can be called 'mail..example'" in central(made, *odd, code=1)
    assert "None waits" not in central(made, "mail"), "nothing was changed"
    central(made, *named, typed="wrong\n")
    assert "see the user and the password" in central(made, "mail", "test", "ada@x.example", code=1)
    central(made, *named, typed="right\n")
    assert "has taken a mail for ada@x.example" in central(made, "mail", "test", "ada@x.example")
    ((to, mail),) = taken.mails
    assert to == ["ada@x.example"] and mail["Subject"] == "VINI: test" and "This is a test" in mail.get_payload()
    assert "looks like ada@example.org" in central(made, "mail", "test", "ada", code=1)
    said = central(made, "mail")
    assert f"127.0.0.1:{port} (none) as vini" in said and "None waits." in said and "right" not in said
    assert "right" not in central(made, "mail", "--json")
    assert settings.read(made).mail.password == "right"  # type: ignore[union-attr]
    assert oct((made / "settings.json").stat().st_mode)[-3:] == "600"
    central(made, "mail", "off")
    assert settings.read(made).mail is None


@pytest.mark.parametrize("of", ["mail", "webhook"])
def test_the_place_may_be_named_before_the_word_that_says_what_to_do(made: Path, tmp_path: Path, of: str) -> None:
    other = tmp_path / "other"
    shutil.copytree(made, other)
    before = (made / "settings.json").read_bytes()
    words = {
        "mail": ("set", "--server", "x.example", "--sender", "vini@x.example"),
        "webhook": ("add", "http://x.example/", "--secret-file", "-"),
    }
    first = ["central", of, "--dir", str(other), words[of][0]]
    done = CliRunner().invoke(vini, [*first, *words[of][1:]], input="secret\n")
    assert done.exit_code == 0 and f"--dir {other}" in done.output
    assert (made / "settings.json").read_bytes() == before != (other / "settings.json").read_bytes()
    done = CliRunner().invoke(vini, [*first, "--dir", str(made), *words[of][1:]], input="secret\n")
    assert done.exit_code == 0 and (made / "settings.json").read_bytes() != before, "the nearer one counts"


def test_an_operator_adds_a_webhook_and_sees_that_it_works(made: Path, hook: Hook) -> None:
    url = f"http://127.0.0.1:{hook.server_port}/x"
    add = ("webhook", "add", url, "--secret-file", "-", "--what", "path *")
    assert "The secret is empty" in central(made, *add, code=1, typed="\n")
    central(made, *add, typed=f"{SECRET}\n")
    assert "has taken it" in central(made, "webhook", "test", url)
    ((headers, body),) = hook.told
    assert json.loads(body)["what"] == "test" and headers["VINI-Event"] == "0"
    hook.status = 500
    assert f"http://127.0.0.1:{hook.server_port} answers with 500." in central(made, "webhook", "test", url, code=1)
    assert re.search(rf"{url} +path \* +0 +0", central(made, "webhook"))
    central(made, *add, typed="another\n")
    assert [h.secret for h in settings.read(made).webhooks] == ["another"], "in place of the one before"
    assert "there are: " + url in central(made, "webhook", "delete", "http://x.example", code=1)
    central(made, "webhook", "delete", url)
    assert settings.read(made).webhooks == ()
