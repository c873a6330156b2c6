"""Notices: what people and programs outside are told of events, by mail and by webhook.  Pure."""

from __future__ import annotations

import hashlib
import hmac
from fnmatch import fnmatchcase

from vini.model import Value
from vini.rules.nouns import Event

CHOSEN = ("remind of the end", "expire", "stay", "slowed", "path failed", "path back")  # where nobody chose
TRIES = 10
FIRST_S, LONGEST_S = 30.0, 6 * 3600.0  # before what failed is tried again; each time twice as long


class Mail(Value, frozen=True):
    """Members of a slice are told by mail, through this server."""

    server: str
    sender: str  # the address that mails come from
    port: int = 587
    security: str = "starttls"  # or "tls", from the first byte on; or "none"
    user: str = ""  # "": the server asks nobody who he is
    password: str = ""
    what: tuple[str, ...] = CHOSEN[:4]  # events of slices, "*" stands for any text


class Webhook(Value, frozen=True):
    """A program elsewhere is told by a POST of the event, signed with the secret."""

    url: str
    secret: str
    what: tuple[str, ...] = CHOSEN


def concerns(event: Event, what: tuple[str, ...]) -> bool:
    """Whether it is one of those that were chosen, and happened."""
    return event.result == "ok" and any(fnmatchcase(event.what, pattern) for pattern in what)


def pause(tries: int) -> float:
    """How long to wait after that many tries, in s."""
    return min(FIRST_S * 2.0 ** (tries - 1), LONGEST_S)


def signature(secret: str, body: bytes, at: int) -> str:
    """What a webhook's `VINI-Signature` says: the time, and HMAC-SHA256 of "TIME.BODY"."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def text(event: Event, url: str) -> tuple[str, str]:
    """Subject and body of a mail."""
    subject = f"VINI: slice {event.target}: {event.what}"
    detail = event.detail or "It is over, and nothing of it is left."
    return subject, f"Slice {event.target}: {event.what} (by {event.who}).\n\n{detail}\n\n{url}\n"
