"""The links of a topology file, resolved; with the checks that need all of them."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from vini.lans import vif_name
from vini.layout import link_name
from vini.model import End, Impairment, Link
from vini.text.mistakes import Mark, Mistakes, Wrong, quote
from vini.text.schema import Fields, Found
from vini.topology.impairments import ReadFile, read_impairment
from vini.topology.keys import IMPAIRMENTS, LINK_PROPERTIES
from vini.topology.merge import inherit, section
from vini.topology.scalars import END


class PlacedLink(Struct, frozen=True):
    """A link, with the places that later mistakes point at; `ends` are the ends' own fields."""

    link: Link
    at: Mark
    ends: tuple[Found, Found]


def read_links(root: Fields, known: frozenset[str], read: ReadFile, mistakes: Mistakes) -> list[PlacedLink]:
    """All links whose ends could be read.  `known` are the slivers' names."""
    defaults = section(section(root, "defaults"), "link")
    allowed = frozenset(LINK_PROPERTIES)
    groups = section(root, "groups")
    placed = []
    for found in root["links"].value if "links" in root else ():
        fields = inherit(found.value, defaults, groups, allowed, mistakes)
        if (ends := _two_ends(fields, found.at, mistakes)) is not None:
            link = _link(fields, ends, found.at, read, mistakes)
            _check_slivers(ends, known, mistakes)
            placed.append(PlacedLink(link, found.at, ends))
    _check_names(placed, mistakes)
    _check_vifs(placed, mistakes)
    return placed


def _two_ends(fields: Fields, at: Mark, mistakes: Mistakes) -> tuple[Found, Found] | None:
    ends = fields.get("ends")
    if ends is None:
        return None  # noted by the reader
    if isinstance(ends.value, tuple):  # from the one-line form
        a, b = ends.value
        return _end_of_line(a, ends.at, mistakes), _end_of_line(b, ends.at, mistakes)
    if len(ends.value) != 2:
        what = f"A link has two ends, this one has {len(ends.value)}."
        hint = "for a shared network, link each to a sliver with 'mode: switch'"
        mistakes.add(ends.key_at if ends.key_at[0] else at, what, hint)
        return None
    return (ends.value[0], ends.value[1]) if all("sliver" in e.value for e in ends.value) else None


def _end_of_line(text: str, at: Mark, mistakes: Mistakes) -> Found:
    try:
        return Found({"sliver": Found(END.read(text), at, at)}, at, at)
    except Wrong as e:
        mistakes.add(at, str(e), e.hint)
        return Found({"sliver": Found((text.partition(":")[0], ""), at, at)}, at, at)


def _check_slivers(ends: tuple[Found, Found], known: frozenset[str], mistakes: Mistakes) -> None:
    a, b = (e.value["sliver"] for e in ends)
    for found in (a, b):
        if found.value[0] not in known:
            what = f"There is no sliver {quote(found.value[0])}."
            mistakes.unknown(found.at, what, found.value[0], known)
    if a.value[0] == b.value[0]:
        mistakes.add(a.at, f"This links {quote(a.value[0])} to itself.", "a link needs two different slivers")


def _link(fields: Fields, ends: tuple[Found, Found], at: Mark, read: ReadFile, mistakes: Mistakes) -> Link:
    impairment = read_impairment(fields, Impairment(), read, at, mistakes)
    optional: dict[str, Any] = {k: fields[k].value for k in ("name", "cost", "mtu", "fault", "area") if k in fields}
    if "protocols" in fields:
        optional["protocols"] = tuple(f.value for f in fields["protocols"].value)
    one, other = (_end(e.value, impairment, read, e.at, mistakes) for e in ends)
    return Link((one, other), impairment=impairment, **optional)


def _end(fields: Fields, below: Impairment, read: ReadFile, at: Mark, mistakes: Mistakes) -> End:
    sliver, dev = fields["sliver"].value
    if "vif" in fields:
        if dev and dev != fields["vif"].value:
            what = f"This end has two vif names, {quote(dev)} and {quote(fields['vif'].value)}."
            mistakes.add(fields["vif"].at, what, "keep one of the two")
        dev = fields["vif"].value
    return End(
        sliver,
        dev,
        tuple(a.value for a in fields["addresses"].value) if "addresses" in fields else (),
        fields["cost"].value if "cost" in fields else None,
        read_impairment(fields, below, read, at, mistakes) if IMPAIRMENTS.keys() & fields.keys() else None,
    )


def _check_names(placed: list[PlacedLink], mistakes: Mistakes) -> None:
    """Each link has its own name, and of parallel links all but one are named."""
    named: dict[str, Mark] = {}
    unnamed: dict[frozenset[str], Mark] = {}
    for p in placed:
        a, b = (e.sliver for e in p.link.ends)
        pair = frozenset((a, b))
        first = None if p.link.name else unnamed.get(pair)
        if first is not None:
            what = f"A second link between {quote(a)} and {quote(b)} needs a name (the first is on line {first[0]})."
            mistakes.add(p.at, what, "add 'name: second', and give each end a vif of its own, such as 'denver:eth1'")
        elif link_name(p.link) in named:
            line = named[link_name(p.link)][0]
            what = f"The name {quote(link_name(p.link))} is already that of the link on line {line}."
            mistakes.add(p.at, what, "give one of them another 'name'")
        if not p.link.name:
            unnamed.setdefault(pair, p.at)
        named.setdefault(link_name(p.link), p.at)


def _check_vifs(placed: list[PlacedLink], mistakes: Mistakes) -> None:
    """Each vif's name is there once in its sliver, also where it is derived from the peer."""
    taken: dict[tuple[str, str], Mark] = {}
    for p in placed:
        a, b = (e.sliver for e in p.link.ends)
        if a == b:
            continue  # already a mistake
        for i, end in enumerate(p.link.ends):
            vif = (end.sliver, vif_name(p.link, i))
            first = taken.setdefault(vif, p.at)
            if first is not p.at:
                what = f"The vif {quote(vif[1])} of {quote(end.sliver)} is already there (line {first[0]})."
                hint = f"name this end's vif: '{end.sliver}:eth1'"
                mistakes.add(p.ends[i].value["sliver"].at, what, hint)
