"""The settings of one containerlab node, gathered from the node, its group, its kind and the defaults."""

from __future__ import annotations

from vini.formats.clab_yaml import Fields, fields, items, text
from vini.model import Value
from vini.text.mistakes import Mark, Mistakes
from vini.text.yamlplaces import Node

# What is read; every other key of a node is named in a note.
_READ = {"kind", "image", "group", "binds", "exec", "startup-config", "extras", "sysctls"}


class Bind(Value, frozen=True):
    """A file of the lab's directory put at a path inside the node."""

    source: str
    destination: str


class Settings(Value, frozen=True):
    """What a node's file entry says, inheritance resolved."""

    name: str
    at: Mark
    kind: str = ""
    image: str = ""
    binds: tuple[Bind, ...] = ()
    commands: tuple[str, ...] = ()
    startup_config: str = ""
    daemons: tuple[str, ...] | None = None  # of `extras: {frr: {daemons: [...]}}`
    sysctls: dict[str, str] = {}
    unread: tuple[str, ...] = ()


def all_settings(topology: Fields, mistakes: Mistakes) -> list[Settings]:
    """The settings of every node, in the file's order."""
    defaults = fields(topology.get("defaults"), "defaults", mistakes)
    kinds = fields(topology.get("kinds"), "kinds", mistakes)
    groups = fields(topology.get("groups"), "groups", mistakes)
    found = []
    for name, node in fields(topology.get("nodes"), "nodes", mistakes).items():
        own = fields(node, f"The node {name}", mistakes)
        group_name = text(own.get("group") or defaults.get("group"), "group", mistakes)
        group = fields(groups.get(group_name), f"The group {group_name}", mistakes)
        kind = next((k for f in (own, group, defaults) if (k := text(f.get("kind"), "kind", mistakes))), "")
        # containerlab: the node's own value wins over the group's, the group's over the kind's
        layers = [defaults, fields(kinds.get(kind), f"The kind {kind}", mistakes), group, own]
        found.append(_settings(name, node, kind, layers, mistakes))
    return found


def _settings(name: str, node: Node, kind: str, layers: list[Fields], mistakes: Mistakes) -> Settings:
    one: Fields = {key: value for layer in layers for key, value in layer.items()}
    commands = [text(c, "A command", mistakes) for f in layers for c in items(f.get("exec"), "exec", mistakes)]
    sysctls = [fields(f.get("sysctls"), "sysctls", mistakes) for f in layers]
    return Settings(
        name,
        node.at,
        kind,
        text(one.get("image"), "image", mistakes),
        _binds(name, layers, mistakes),
        tuple(c for c in commands if c.strip()),
        text(one.get("startup-config"), "startup-config", mistakes).replace("__clabNodeName__", name),
        _daemons(one, mistakes),
        {key: text(value, key, mistakes) for layer in sysctls for key, value in layer.items()},
        tuple(key for key in one if key not in _READ),
    )


def _binds(name: str, layers: list[Fields], mistakes: Mistakes) -> tuple[Bind, ...]:
    """`source:destination[:options]`; of several for one destination the most specific one."""
    binds: dict[str, Bind] = {}
    for layer in layers:
        for item in items(layer.get("binds"), "binds", mistakes):
            parts = text(item, "A bind", mistakes).replace("__clabNodeName__", name).split(":")
            if len(parts) < 2:
                parts = ["", parts[0]]  # an anonymous volume
            binds[parts[1]] = Bind(parts[0], parts[1])
    return tuple(binds.values())


def _daemons(one: Fields, mistakes: Mistakes) -> tuple[str, ...] | None:
    frr = fields(fields(one.get("extras"), "extras", mistakes).get("frr"), "extras.frr", mistakes)
    if "daemons" not in frr:
        return None
    return tuple(text(d, "A daemon", mistakes) for d in items(frr["daemons"], "daemons", mistakes))
