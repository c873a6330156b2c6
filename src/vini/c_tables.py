"""How the tables of a program in C, or compiled, are declared: which are its own, and which hold plain integers.  Pure.

struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, __u32); __type(value, __u64); ... } seen SEC(".maps");
"""

from __future__ import annotations

import re
import sys

from vini.elf import Elf
from vini.model import Value
from vini.text.mistakes import Wrong, quote
from vini.text.objects import decoded

_STRUCT = re.compile(r"struct\s*\{([^{}]*)\}([^;{}]*);")
_NAME = re.compile(r'(\w+)\s*SEC\(\s*"\.maps"\s*\)')
_TYPE = re.compile(r"__type\(\s*(key|value)\s*,\s*([^()]*?)\s*\)")
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_WIDTHS = {
    "char": 1, "unsigned char": 1, "short": 2, "unsigned short": 2, "int": 4, "unsigned": 4, "unsigned int": 4,
    "long": 8, "unsigned long": 8, "long long": 8, "unsigned long long": 8,
}  # fmt: skip
_FIXED = re.compile(r"(?:__)?([us])(8|16|32|64)|(u?)int(8|16|32|64)_t")


class Integer(Value, frozen=True):
    """An integer type of C on this machine."""

    width: int  # bytes
    signed: bool

    def text(self, raw: bytes) -> str:
        """As a decimal number; of another width as hexadecimal digits."""
        return str(int.from_bytes(raw, sys.byteorder, signed=self.signed)) if len(raw) == self.width else raw.hex()

    def raw(self, text: str) -> bytes:
        """Of a number, decimal or 0x...; Wrong where it is none, or too large."""
        try:
            return int(text, 0).to_bytes(self.width, sys.byteorder, signed=self.signed)
        except (ValueError, OverflowError) as e:
            kind = f"whole number of {8 * self.width} bits" + ("" if self.signed else " without a sign")
            raise Wrong(f"{quote(text)} is no {kind}.", "write it as 10 or 0x0a") from e


class CTable(Value, frozen=True):
    """A table by its declaration; None for a type that is no plain integer."""

    key: Integer | None
    value: Integer | None


def declared(source: str) -> dict[str, CTable]:
    """Table name -> its types, of all that the source itself declares."""
    out = {}
    for m in _STRUCT.finditer(_COMMENT.sub(" ", source)):
        types = {kind: _integer(name) for kind, name in _TYPE.findall(m[1])}
        for name in _NAME.findall(m[2]):
            out[name] = CTable(types.get("key"), types.get("value"))
    return out


def of_object(text: str) -> dict[str, CTable]:
    """The same of an object file, in base64: all that it holds, also what its source included."""
    return {
        m.name: CTable(
            *(
                Integer(size, m.signed[part]) if part in m.signed else None
                for part, size in (("key", m.key_size), ("value", m.value_size))
            )
        )
        for m in Elf(decoded(text)).maps
    }


def _integer(name: str) -> Integer | None:
    words = " ".join(name.split())
    if found := _FIXED.fullmatch(words):
        signed = found[1] == "s" or (found[1] is None and not found[3])
        return Integer(int(found[2] or found[4]) // 8, signed)
    width = _WIDTHS.get(words.removeprefix("signed "))
    return Integer(width, not words.startswith("unsigned")) if width else None
