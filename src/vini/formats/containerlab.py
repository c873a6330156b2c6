"""Containerlab's topology file (https://containerlab.dev/manual/topo-def-file/)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from vini.formats.clab_addresses import carry_addresses
from vini.formats.clab_links import Wiring
from vini.formats.clab_settings import Settings, all_settings
from vini.formats.clab_slivers import Notes, role, sliver, wanted
from vini.formats.clab_yaml import Fields, fields, is_null, items, text
from vini.formats.imported import Imported, listed, refused
from vini.formats.naming import renamed, sliver_names
from vini.model import Topology
from vini.names import slug
from vini.text.mistakes import Mistakes
from vini.text.yamlplaces import load

_DEFAULTED = re.compile(r"\$\{(\w+):?[-=]([^}\n]*)\}")  # ${IMAGE:=frr:10}
_READ = {"name", "topology"}
_READ_OF_TOPOLOGY = {"nodes", "links", "kinds", "groups", "defaults"}


def read_containerlab(source: str, name: str, files: Mapping[str, str]) -> Imported:
    """A containerlab lab; `files` holds the texts of `wanted_files`, by the path that the lab writes."""
    mistakes = Mistakes()
    top, topology, replaced = _parsed(source, mistakes)
    settings = all_settings(topology, mistakes)
    inside = [s for s in settings if role(s) != "outside"]
    names = sliver_names([s.name for s in inside], [str(i + 1) for i in range(len(inside))])
    name_of = {s.name: n for s, n in zip(inside, names, strict=True)}
    outside = frozenset(s.name for s in settings if role(s) == "outside")
    wiring = Wiring(name_of, outside, mistakes)
    links = wiring.links(items(topology.get("links"), "links", mistakes))
    title = slug(text(top.get("name"), "name", mistakes)) or slug(name) or "imported"
    if not settings:
        mistakes.add((0, 0), "This lab has no nodes.", "containerlab lists them under topology: nodes:")
    if mistakes.found:
        raise mistakes.error()
    notes = Notes()
    slivers = {name_of[s.name]: sliver(name_of[s.name], s, files, notes) for s in inside}
    slivers, links = carry_addresses(slivers, links, notes)
    changed = renamed({n: s.name for n, s in zip(names, inside, strict=True)})
    head = [*replaced, *_unread(top, topology), *_outside(settings), *_renamed(changed)]
    return Imported(Topology(title, slivers, links), (*head, *wiring.notes(), *notes.sentences()))


def containerlab_files(source: str) -> tuple[str, ...]:
    """The paths, relative to the lab's directory, whose texts `read_containerlab` can use; each once."""
    mistakes = Mistakes()
    _, topology, _ = _parsed(source, mistakes)
    settings = all_settings(topology, mistakes)
    if mistakes.found:
        raise mistakes.error()
    return tuple(dict.fromkeys(path for s in settings for path in wanted(s)))


def _parsed(source: str, mistakes: Mistakes) -> tuple[Fields, Fields, list[str]]:
    """The file's top, its topology, and notes on variables that were replaced."""
    if re.search(r"^[ \t]*\{\{", source, re.MULTILINE):
        raise refused("This is a Go template, not a containerlab file.", "render it first, and import what comes out")
    variables = sorted({m[1] for m in _DEFAULTED.finditer(source)})
    tree = load(_DEFAULTED.sub(lambda m: m[2], source), mistakes)
    if mistakes.found:
        raise mistakes.error()
    top = fields(tree, "A containerlab file", mistakes)
    replaced = [f"Variables replaced by their defaults: {listed(variables)}."] if variables else []
    return top, fields(top.get("topology"), "topology", mistakes), replaced


def _unread(top: Fields, topology: Fields) -> list[str]:
    unread = [k for k, v in top.items() if k not in _READ and not is_null(v)]
    unread += [f"topology.{k}" for k, v in topology.items() if k not in _READ_OF_TOPOLOGY and not is_null(v)]
    return [f"Settings of the lab not carried over: {', '.join(unread)}."] if unread else []


def _outside(settings: list[Settings]) -> list[str]:
    outside = [f"{s.name} ({s.kind})" for s in settings if role(s) == "outside"]
    return [f"Parts of the machine itself, not carried over: {listed(outside, 20)}."] if outside else []


def _renamed(changed: list[str]) -> list[str]:
    return [f"Names changed (originals kept as labels): {listed(changed, 20)}."] if changed else []
