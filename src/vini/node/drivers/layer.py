"""A container's own layer of files: what is written inside, and how often it was thrown away."""

from __future__ import annotations

from vini.model import File
from vini.node import trees
from vini.node.drivers.contents import FileDriver
from vini.node.place import Place

_RECORD = ".resets"


def ensure(place: Place, ns: str, resets: int) -> None:
    """Have its layer be that of this number of resets: with another than before, only the slice's files are there.

    To be called when none of its processes lives.  A crash in between is made good by the next call, and files that it
    cost by the next pass.
    """
    home, record = place.sliver(ns), place.sliver(ns) / _RECORD
    before = int(record.read_text()) if record.exists() else resets
    if before != resets:
        files = FileDriver(place)
        given = [o for o in files.observe({ns}) if isinstance(o, File) and o.path.startswith("root/")]
        for layer in ("root", "work"):
            if (home / layer).exists():
                trees.remove(home / layer)
        if failures := files.ensure(given):
            raise OSError("; ".join(failures.values()))
    home.mkdir(parents=True, exist_ok=True)
    new = record.with_suffix(".new")
    new.write_text(str(resets))
    new.rename(record)
