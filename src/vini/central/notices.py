"""Sends notices: mails to members of slices, webhooks to programs elsewhere.

What waits is in the database, so a central that dies, or a server that is away, loses none; one may come twice.
"""

from __future__ import annotations

import hashlib
import logging
import smtplib
import ssl
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from email.utils import formatdate

import httpx
import msgspec

from vini.model import Value
from vini.rules import notices as rules
from vini.rules.nouns import Event
from vini.store import events
from vini.store import notices as store
from vini.store.database import Database, Tx

log = logging.getLogger("vini.central")
_TIMEOUT_S = 10.0
_CLAIM_S = 300.0  # whoever claimed some has sent them by then, or has died


class Channels(Value, frozen=True):
    """How people and programs are told."""

    mail: rules.Mail | None = None
    webhooks: tuple[rules.Webhook, ...] = ()
    url: str = ""  # the central's, for mails


class Unsent(Exception):
    """It could not be delivered, and why."""


class Notifier:
    """Looks from time to time what is to be told, and tells it."""

    def __init__(self, database: Database, channels: Channels, clock: Callable[[], float] = time.time):
        self._database, self._channels, self._clock = database, channels, clock

    def step(self) -> int:
        """Queue what is new, and send what is due; how many were sent.  Waits for servers, so call it in a thread."""
        if self._channels.mail is None and not self._channels.webhooks:
            return 0
        now = self._clock()
        with self._database.transaction() as tx:
            store.queue(tx, now, lambda event: list(self._addresses(tx, event)))
            waiting = store.claim(tx, now, now + _CLAIM_S)
        return sum(self._tried(notice) for notice in waiting)

    def _addresses(self, tx: Tx, event: Event) -> Iterator[tuple[str, str]]:
        mail = self._channels.mail
        if mail is not None and event.kind == "slice" and rules.concerns(event, mail.what):
            yield from (("mail", email) for email in store.members(tx, event.target))
        for hook in self._channels.webhooks:
            if rules.concerns(event, hook.what):
                yield "webhook", hook.url

    def _tried(self, notice: store.Waiting) -> bool:
        try:
            if notice.event is not None:
                self._send(notice, notice.event)
        except Unsent as e:
            self._failed(notice, str(e))
            return False
        with self._database.transaction() as tx:
            store.done(tx, notice.id)
        return True

    def _failed(self, notice: store.Waiting, why: str) -> None:
        now = self._clock()
        log.warning("%s to %s was not delivered (try %d): %s", notice.channel, notice.address, notice.tries, why)
        with self._database.transaction() as tx:
            if notice.tries < rules.TRIES:
                store.again(tx, notice.id, now + rules.pause(notice.tries))
                return
            store.done(tx, notice.id)
            events.add(
                tx, at=now, who="central", what="notify", kind=notice.channel, target=notice.address,
                result="ViniError", detail=f"given up after {notice.tries} tries: {why}",
            )  # fmt: skip

    def _send(self, notice: store.Waiting, event: Event) -> None:
        if notice.channel == "mail" and self._channels.mail is not None:
            send_mail(self._channels.mail, notice.address, event, self._channels.url, self._clock())
        for hook in self._channels.webhooks:
            if notice.channel == "webhook" and hook.url == notice.address:
                post(hook, event, self._clock())


def send_mail(mail: rules.Mail, to: str, event: Event, url: str, now: float) -> None:
    """Raises Unsent."""
    try:
        with _connected(mail) as server:
            if mail.user:
                server.login(mail.user, mail.password)
            server.send_message(_message(mail, to, event, url, now), to_addrs=[to])
    except (OSError, smtplib.SMTPException, ValueError) as e:
        raise Unsent(f"{mail.server}:{mail.port}: {e or type(e).__name__}") from e


def _connected(mail: rules.Mail) -> smtplib.SMTP:
    context = ssl.create_default_context()
    if mail.security == "tls":
        return smtplib.SMTP_SSL(mail.server, mail.port, timeout=_TIMEOUT_S, context=context)
    server = smtplib.SMTP(mail.server, mail.port, timeout=_TIMEOUT_S)
    try:
        if mail.security != "none":
            server.starttls(context=context)
    except BaseException:
        server.close()
        raise
    return server


def _message(mail: rules.Mail, to: str, event: Event, url: str, now: float) -> EmailMessage:
    made = EmailMessage()
    subject, body = rules.text(event, url)
    made["From"], made["To"], made["Subject"], made["Date"] = mail.sender, to, subject, formatdate(now)
    which = hashlib.sha256(f"{url} {event.id} {to}".encode()).hexdigest()[:32]
    made["Message-ID"] = f"<{which}@{mail.sender.rpartition('@')[2]}>"  # the same when it is sent again
    made["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody on holiday answers
    made.set_content(body)
    return made


def post(hook: rules.Webhook, event: Event, now: float) -> None:
    """Raises Unsent unless the other side says 2xx."""
    body = msgspec.json.encode(event)
    headers = {
        "Content-Type": "application/json",
        "VINI-Event": f"{event.id}",
        "VINI-Signature": rules.signature(hook.secret, body, int(now)),
    }
    try:
        answer = httpx.post(hook.url, content=body, headers=headers, timeout=_TIMEOUT_S, follow_redirects=False)
    except (httpx.HTTPError, httpx.InvalidURL) as e:
        raise Unsent(f"{e or type(e).__name__}") from e
    if not answer.is_success:
        raise Unsent(f"it answered {answer.status_code}")
