"""Text to Topology.

`parse` reports every mistake of a file at once, each at its place; what it returns is complete:
defaults, groups and short forms are resolved into frozen slivers and links.
"""

from __future__ import annotations

from functools import cache
from pathlib import PurePath

from vini import names
from vini.model import Expect, Topology
from vini.text.mistakes import Mistakes, quote
from vini.text.schema import Fields, Json, json_schema, read
from vini.text.yamlplaces import Mapping, load
from vini.topology.addresses import check_addresses
from vini.topology.foreign import check_foreign
from vini.topology.impairments import ReadFile, no_files
from vini.topology.keys import TOPOLOGY
from vini.topology.links import read_links
from vini.topology.slivers import check_list, read_slivers, sliver_names
from vini.topology.switches import check_ports, read_switches


def parse(text: str, source: str = "", default_name: str = "", read_file: ReadFile = no_files) -> Topology:
    """The topology that `text` (YAML 1.2, or JSON) describes.

    `source` is the file's name, for messages.  A file without `name` is called `default_name`,
    or else after `source`.  `read_file` gives the text of a file that it names, a link's trace, or raises `Wrong`.
    Raises `TopologyError` with all mistakes.
    """
    mistakes = Mistakes()
    check_foreign(text, source, mistakes)
    node = None if mistakes.found else load(text, mistakes)
    if node is None:
        if not mistakes.found:
            mistakes.add((0, 0), "The file is empty.", "start with 'slivers: [a, b]' and 'links:'")
        raise mistakes.error(source)
    if not isinstance(node, Mapping):
        mistakes.add(node.at, "A topology file is a mapping.", "start with 'slivers: [a, b]' and 'links:'")
        raise mistakes.error(source)
    found = read(TOPOLOGY, node, mistakes, "topology")
    topology = resolve(found.value if found else {}, source, default_name, mistakes, read_file)
    if mistakes.found:
        raise mistakes.error(source)
    return topology


def schema() -> Json:
    """The format's JSON Schema (draft 2020-12), from the declaration that `parse` reads by."""
    return json_schema(TOPOLOGY, "VINI topology", "topology.schema.json")


def resolve(
    root: Fields, source: str, default_name: str, mistakes: Mistakes, read_file: ReadFile = no_files
) -> Topology:
    """The topology of a tree that was read by `TOPOLOGY`; it is of use only where no mistakes were added."""
    check_list(root, mistakes)
    own = sliver_names(root)
    if "slivers" in root and not own:
        mistakes.add(root["slivers"].key_at, "There are no slivers.", "name at least one: 'slivers: [a]'")
    placed = read_links(root, frozenset(own), cache(read_file), mistakes)
    links = tuple(p.link for p in placed)
    switches = read_switches(root, own, mistakes)
    check_ports(placed, switches, mistakes)
    check_addresses(placed, own, switches, mistakes)
    return Topology(
        name=_name(root, source, default_name, mistakes),
        slivers=read_slivers(root, links, switches, cache(read_file), mistakes),
        links=links,
        expect=_expect(root, frozenset(own), switches, mistakes),
        substrate=root["substrate"].value if "substrate" in root else "mirror",
        tunnel=root["tunnel"].value if "tunnel" in root else "",
    )


def _name(root: Fields, source: str, default_name: str, mistakes: Mistakes) -> str:
    if "name" in root:
        return str(root["name"].value)
    name = names.slug(default_name or PurePath(source).stem)
    if not name:
        mistakes.add((0, 0), "The topology has no name.", "add 'name: my-network'")
    return name


def _expect(root: Fields, known: frozenset[str], switches: frozenset[str], mistakes: Mistakes) -> tuple[Expect, ...]:
    found = root.get("expect")
    if found is None:
        return ()
    if found.value == "all":
        return (Expect(),)
    out = []
    for item in found.value:
        fields: Fields = item.value
        for end in (fields[k] for k in ("from", "to") if k in fields):
            if end.value != "*" and end.value not in known:
                mistakes.unknown(end.at, f"There is no sliver {quote(end.value)}.", end.value, known)
            if end.value in switches:
                what = f"{quote(end.value)} is a switch, which nothing can reach."
                mistakes.add(end.at, what, "name a sliver that is linked to it")
        keys = {"from": "source", "to": "destination", "within": "within_s"}
        out.append(Expect(**{field: fields[key].value for key, field in keys.items() if key in fields}))
    return tuple(out)
