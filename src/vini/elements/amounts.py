"""Numbers, shares, rates and hops: as people write them, and as programs hold them."""

from __future__ import annotations

import re
import struct
from decimal import Decimal
from sys import byteorder

from vini.text.mistakes import Wrong, quote

_ALWAYS = 2**32 - 1
_PICOSECONDS = 10**12
_UNITS = {"kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
MOST_HOPS = 8


def number(text: str) -> int | None:
    """A number such as 10 or 0x88b5; None where it is none."""
    if re.fullmatch(r"[0-9]{1,20}", text):
        return int(text)
    return int(text, 16) if re.fullmatch(r"0x[0-9a-fA-F]{1,16}", text) else None


def read_share(text: str) -> bytes:
    """A share of 2**32 - 1."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(%?)", text)
    share = Decimal(found[1]) / (100 if found[2] else 1) if found else Decimal(2)
    if share > 1:
        raise Wrong(f"{quote(text)} is not a share.", "write it like 1% or 0.01")
    return round(share * _ALWAYS).to_bytes(4, byteorder)


def show_share(raw: bytes) -> str:
    """The inverse of `read_share`, to six digits."""
    return f"{100 * int.from_bytes(raw, byteorder) / _ALWAYS:.6g}%"


def read_rate(text: str) -> bytes:
    """Picoseconds for a packet or for a byte, times two; one more where it is for a packet."""
    found = re.fullmatch(r"([0-9]{1,9})(pps|kbit|mbit|gbit)", text)
    if not found or not int(found[1]):
        raise Wrong(f"{quote(text)} is not a rate.", "write it like 1000pps, 64kbit, 10mbit or 1gbit, more than 0")
    if found[2] == "pps":
        return struct.pack("=Q", _PICOSECONDS // int(found[1]) * 2 + 1)
    bits = int(found[1]) * _UNITS[found[2]]
    if bits > 10**12:
        raise Wrong(f"{quote(text)} is faster than 1000gbit.")
    return struct.pack("=Q", 8 * _PICOSECONDS // bits * 2)


def show_rate(raw: bytes) -> str:
    """The inverse of `read_rate`; "-": none."""
    (held,) = struct.unpack("=Q", raw)
    if held < 2:
        return "-"
    return f"{round(_PICOSECONDS / (held >> 1))}pps" if held & 1 else f"{round(8e-3 * _PICOSECONDS / (held >> 1))}kbit"


def read_hops(text: str) -> bytes:
    """How many, then each in a byte."""
    hops = [int(hop) if re.fullmatch("[0-9]{1,3}", hop) else 0 for hop in text.split("/")]
    if len(hops) > MOST_HOPS or not all(0 < hop < 256 for hop in hops):
        raise Wrong(f"{quote(text)} is not a list of hops.", "write one to eight numbers 1..255 like 1/2/1")
    return bytes((len(hops), *hops)).ljust(MOST_HOPS + 1, b"\0")


def show_hops(raw: bytes) -> str:
    """The inverse of `read_hops`; "-": none."""
    return "/".join(str(hop) for hop in raw[1 : 1 + raw[0]]) or "-"
