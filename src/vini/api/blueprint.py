"""A topology built in code.  Pure: nothing is read, started or changed on a machine."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any, Generic, Protocol, Self, TypeVar, Unpack

import yaml

from vini import nearby
from vini.api import files
from vini.api.words import LinkWords, RouterWords, RoutingWords, SliverWords, Words, check, complete, folded
from vini.edit import nearest
from vini.layout import address, layout, link_name
from vini.model import Mistake, NotFound, Topology, TopologyError
from vini.names import vif
from vini.text.mistakes import quote
from vini.topology import dump
from vini.topology.keys import LINK, SLIVER, TOPOLOGY
from vini.topology.scalars import SLICE_NAME, SLIVER_NAME

S_co = TypeVar("S_co", covariant=True)
Say = Callable[[str], None]


class Named(Protocol):
    """Something that stands for a sliver."""

    @property
    def name(self) -> str: ...


SliverName = str | Named


def name_of(sliver: SliverName) -> str:
    """The name of a sliver that is given by name or by what `router` returned."""
    return sliver if isinstance(sliver, str) else sliver.name


class Blueprint(Generic[S_co]):
    """Slivers and links as they are added, and the frozen `topology` that they make.

    Every keyword is one of topology files (docs/reference/topology.md).  What is wrong raises
    TopologyError at the call that says it.  `name` is the slice's; by default a new one.
    `say` is given a sentence now and then while a slice comes up: `say=print`.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        routing: str | Sequence[str] | RoutingWords = "ospf",
        defaults: Mapping[str, Any] | None = None,
        groups: Mapping[str, Any] | None = None,
        expect: str | Sequence[Mapping[str, str]] | None = None,
        say: Say = lambda _: None,
        **words: Unpack[RoutingWords],
    ):
        self._say = say
        self._notes: tuple[str, ...] = ()
        self._topology: Topology | None = None  # None: to be made of the words
        self._words: Words | None = {  # None: to be made of the topology
            "name": check(SLICE_NAME, name or f"python-{token_hex(4)}", "name", f"Network({name!r})"),
            **folded({"routing": routing, **words}),
            **{k: v for k, v in (("defaults", defaults), ("groups", groups), ("expect", expect)) if v is not None},
            "slivers": {},
            "links": [],
        }
        check(TOPOLOGY, self._words, "topology", f"Network({self.name!r})")

    @classmethod
    def of(cls, topology: Topology, *, name: str | None = None, say: Say = lambda _: None) -> Self:
        """A network with that topology, under that slice name or its own."""
        network = cls(name or topology.name, say=say)
        network._topology = files.renamed(topology, network.name)
        network._words = None
        return network

    @classmethod
    def load(cls, path: str | Path, *, name: str | None = None, say: Say = lambda _: None) -> Self:
        """The network in a topology file of ours, or of another tool; what is lost then is in `notes`, and warned of.

        Raises TopologyError with all mistakes.
        """
        topology, notes = files.load(Path(path))
        network = cls.of(topology, name=name, say=say)
        network._notes = notes
        return network

    @classmethod
    def parse(cls, text: str, *, name: str | None = None, say: Say = lambda _: None) -> Self:
        """The network that a topology file with this text describes; without `name` in either, a new name."""
        return cls.of(files.parse(text, f"python-{token_hex(4)}"), name=name, say=say)

    @classmethod
    def generate(
        cls,
        spec: str,
        *,
        seed: int = 0,
        name: str | None = None,
        routing: str | Sequence[str] | RoutingWords = "ospf",
        say: Say = lambda _: None,
        **words: Unpack[RoutingWords],
    ) -> Self:
        """A generated network such as "ring:10", "grid:4x4" or "waxman:50"; all its slivers are routed alike."""
        return cls.of(files.generate(spec, seed, folded({"routing": routing, **words})), name=name, say=say)

    # --- building -------------------------------------------------------------------------------

    def router(self, name: str, **words: Unpack[RouterWords]) -> S_co:
        """Add a router: it forwards, and speaks the network's routing protocols unless it says otherwise."""
        own = folded(words)
        if self._building().get("routing", "none") == "none" and "routing" not in own:
            own.setdefault("forward", True)
        return self._add(name, own)

    def routers(self, *names: str, **words: Unpack[RouterWords]) -> tuple[S_co, ...]:
        """Add several alike."""
        return tuple(self.router(name, **words) for name in names)

    def host(self, name: str, **words: Unpack[SliverWords]) -> S_co:
        """Add a host: no routing, no forwarding; with one link, its default route goes there."""
        return self._add(name, {"routing": "none", **words})

    def hosts(self, *names: str, **words: Unpack[SliverWords]) -> tuple[S_co, ...]:
        """Add several alike."""
        return tuple(self.host(name, **words) for name in names)

    def switch(self, name: str, **words: Unpack[SliverWords]) -> S_co:
        """Add an Ethernet switch: what is linked to it, or to others that it is linked to, is on one LAN."""
        return self._add(name, {"mode": "switch", **words})

    def link(
        self, a: SliverName | Mapping[str, Any], b: SliverName | Mapping[str, Any], **words: Unpack[LinkWords]
    ) -> str:
        """Link two slivers, and return the link's name.

        An end is a sliver, "sliver:vif", or a mapping with what is its own: {"sliver": "a", "delay": "5ms"}.
        """
        ends = [dict(e) if isinstance(e, Mapping) else {"sliver": name_of(e)} for e in (a, b)]
        source = f"link {' -- '.join(str(e.get('sliver', '?')) for e in ends)}"
        read_words = check(LINK, {"ends": ends, **words}, "link", source)
        pair = [e.value["sliver"].value[0] for e in read_words["ends"].value]
        for sliver in pair:
            self._known(sliver)
        name = str(words.get("name") or "--".join(pair))
        link = {"ends": ends, **words}
        root = self._building()
        _refuse_second(link, name, root["links"], source)
        root["links"].append(link)
        self._topology = None
        return name

    def _add(self, name: str, words: Words) -> S_co:
        source = f"sliver {quote(name)}"
        check(SLIVER_NAME, name, "name", source)
        check(SLIVER, words, "sliver", source)
        slivers = self._building()["slivers"]
        if name in slivers:
            mistake = Mistake(0, 0, f"There already is a sliver {quote(name)}.", "take another name")
            raise TopologyError([mistake], source)
        slivers[name] = words
        self._topology = None
        return self._sliver(name)

    def _building(self) -> Words:
        """The words so far; those of a topology that was loaded are made when it is built upon."""
        if self._words is None:
            self._words = yaml.load(dump(self.topology), yaml.BaseLoader)
            self._words.setdefault("links", [])
            self._words["slivers"] = _mapping(self._words["slivers"])
            self._words["links"] = [_full(link) for link in self._words["links"]]
        return self._words

    # --- what was built -------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The slice's name."""
        return str(self._words["name"]) if self._words is not None else self.topology.name

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be carried over from another tool's file."""
        return self._notes

    @property
    def topology(self) -> Topology:
        """All of it, frozen.  Raises TopologyError where the whole does not fit together."""
        if self._topology is None:
            assert self._words is not None
            self._topology = complete(self._words, self.name, nearby.reader(Path.cwd()))
        return self._topology

    def address(self, sliver: SliverName, family: int = 4) -> str:
        """The address that stands for a sliver: a router's loopback, a host's first vif."""
        return address(layout(self.topology), name_of(sliver), family)

    @property
    def links(self) -> tuple[str, ...]:
        """The names of all links."""
        return tuple(map(link_name, self.topology.links))

    @property
    def slivers(self) -> tuple[S_co, ...]:
        """All slivers."""
        return tuple(self)

    def __iter__(self) -> Iterator[S_co]:
        return (self._sliver(name) for name in self._names())

    def __getitem__(self, name: str) -> S_co:
        """The sliver of that name: `net["denver"]`.  Raises NotFound with the nearest."""
        return self._sliver(self._known(name))

    def _known(self, name: str) -> str:
        if name not in self._names():
            near = nearest(name, self._names())
            hint = f"Did you mean {near}?" if near else "`net.router(...)` and `net.host(...)` add one."
            raise NotFound(f"There is no sliver {quote(name)} in {self.name}. {hint}")
        return name

    def _names(self) -> Sequence[str]:
        return tuple(self._words["slivers"] if self._words is not None else self.topology.slivers)

    @abstractmethod
    def _sliver(self, name: str) -> S_co:
        """What stands for the sliver of that name."""


def _refuse_second(link: Words, name: str, links: Sequence[Words], source: str) -> None:
    """Of links between the same slivers, all but one need a name and vifs of their own."""
    if name in [str(other.get("name") or "--".join(sliver for sliver, _ in _vifs(other))) for other in links]:
        hint = "give a second one a name, and its ends vifs: link('a:eth1', 'b:eth1', name='second')"
        raise TopologyError([Mistake(0, 0, f"There already is a link {quote(name)}.", hint)], source)
    taken = {end for other in links for end in _vifs(other)}
    for sliver, dev in _vifs(link):
        if (sliver, dev) in taken:
            what = f"Sliver {quote(sliver)} already has a vif {quote(dev)}."
            raise TopologyError([Mistake(0, 0, what, f"name this one: '{sliver}:eth1'")], source)


def _vifs(link: Words) -> tuple[tuple[str, str], tuple[str, str]]:
    """(sliver, vif) of both ends."""
    ends = [e if isinstance(e, Mapping) else {"sliver": e} for e in link["ends"]]
    (a, a_vif), (b, b_vif) = ((s, e.get("vif") or v) for e in ends for s, _, v in [str(e["sliver"]).partition(":")])
    return (a, a_vif or vif(b)), (b, b_vif or vif(a))


def _mapping(slivers: Any) -> Words:
    return {n: w or None for n, w in slivers.items()} if isinstance(slivers, dict) else dict.fromkeys(slivers)


def _full(link: Any) -> Words:
    """A link of a dumped topology in its full form: {"ends": [...], ...}."""
    if isinstance(link, str):
        return {"ends": link.split(" -- ")}
    if "ends" in link:
        return dict(link)
    ((line, words),) = link.items()
    return {"ends": line.split(" -- "), **words}
