"""Other people's formats to topologies: what can't be carried over is listed, never dropped in silence."""

from __future__ import annotations

from collections.abc import Mapping

from vini.formats.containerlab import containerlab_files, read_containerlab
from vini.formats.detect import Format, detect, is_ours
from vini.formats.generators import generate
from vini.formats.gml import read_gml
from vini.formats.graphml import read_graphml
from vini.formats.imported import OSPF, Imported, refused
from vini.formats.pl_vini import read_pl_vini
from vini.formats.sndlib_native import read_sndlib_native
from vini.formats.sndlib_xml import read_sndlib_xml
from vini.model import Routing, TopologyError

__all__ = ["OSPF", "Imported", "detect", "generate", "read", "wanted_files"]

LONGEST_TEXT = 10_000_000  # characters
_DRAWINGS = {
    "graphml": read_graphml,
    "gml": read_gml,
    "sndlib-xml": read_sndlib_xml,
    "sndlib": read_sndlib_native,
    "pl-vini": read_pl_vini,
}


def read(text: str, name: str, files: Mapping[str, str] | None = None, routing: Routing | None = OSPF) -> Imported:
    """The topology in a file of another tool; `name` is the file's name.

    `routing` goes into every router, except in a containerlab file, which says itself what its
    nodes run; `files` then holds the texts of `wanted_files`.  Raises TopologyError, with places,
    for a file that is broken, hostile, too large, or in no known format.
    """
    text, format_ = _checked(text, name)
    stem = _stem(name)
    try:
        if format_ == "containerlab":
            imported = read_containerlab(text, stem, files or {})
        else:
            imported = _DRAWINGS[format_](text, stem, routing)
    except TopologyError as error:
        raise TopologyError(error.mistakes, name) from error
    return Imported(imported.topology, tuple(_printable(note) for note in imported.notes))


def wanted_files(text: str, name: str) -> tuple[str, ...]:
    """The paths, relative to the file's directory, whose texts the caller should give `read` as `files`.

    None of them is absolute or leads out of that directory by its name (a symbolic link may).
    """
    text, format_ = _checked(text, name)
    try:
        return containerlab_files(text) if format_ == "containerlab" else ()
    except TopologyError as error:
        raise TopologyError(error.mistakes, name) from error


def _checked(text: str, name: str) -> tuple[str, Format]:
    """The text without a byte order mark, and its format."""
    if len(text) > LONGEST_TEXT:
        what = f"The file has {len(text):,} characters; at most {LONGEST_TEXT:,} are read."
        raise TopologyError(refused(what).mistakes, name)
    format_ = detect(text, name)
    if format_ is None:
        if is_ours(text):
            what = "This is a topology file of VINI's already: it has 'slivers'."
            raise TopologyError(refused(what, f"bring it up with 'vini up {name}'").mistakes, name)
        known = "GraphML, GML, SNDlib (XML or native), containerlab YAML, or a PL-VINI experiment"
        raise TopologyError(refused("The format of this file is not known.", f"it may be {known}").mistakes, name)
    return text.removeprefix("\ufeff"), format_


def _printable(note: str) -> str:
    """The note without what a terminal would obey: notes quote the file."""
    return "".join(c if c.isprintable() else "?" for c in note)


def _stem(name: str) -> str:
    """The file's name without directories and suffixes: "labs/frr01.clab.yml" -> "frr01"."""
    return name.replace("\\", "/").rpartition("/")[2].partition(".")[0]
