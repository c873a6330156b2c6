"""Which slivers have a Share here, on disk before it is made; and what each sent today, which outlives a reboot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from vini.model import Share, Value
from vini.node.place import Place

T = TypeVar("T")
MEGABYTE = 1_000_000


class Held(Value, frozen=True):
    """What was asked for, and the number of its class."""

    object: Share
    slot: int


class Sent(Value, frozen=True):
    """Bytes of Ethernet frames that left, of one sliver."""

    day: int = 0  # of UTC, since 1970
    counted: int = 0  # that day
    exempt: int = 0  # the same, to where it is not counted
    before: tuple[int, int] = (0, 0)  # the last day on which it sent anything: that day, and what was counted
    seen: tuple[int, int] = (0, 0)  # what the kernel's two counters said last
    epoch: str = ""  # and since when they count

    def over(self, share: Share) -> bool:
        """Whether it has sent what it may in a day."""
        return bool(share.daily_mb) and self.counted >= share.daily_mb * MEGABYTE


def advanced(sent: Sent, now: tuple[int, int], epoch: str, day: int) -> Sent:
    """After another look at the counters; what left since the last one is of the day on which we look."""
    seen = sent.seen if sent.epoch == epoch else (0, 0)
    new = tuple(n - s if n >= s else n for n, s in zip(now, seen, strict=True))
    if sent.day != day:
        past = (sent.day, sent.counted) if sent.counted else sent.before
        return Sent(day, new[0], new[1], past, now, epoch)
    return Sent(day, sent.counted + new[0], sent.exempt + new[1], sent.before, now, epoch)


def held(place: Place) -> dict[str, Held]:
    """By namespace."""
    return _read(place.run / "shares.json", dict[str, Held])


def hold(place: Place, all_: Mapping[str, Held]) -> None:
    """Replace it as a whole."""
    _write(place.run / "shares.json", all_, keep=bool(all_))


def sent(place: Place) -> dict[str, Sent]:
    """By namespace; also of slivers that are gone, as long as the day lasts."""
    return _read(place.state / "sent.json", dict[str, Sent])


def note(place: Place, all_: Mapping[str, Sent]) -> None:
    """Replace it as a whole."""
    _write(place.state / "sent.json", all_, keep=bool(all_))


def _read(path: Path, type_: type[dict[str, T]]) -> dict[str, T]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=type_)
    except (OSError, msgspec.DecodeError):
        return {}


def _write(path: Path, all_: Mapping[str, Value], keep: bool) -> None:
    new = path.with_suffix(".new")
    if not keep:
        new.unlink(missing_ok=True)  # of a write that was killed
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new.write_bytes(msgspec.json.encode(all_))
    new.rename(path)
