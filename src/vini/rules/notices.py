"""Notices: what people and programs outside are told of events, by mail and by webhook.  Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta
from msgspec.structs import force_setattr

from vini.model import Value
from vini.rules.nouns import Event
from vini.rules.words import EMAIL

REMIND, EXPIRE = "remind of the end", "expire"
CHOSEN = (REMIND, EXPIRE, "stay", "slowed", "path failed", "path back")  # where nobody chose
MAILED = CHOSEN[:4]  # likewise, by mail
FIRST_S, LONGEST_S = 30.0, 6 * 3600.0  # before what failed is tried again; each time twice as long
TRIES, OLD_S = 10, 5 * 86400.0  # what was tried so often and is so old is given up (RFC 5321, 4.5.4.1)
Security = Literal["starttls", "tls", "none"]
_ADDRESS = EMAIL[1:-1]
Sender = Annotated[str, Meta(pattern=rf"^({_ADDRESS}|[^<>\x00-\x1f\x7f]*<{_ADDRESS}>)$(?!\n)")]
Filled = Annotated[str, Meta(min_length=1)]
HttpUrl = Annotated[str, Meta(pattern=r"^https?://[^\s\x00-\x1f\x7f/][^\s\x00-\x1f\x7f]*$")]


class Mail(Value, frozen=True):
    """Members of a slice are told by mail, through this server."""

    server: Filled
    sender: Sender  # the address that mails come from; also as `VINI <vini@example.org>`
    port: Annotated[int, Meta(ge=1, le=65535)] = 587
    security: Annotated[str, Meta(pattern=r"^(?i:starttls|tls|none|)$(?!\n)")] = (
        "starttls"  # "tls": from the first byte on
    )
    user: str = ""  # "": the server asks nobody who he is
    password: str = ""
    what: tuple[str, ...] = MAILED  # events of slices, "*" stands for any text

    def __post_init__(self) -> None:
        """Files that were written by hand say it in capitals, and "" for what is usual."""
        force_setattr(self, "security", self.security.lower() or "starttls")


class Webhook(Value, frozen=True):
    """A program elsewhere is told by a POST of the event, signed with the secret."""

    url: HttpUrl
    secret: str  # "": a receiver that checks nothing, in a file that was written by hand
    what: tuple[str, ...] = CHOSEN


def shown(url: str) -> str:
    """Of a webhook's URL what anybody may see: chats let in whoever knows the rest."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a webhook whose URL is none"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def chosen_by(event: Event, what: Collection[str]) -> str:
    """Of the patterns that were chosen the first, in their own order, that speaks of it; "": none, or it failed."""
    if event.result != "ok":
        return ""
    return next((pattern for pattern in sorted(what) if fnmatchcase(event.what, pattern)), "")


def pause(tries: int) -> float:
    """How long to wait after that many tries, in s."""
    return min(FIRST_S * 2.0 ** (tries - 1), LONGEST_S)


def is_hopeless(tries: int, age_s: float) -> bool:
    """Whether what was tried so often, of an event that old, is given up."""
    return tries >= TRIES and age_s >= OLD_S


def signature(secret: str, body: bytes, at: int) -> str:
    """What a webhook's `VINI-Signature` says: the time, and HMAC-SHA256 of "TIME.BODY"."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def text(event: Event, url: str) -> tuple[str, str]:
    """Subject and body of a mail."""
    if event.kind != "slice":
        return f"VINI: {event.what}", f"{event.detail}\n\n{url}\n"
    subject = f"VINI: slice {event.target}: {event.what}"
    detail = event.detail or "It is over, and nothing of it is left."
    return subject, f"Slice {event.target}: {event.what} (by {event.who}).\n\n{detail}\n\n{url}\n"


def trial(now: float, target: str) -> Event:
    """What is sent so that somebody sees whether it arrives; it has no number, since nothing happened."""
    return Event(
        0, now, "central", "test", "notice", target, "", "ok", "This is a test: what is told here arrives.", 0.0
    )
