"""Frames between machines: one binary WebSocket message each, a MessagePack pair of a number and a message.

Requests that the central makes on one connection have different numbers; whatever belongs to one bears its number.
What a node says unasked bears 0.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import msgspec

from vini.bus.errors import Foreign, Oversized
from vini.bus.messages.message import WIRE, Message

UNASKED = 0
LARGEST = 16 << 20  # bytes of a frame: a spec of some 8000 slivers, the forwarding tables of some hundred routers
STRANGER = 1 << 20  # of one from somebody who has not proved yet who he is
PATH = "/v1/uplink"
_FRAME = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw])
_KIND = re.compile(r"Invalid value ('.*') - at `\$.*\.objects\[[^]]*\]\.kind`")
_FIELD = re.compile(r"unknown field `(.*)` - at `\$.*\.objects\[[^]]*\]")
REFUSED, DISPLACED, MISBEHAVED = 4401, 4409, 4400  # close codes (RFC 6455, 7.4.2: 4000-4999 are ours)


def encode(number: int, message: Message) -> bytes:
    """A frame.  Raises Oversized where it would be too large for the other side to take."""
    body = msgspec.msgpack.encode((number, message))
    if len(body) > LARGEST:
        kind = type(message).__name__
        raise Oversized(
            f"A {kind} of {len(body) >> 20} MiB is more than the {LARGEST >> 20} MiB that fit in a message; "
            "ask for less at a time."
        )
    return body


def decode(body: bytes) -> tuple[int, msgspec.Raw]:
    """The number, and a message that is still to be understood.  Raises Foreign where it is no frame."""
    try:
        number, message = _FRAME.decode(body)
    except msgspec.DecodeError as e:
        raise Foreign("What came is no frame of VINI's.") from e
    return number, message


def understood(message: msgspec.Raw, of: Any) -> Any:
    """The message, of one of these types.  Raises Foreign where it is none of them, or has fields that are wrong."""
    try:
        return _decoder(of).decode(message)
    except msgspec.DecodeError as e:
        raise Foreign(f"A message of another version can't be understood: {_told(str(e))}.") from e


@cache
def _decoder(of: Any) -> msgspec.msgpack.Decoder[Any]:
    """Made once of each union of types: to work out what is in it takes twenty times as long as to decode a word."""
    return msgspec.msgpack.Decoder(of)


def _told(error: str) -> str:
    """What msgspec says, in our words where it is a spec with more in it than we know."""
    if found := _KIND.search(error):
        return f"it asks for an object of the kind {found[1]}, which is not known here"
    if found := _FIELD.search(error):
        return f"it asks for `{found[1]}` of an object, which is not known here"
    return error


def speaks(wire: int) -> bool:
    """Whether we understand those who speak this version: one older, or one newer."""
    return abs(wire - WIRE) <= 1


def statement(nonce: bytes, node: str) -> bytes:
    """What a node signs to prove that it is who it says; nothing else that is ever signed looks like it."""
    return b"VINI uplink 1\0" + nonce + b"\0" + node.encode()
