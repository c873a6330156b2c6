"""Texts with units, as people write them: `9.1ms`, `10mbit`, `1%`.

Readers raise `Wrong` with a sentence.  Conversions are decimal, so that `9.1ms` is 9.1 and not
its neighbour; each writer's text reads back as the very same number.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

from vini.text.mistakes import Wrong, quote

NUMBER = r"[0-9]{1,24}(\.[0-9]{1,24})?([eE][+-]?[0-9]{1,3})?"
DURATION = rf"^{NUMBER}(us|ms|s|min|h)$"
RATE = rf"^({NUMBER}[kmg]bit|unlimited)$"
LOSS = rf"^{NUMBER}%?$"
SIZE = rf"^{NUMBER}(B|kB|MB)$"
QUEUE = rf"^{NUMBER}(B|kB|MB|us|ms|s)$"
MEMORY = r"^[0-9]{1,24}(MB|GB)$"
DISK_RATE = r"^[0-9]{1,24}(MB|GB)/s$"
PACKETS = r"^[0-9]{1,12}(-[0-9]{1,12})?$"

MS = {"us": Decimal("0.001"), "ms": Decimal(1), "s": Decimal(1000), "min": Decimal(60_000), "h": Decimal(3_600_000)}
MBIT = {"kbit": Decimal("0.001"), "mbit": Decimal(1), "gbit": Decimal(1000)}

BYTES = {"B": Decimal(1), "kB": Decimal(1000), "MB": Decimal(1_000_000)}

MEGABYTES = {"B": Decimal("0.000001"), "MB": Decimal(1), "GB": Decimal(1000)}

_NUMBER = re.compile(NUMBER)
_WITH_UNIT = re.compile(rf"({NUMBER})([A-Za-z%]*)")
_MOST_PACKETS, _MOST_BYTES, _MOST_WAIT_MS = 1_000_000, 1_000_000_000, 100_000.0


def read_ms(text: str, low: float = 0.0, high: float = 86_400_000.0) -> float:
    """A duration in ms, within low..high (ms)."""
    return _read(text, MS, low, high, "a duration", "9.1ms, 250us or 1s", duration)


def read_s(text: str, low: float = 0.0, high: float = 86_400.0) -> float:
    """A duration in s, within low..high (s)."""
    units = {unit: factor / 1000 for unit, factor in MS.items()}
    return _read(text, units, low, high, "a duration", "1s or 250ms", lambda s: duration(s * 1000))


def read_mbit(text: str) -> float:
    """A rate in units of 10**6 bit/s, 1kbit..100gbit; `unlimited` is 0."""
    if text == "unlimited":
        return 0.0
    if parts := _WITH_UNIT.fullmatch(text):
        unit = parts[parts.re.groups]
        if not Decimal(parts[1]) and (not unit or unit in MBIT):
            raise Wrong(f"A rate of {quote(text)} lets nothing through.", "write 'unlimited' if you mean no limit")
    return _read(text, MBIT, 0.001, 100_000.0, "a rate", "10mbit, 500kbit or 1gbit (decimal, bits per second)", rate)


def read_loss(text: str, what: str = "loss") -> float:
    """A probability, called `what`: `1%`, or 0.01.  A bare 1 is refused: one person's 1 % is another's 100 %."""
    number = text.removesuffix("%")
    if number.startswith("-") and _NUMBER.fullmatch(number[1:]):
        raise Wrong(f"The {what} {quote(text)} is negative.", "it must be in 0%..100%")
    if not _NUMBER.fullmatch(number):
        raise Wrong(f"{quote(text)} is not a {what}.", "write it like 1% or 0.01")
    if number == text and Decimal(number) >= 1:
        raise Wrong(f"The {what} {quote(text)} needs a percent sign.", f"write {number}% if you mean that")
    value = float(Decimal(number) / 100 if number != text else Decimal(number))
    if value > 1:
        raise Wrong(f"The {what} {quote(text)} is out of range.", "it must be in 0%..100%")
    return value


def read_queue(text: str) -> tuple[int, int, float]:
    """The bound of a queue in packets, in bytes and in ms of waiting; two of them are 0."""
    example = f"{quote(text)} is not a queue's length."
    hint = "write packets such as 1000, bytes such as 64kB, or a time such as 50ms"
    if re.fullmatch(r"[0-9]{1,24}", text):
        packets, size, wait_ms = int(text), 0, 0.0
        most = _MOST_PACKETS
    elif (parts := _WITH_UNIT.fullmatch(text)) and (unit := parts[parts.re.groups]) in BYTES:
        packets, size, wait_ms = 0, int(Decimal(parts[1]) * BYTES[unit]), 0.0
        most = _MOST_BYTES
    elif parts and unit in ("us", "ms", "s"):
        return 0, 0, read_ms(text, low=0.001, high=_MOST_WAIT_MS)
    else:
        raise Wrong(example, hint)
    if not 1 <= packets + size <= most:
        bounds = f"1..{_MOST_PACKETS} packets, 1B..{queue(0, _MOST_BYTES, 0.0)}"
        raise Wrong(f"The queue {quote(text)} is out of range.", f"it must be in {bounds}")
    return packets, size, wait_ms


def read_packets(text: str) -> tuple[int, int]:
    """A packet's number, from 1, or a range of them: `7`, `100-120`."""
    if not re.fullmatch(PACKETS, text):
        raise Wrong(f"{quote(text)} is no number of a packet.", "write one such as 7, or a range such as 100-120")
    first, _, last = text.partition("-")
    if int(first) < 1:
        raise Wrong(f"There is no packet {quote(text)}.", "the first packet is 1")
    if last and int(last) < int(first):
        raise Wrong(f"The range {quote(text)} ends before it begins.", f"did you mean '{last}-{first}'?")
    return int(first), int(last or first)


def _read(
    text: str,
    units: dict[str, Decimal],
    low: float,
    high: float,
    what: str,
    example: str,
    write: Callable[[float], str],
) -> float:
    parts = _WITH_UNIT.fullmatch(text)
    if not parts or (unit := parts[parts.re.groups]) not in units:
        if parts and not unit:
            first, second = list(units)[1], list(units)[2]
            raise Wrong(f"{quote(text)} has no unit.", f"write {text}{first} or {text}{second}")
        if text.startswith("-") and _WITH_UNIT.fullmatch(text[1:]):
            raise Wrong(f"{quote(text)} is negative.", f"it must be in {write(low)}..{write(high)}")
        raise Wrong(f"{quote(text)} is not {what}.", f"write it like {example}")
    value = float(Decimal(parts[1]) * units[unit])
    if not low <= value <= high:
        raise Wrong(f"{quote(text)} is out of range.", f"it must be in {write(low)}..{write(high)}")
    return value


def read_memory_mb(text: str) -> int:
    """Memory in units of 10**6 bytes, 16MB..1000GB."""
    return int(_read(text, MEGABYTES, 16, 1_000_000, "an amount of memory", "256MB or 2GB", lambda mb: memory(int(mb))))


def memory(mb: int) -> str:
    """Memory given in 10**6 bytes: 256MB, 2GB."""
    return f"{mb // 1000}GB" if mb % 1000 == 0 else f"{mb}MB"


def read_disk_mb(text: str) -> int:
    """A rate of reading or writing in units of 10**6 bytes per second, 1MB/s..100GB/s."""
    amount = text.removesuffix("/s")
    if amount == text:
        raise Wrong(f"{quote(text)} is not a rate.", "write it like 10MB/s")
    return int(_read(amount, MEGABYTES, 1, 100_000, "a rate", "10MB/s", lambda mb: disk_rate(int(mb))))


def disk_rate(mb: int) -> str:
    """A rate given in 10**6 bytes per second: 10MB/s."""
    return f"{memory(mb)}/s"


def count(n: int, thing: str) -> str:
    """`1 link`, `2 links`."""
    return f"{n} {thing}" + ("" if n == 1 else "s")


def number(value: float) -> str:
    """The shortest text that reads back as `value`: 9.1, 10."""
    return repr(float(value)).removesuffix(".0")


def duration(ms: float) -> str:
    """A duration given in ms, in the unit that reads best."""
    for unit, factor in (("s", 1000.0), ("ms", 1.0), ("us", 0.001)):
        text = number(ms / factor) + unit
        if ms >= factor and read_ms(text, high=float("inf")) == ms:
            return text
    return f"{number(ms)}ms"


def duration_s(seconds: float) -> str:
    """A duration given in s, in the unit that reads best."""
    text = number(seconds * 1000) + "ms"
    if seconds < 1 and read_s(text, high=float("inf")) == seconds:
        return text
    return f"{number(seconds)}s"


def rate(mbit: float) -> str:
    """A rate given in units of 10**6 bit/s; 0 is unlimited."""
    if not mbit:
        return "unlimited"
    for unit, factor in (("gbit", 1000.0), ("mbit", 1.0), ("kbit", 0.001)):
        text = number(mbit / factor) + unit
        if mbit >= factor and float(Decimal(text[:-4]) * MBIT[unit]) == mbit:
            return text
    return f"{number(mbit)}mbit"


def loss(probability: float) -> str:
    """A probability as percentage where that is exact, else as a fraction."""
    text = number(float(Decimal(repr(probability)) * 100)) + "%"
    return text if read_loss(text) == probability else number(probability)


def queue(packets: int, size: int, wait_ms: float) -> int | str:
    """A queue's bound, of which two are 0: 1000, 64kB, 50ms."""
    if packets:
        return packets
    if wait_ms:
        return duration(wait_ms)
    unit, factor = next((u, int(f)) for u, f in reversed(BYTES.items()) if size % int(f) == 0)
    return f"{size // factor}{unit}"


def packets(first: int, last: int) -> int | str:
    """A packet's number, or a range of them."""
    return first if first == last else f"{first}-{last}"
