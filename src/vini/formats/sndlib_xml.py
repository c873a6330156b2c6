"""SNDlib's XML format (http://sndlib.zib.de/html/docu/io-formats/xml/index.html)."""

from __future__ import annotations

from vini.formats.imported import Imported, refused
from vini.formats.sndlib import SndLink, SndNetwork, SndNode, to_imported
from vini.formats.xml_tree import Element, parse_xml
from vini.formats.zoo import to_number
from vini.model import Routing


def read_sndlib_xml(text: str, name: str, routing: Routing | None) -> Imported:
    """An SNDlib network file in XML, called `name` since the format holds no name."""
    root = parse_xml(text)
    structure = root.first("networkStructure")
    nodes = structure.first("nodes") if structure else None
    if structure is None or nodes is None:
        raise refused("This SNDlib file has no nodes.", "<network> holds <networkStructure> with <nodes>", root.line)
    links, demands = structure.first("links"), root.first("demands")
    demanded = demands.named("demand") if demands else []
    network = SndNetwork(
        name,
        tuple(_node(e) for e in nodes.named("node")),
        tuple(_link(e) for e in links.named("link")) if links else (),
        len(demanded),
        sum(e.first("admissiblePaths") is not None for e in demanded),
        {"geographical": True, "pixel": False}.get(nodes.attributes.get("coordinatesType", "")),
    )
    return to_imported(network, routing)


def _node(element: Element) -> SndNode:
    at = element.first("coordinates")
    if at is None:
        return SndNode(_id(element), line=element.line)
    return SndNode(_id(element), _number(at, "x"), _number(at, "y"), element.line)


def _link(element: Element) -> SndLink:
    source, target = element.value("source"), element.value("target")
    if not source or not target:
        raise refused("This link has no source or no target.", line=element.line)
    installed, additional = element.first("preInstalledModule"), element.first("additionalModules")
    return SndLink(
        _id(element),
        source,
        target,
        _number(installed, "capacity") if installed and installed.first("capacity") else 0.0,
        _number(element, "routingCost") if element.first("routingCost") else 0.0,
        len(additional.named("addModule")) if additional else 0,
        element.line,
    )


def _id(element: Element) -> str:
    if not (name := element.attributes.get("id", "")):
        raise refused(f"This <{element.tag}> has no id.", line=element.line)
    return name


def _number(element: Element, tag: str) -> float:
    number = to_number(element.value(tag))
    if number is None:
        raise refused(f"<{tag}> should hold a number.", line=element.line)
    return number
