"""What every message is, and those that answer many."""

from __future__ import annotations

from vini.model import Value

WIRE = 1  # the version of these messages, and of the frames that carry them between machines


class Message(Value, frozen=True, tag=str.lower, tag_field="message", forbid_unknown_fields=False):
    """What goes over the bus."""


class Progress(Message, frozen=True):
    """A step of something longer."""

    done: int
    total: int
    what: str


class Lines(Message, frozen=True):
    """Text for a person."""

    lines: tuple[str, ...]


class Refusal(Message, frozen=True):
    """The request can't be met; `kind` names the error class."""

    kind: str
    sentence: str
