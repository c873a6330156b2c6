"""What this node has made of the slices' vifs to the world; on disk before it is made, so that nothing is forgotten."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import structs

from vini.model import Outside, Value
from vini.node.place import Place

_SOMEBODY = "_outside"  # as no sliver can be called


class Attached(Value, frozen=True):
    """One sliver's vif: what was asked for, and the address that this node chose."""

    object: Outside
    address: str
    gateway: str


class Record(Value, frozen=True):
    """One slice's."""

    vifs: dict[str, Attached] = {}  # by namespace
    printed: str = ""  # what nft printed of its tables when they were made
    text: str = ""  # a digest of the text that they were made by
    near: tuple[str, ...] = ()  # the IPv6 networks that the node was in then
    day: int = 0  # of UTC, since 1970, whose bytes are being counted


def directory(place: Place) -> Path:
    """Gone after a reboot, as what it tells of is."""
    return place.run / "outside"


def slices(place: Place) -> list[str]:
    """Those that have something here."""
    try:
        return sorted(path.stem for path in directory(place).iterdir() if path.suffix == ".json")
    except FileNotFoundError:
        return []


def namespaces(place: Place) -> set[str]:
    """All slivers that have something here; where that can't be read, one that is none, so that the slice is known."""
    return {ns for slice_ in slices(place) for ns in set(read(place, slice_).vifs) or {f"{slice_}.{_SOMEBODY}"}}


def read(place: Place, slice_: str) -> Record:
    """An empty one where there is none, or none that can be read: then all that it told of is made anew, or goes."""
    try:
        return msgspec.json.decode((directory(place) / f"{slice_}.json").read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return Record()


def write(place: Place, slice_: str, record: Record) -> None:
    """Replace it as a whole; one without vifs is taken away."""
    path = directory(place) / f"{slice_}.json"
    if not record.vifs:
        path.with_suffix(".new").unlink(missing_ok=True)  # of a write that was killed
        path.unlink(missing_ok=True)
        with suppress(OSError):
            path.parent.rmdir()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_bytes(msgspec.json.encode(record))
    new.rename(path)


def with_vif(record: Record, vif: Attached) -> Record:
    """The same with this one, in place of one that the sliver had."""
    return structs.replace(record, vifs={**record.vifs, vif.object.ns: vif})


def without(record: Record, ns: str) -> Record:
    """The same without that sliver's."""
    return structs.replace(record, vifs={n: v for n, v in record.vifs.items() if n != ns})
