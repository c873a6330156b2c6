"""Topologies from files, texts and generators."""

from __future__ import annotations

import warnings
from pathlib import Path

from msgspec import structs

from vini import formats, names, nearby, topology
from vini.api.words import Words, check, complete
from vini.model import Mistake, Topology, TopologyError
from vini.topology.impairments import no_files
from vini.topology.scalars import SLICE_NAME


def load(path: Path) -> tuple[Topology, tuple[str, ...]]:
    """A file of ours or of another tool, and what of the latter could not be carried over (also warned of)."""
    text = _text(path)
    if not formats.detect(text, path.name):
        stem = names.slug(path.name.partition(".")[0])
        return topology.parse(text, str(path), stem, nearby.reader(path.parent)), ()
    bound = {w: path.parent / w for w in formats.wanted_files(text, path.name)}
    there = {w: p.read_text(encoding="utf-8", errors="replace") for w, p in bound.items() if p.is_file()}
    imported = formats.read(text, path.name, there)
    for note in imported.notes:
        warnings.warn(f"{path}: {note}", stacklevel=4)
    return imported.topology, imported.notes


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as e:
        what = f"{str(path)!r} can't be read: {e.strerror}; the path is relative to {Path.cwd()}."
        raise TopologyError([Mistake(0, 0, what)]) from e
    except UnicodeDecodeError as e:
        raise TopologyError([Mistake(0, 0, f"{str(path)!r} is not text in UTF-8; save it in that encoding.")]) from e


def parse(text: str, default_name: str) -> Topology:
    """The topology that a text in our format describes."""
    return topology.parse(text, "", default_name, nearby.reader(Path.cwd()))


def generate(spec: str, seed: int, words: Words) -> Topology:
    """A generated topology; with the routing `none` its slivers forward, and nothing more."""
    alike = complete({"name": "alike", **words, "slivers": {"a": None}}, f"generate({spec!r})", no_files).slivers["a"]
    made = formats.generate(spec, seed, routing=alike.routing)
    if alike.routing is not None:
        return made
    return structs.replace(made, slivers={n: structs.replace(s, forward=True) for n, s in made.slivers.items()})


def renamed(given: Topology, name: str) -> Topology:
    """The same under another slice name."""
    return structs.replace(given, name=check(SLICE_NAME, name, "name", f"slice {name!r}"))
