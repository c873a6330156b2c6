"""What a chain of events is, wherever it is kept: pure.

Each event has a link: its place in the chain, and the SHA-256 of the link before it and of what the event says.  Who
can write the database can also make the whole chain anew: so its head is kept elsewhere, and compared later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

START = "0" * 64  # what the first link says of the one before it


class Head(NamedTuple):
    """A place in the chain and the hash there; written as `PLACE:HASH`."""

    place: int
    hash: str

    def __str__(self) -> str:
        return f"{self.place}:{self.hash}"


class Link(NamedTuple):
    """A link as it is kept, and its event as that is now: the columns, the number first."""

    place: int
    event_id: int
    hash: str
    event: Sequence[Any] | None  # None: it is gone


class Kept(NamedTuple):
    """A chain as it is kept, at one moment."""

    anchor: Head  # the last link whose event is not kept any more; at place 0: all are
    links: Iterable[Link]  # those that follow, by place
    length: int  # how many were ever made
    alien: int | None  # the first event that has no link


class Verdict(NamedTuple):
    """What a check of the whole chain found; with `broken` "" it is whole up to `head`."""

    events: int  # that were checked
    head: Head
    broken: str = ""  # the first thing that is wrong, as a sentence


def linked(before: str, event: Iterable[Any]) -> str:
    """The hash of an event's link: SHA-256 of the hash before it and of the event's columns in their order, as JSON."""
    return hashlib.sha256(msgspec.json.encode([before, *event])).hexdigest()


def links(new: Iterable[Sequence[Any]], head: Head) -> Iterator[tuple[int, int, str]]:
    """Place, event and hash of the links of new events, each its columns in their order, after that head."""
    for event in new:
        head = Head(head.place + 1, linked(head.hash, event))
        yield head.place, event[0], head.hash


def follow(chain: Kept, once: Head | None = None) -> Verdict:
    """Whether all of it hangs together; with `once` also whether what was its head once is still in it."""
    head, count = chain.anchor, 0
    if not head.hash:
        return Verdict(0, head, f"Link {head.place}, to which the oldest event refers, is missing.")
    if once and once.place < head.place:
        return Verdict(0, head, f"Events up to place {head.place} are not kept any more; compare with a newer head.")
    for link in chain.links:
        if why := _wrong(head, link):
            return Verdict(count, head, why)
        head, count = Head(link.place, link.hash), count + 1
        if once and once.place == head.place and once.hash != head.hash:
            return Verdict(count, head, f"The chain was made anew: at place {once.place} it had another hash once.")
    return Verdict(count, head, _loose(chain, head, once))


def _wrong(head: Head, link: Link) -> str:
    """Why this link is none after that one; "" where it is."""
    if link.place != head.place + 1:
        return f"Links {head.place + 1} to {link.place - 1} are missing, before event {link.event_id}."
    if link.event is None:
        return f"Event {link.event_id}, at place {link.place}, was taken out."
    if link.hash != linked(head.hash, link.event):
        return f"Event {link.event_id}, at place {link.place}, or its link, was changed."
    return ""


def _loose(chain: Kept, head: Head, once: Head | None) -> str:
    """What is wrong beyond the links; "" where nothing is."""
    if chain.length != head.place:
        return (
            f"The chain ends at place {head.place}, but {chain.length} events were put into it: the newest are missing."
        )
    if once and once.place > head.place:
        return f"The chain ends at place {head.place}, before the head that you kept: the newest events are missing."
    if chain.alien is not None:
        return f"Event {chain.alien} is not in the chain: it was put in by hand, or by an older version of VINI."
    return ""
