"""An eBPF object file inside a text: in base64 (RFC 4648), as in `object:` of a topology."""

from __future__ import annotations

from base64 import b64decode, encodebytes
from binascii import Error

from vini.text.mistakes import Wrong

SUFFIX = ".o"  # of a file that is one
BASE64 = ".base64"  # after that, of a file that holds one as text
MOST_BYTES = 2 << 20  # of one; most that can be in it is information for debuggers


def encoded(raw: bytes) -> str:
    """As text, in lines.  Wrong where it is longer than one may be."""
    if len(raw) > MOST_BYTES:
        what = f"An object file has {MOST_BYTES >> 20} MiB at most, not {len(raw)} bytes."
        raise Wrong(what, "take out what debuggers read: llvm-strip -g keeps what is needed")
    return encodebytes(raw).decode()


def decoded(text: str) -> bytes:
    """The object file.  Wrong where the text is no base64, or holds more than one may have."""
    try:
        raw = b64decode("".join(text.split()), validate=True)
    except (Error, ValueError) as e:
        raise Wrong("This is no base64.", "write what `base64 NAME.o` prints, or `file: NAME.o`") from e
    encoded(raw)
    return raw
