"""The words of a topology file as Python keywords: one vocabulary, read by one declaration.

What a file says as `denver -- seattle: {delay: 10ms}`, Python says as `delay="10ms"`; both are
checked by `vini.topology.keys`, so a value is right in both or in neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Required, TypedDict

from vini.model import Topology
from vini.text import yamlplaces
from vini.text.mistakes import Mistakes
from vini.text.schema import Fields, Kind, Section, read
from vini.topology import ReadFile, resolve
from vini.topology.impairments import impairment_fields
from vini.topology.keys import IMPAIRMENTS, TOPOLOGY


class RoutingWords(TypedDict, total=False):
    """Routing intent; docs/reference/topology.md says what each means."""

    protocols: str | Sequence[str]
    daemon: str
    hello: str
    dead: str
    area: int | str
    asn: int
    bfd: bool
    announce: str | Sequence[str]
    raw: Mapping[str, str]


class SliverWords(TypedDict, total=False):
    """Properties of a sliver."""

    routing: str | Sequence[str] | RoutingWords
    routes: Sequence[Mapping[str, str]]
    runtime: str
    resources: Mapping[str, str | float]
    network: Mapping[str, str | int]
    image: str
    volumes: Mapping[str, str | Mapping[str, str | int]]
    state: str
    restarts: int
    resets: int
    files: Mapping[str, str]
    environment: Mapping[str, str | float]
    initscript: str
    commands: str | Sequence[str | Mapping[str, Any]]
    forward: bool
    node: str
    site: str
    apart: str
    place: tuple[float, float]
    addresses: str | Sequence[str]
    mode: str
    program: str | Mapping[str, Any]
    label: str
    outside: bool
    expected: bool
    groups: str | Sequence[str]


class RouterWords(SliverWords, RoutingWords, total=False):
    """Properties of a router; those of its routing need no mapping of their own."""


class BurstLossWords(TypedDict, total=False):
    """Loss in bursts."""

    enter: Required[str | float]
    leave: Required[str | float]
    bad: str | float
    good: str | float


class ImpairmentWords(TypedDict, total=False):
    """What a link does to packets; docs/reference/topology.md says what each means."""

    delay: str
    jitter: str
    distribution: str
    jitter_table: str | Sequence[str]
    reordering: bool
    reorder: str | float
    loss: str | float
    burst_loss: str | BurstLossWords
    lose: int | str | Sequence[int | str]
    duplicate: str | float
    corrupt: str | float
    rate: str
    queue: int | str
    aqm: str
    trace: str


class LinkWords(ImpairmentWords, total=False):
    """Properties of a link."""

    name: str
    cost: int
    mtu: int
    fault: str
    protocols: str | Sequence[str]
    area: int | str
    groups: str | Sequence[str]


Words = dict[str, Any]
_number = count(1)  # each place is a value of its own: readers tell two items apart by their places


def tree(value: Any) -> yamlplaces.Node:
    """A Python value as the tree that `schema.read` takes; its places have line 0, which messages leave out."""
    at = (0, next(_number))
    if isinstance(value, Mapping):
        items = tuple((yamlplaces.Scalar(at, str(k), plain=False), tree(v)) for k, v in value.items())
        return yamlplaces.Mapping(at, items, 1 + len(items))
    if isinstance(value, list | tuple | set | frozenset):
        nodes = tuple(tree(v) for v in value)
        return yamlplaces.Sequence(at, nodes, 1 + len(nodes))
    if value is None:
        return yamlplaces.Scalar(at, "")
    return yamlplaces.Scalar(at, str(value).lower() if isinstance(value, bool) else str(value), plain=False)


def check(kind: Kind, value: Any, name: str, source: str) -> Any:
    """What `kind` makes of a Python value.  Raises TopologyError with every mistake, each after `source`."""
    mistakes = Mistakes()
    found = read(kind, tree(value), mistakes, name)
    if mistakes.found or found is None:
        raise mistakes.error(source)
    return found.value


def impairments(words: Mapping[str, Any], source: str, read_file: ReadFile) -> dict[str, Any]:
    """Fields of `Impairment` for those words.  Raises TopologyError with every mistake, each after `source`."""
    fields: Fields = check(Section("an impairment", IMPAIRMENTS), words, "impairment", source)
    mistakes = Mistakes()
    wishes = impairment_fields(fields, read_file, mistakes)
    if mistakes.found:
        raise mistakes.error(source)
    return wishes


def folded(words: Mapping[str, Any]) -> Words:
    """Words of a sliver, with those of its routing moved into its `routing`."""
    own = RoutingWords.__annotations__.keys() & words.keys()
    out = {k: v for k, v in words.items() if k not in own}
    if own:
        given = out.get("routing", {})
        routing = dict(given) if isinstance(given, Mapping) else {"protocols": given}
        out["routing"] = routing | {k: words[k] for k in words if k in own}
    return out


def complete(words: Words, source: str, read_file: ReadFile) -> Topology:
    """The topology that the words of a whole file make.  Raises TopologyError with every mistake."""
    mistakes = Mistakes()
    found = read(TOPOLOGY, tree(words), mistakes, "topology")
    topology = resolve(found.value if found else {}, source, "", mistakes, read_file)
    if mistakes.found:
        raise mistakes.error(source)
    return topology
