"""What is said at the broker's socket, one JSON object a line: requests, and replies (docs/reference/broker.md)."""

from __future__ import annotations

from typing import Any

import msgspec

from vini.bus import refusal
from vini.model import Value, ViniError
from vini.rules.errors import Invalid

LONGEST = 4096  # bytes of a request, with its end of line


class Ask(Value, frozen=True, tag_field="ask", tag=lambda name: name.lower()):
    """A request; `ask` says which."""


class Help(Ask, frozen=True):
    """What may be asked here?"""


class Self(Ask, frozen=True):
    """Who am I, until when, and what may I take of the node?"""


class Load(Ask, frozen=True):
    """My counters: traffic, processor time, memory."""


class Tables(Ask, frozen=True):
    """Which tables does my program in the kernel have?"""


class Row(Ask, frozen=True):
    """What does one of them hold at this key (hexadecimal digits)?"""

    table: str
    key: str


class SetRow(Ask, frozen=True, tag="set-row"):
    """Set that; without a value, take it out."""

    table: str
    key: str
    value: str | None = None


class Watch(Ask, frozen=True):
    """From now on, tell me what changes: a line for each event."""


class Port(Ask, frozen=True):
    """A socket that listens at this TCP port of the node; its descriptor comes with the reply (unix(7), SCM_RIGHTS)."""

    tcp: int


Request = Help | Self | Load | Tables | Row | SetRow | Watch | Port
_REQUESTS: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)


def read(line: bytes) -> Request:
    """Raises Invalid."""
    try:
        return _REQUESTS.decode(line)
    except (msgspec.DecodeError, RecursionError) as e:
        raise Invalid(f'This is no request ({e}); {{"ask": "help"}} lists what may be asked.') from None


def ok(value: object) -> bytes:
    """A reply that gives it."""
    return _line({"ok": value})


def error(why: ViniError) -> bytes:
    """A reply that says why not."""
    told = refusal(why)
    return _line({"error": "Invalid" if isinstance(why, Invalid) else told.kind, "sentence": told.sentence})


def event(what: str, **more: object) -> bytes:
    """One of those that `watch` asked for."""
    return _line({"event": what, **more})


def _line(value: Any) -> bytes:
    return msgspec.json.encode(value) + b"\n"
