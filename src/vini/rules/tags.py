"""Tags: which of several that have one name holds in a sliver; which nodes a nodegroup has."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from vini.rules.nouns import ConfFile, NodeGroup, Tag


def effective(tags: Iterable[Tag], slice_: str, node: str, nodegroups: Collection[str]) -> dict[str, str]:
    """Name -> value for the sliver of a slice on a node in those nodegroups: sliver > nodegroup > slice.

    Of two nodegroups that say something else the first by name wins.
    """
    found: dict[str, tuple[int, str, str]] = {}
    for tag in tags:
        if tag.slice != slice_ or tag.node not in ("", node) or (tag.nodegroup and tag.nodegroup not in nodegroups):
            continue
        rank = 0 if tag.node else 1 if tag.nodegroup else 2
        found[tag.name] = min(found.get(tag.name, (3, "", "")), (rank, tag.nodegroup, tag.value))
    return {name: value for name, (_, _, value) in sorted(found.items())}


def nodegroups_of(tags: Mapping[str, str], groups: Iterable[NodeGroup]) -> list[str]:
    """The nodegroups of a node that has these tags, by name: those whose tag has that value."""
    return sorted(g.name for g in groups if tags.get(g.tag) == g.value)


def conf_files_of(files: Iterable[ConfFile], node: str, nodegroups: Collection[str]) -> dict[str, ConfFile]:
    """Path -> the file that a node gets: node > nodegroup > global."""
    found: dict[str, tuple[int, str, int]] = {}
    every = {f.id: f for f in files if f.enabled}
    for f in every.values():
        if f.node not in ("", node) or (f.nodegroup and f.nodegroup not in nodegroups):
            continue
        rank = 0 if f.node else 1 if f.nodegroup else 2
        found[f.path] = min(found.get(f.path, (3, "", 0)), (rank, f.nodegroup, f.id))
    return {path: every[number] for path, (_, _, number) in sorted(found.items())}
