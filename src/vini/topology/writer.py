"""Topology to text: readable YAML that parses back to an equal value, in short forms where they say it all."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import yaml

from vini.model import (
    Bound,
    End,
    Expect,
    Impairment,
    Link,
    Program,
    Resources,
    Routing,
    Sliver,
    Topology,
    Traffic,
)  # fmt: skip
from vini.text import units
from vini.topology.impairments import impairment_keys

WIDTH = 120
FOLDED = re.compile("[\r\x85\u2028\u2029]")  # line breaks that YAML turns into others unless they are escaped
Written = dict[str, Any]


class _Dumper(yaml.SafeDumper):
    """No aliases; "nothing to say" is written as nothing; a text of several lines as a block."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, indentless=False)  # list items stand under their key, indented


class _Quick(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """The same by libyaml where that is, four times as fast; it does not indent the items of lists."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _represent_none(dumper: yaml.SafeDumper, _: None) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:null", "")


def _represent_str(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = '"' if FOLDED.search(text) else "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


class _OneLine(dict[str, Any]):
    """A mapping to be written as {...}, though a list is in it."""


class _Lines(list[Any]):
    """A list to be written with one item on a line."""


def _represent_lines(dumper: yaml.SafeDumper, items: _Lines) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=False)


def _represent_one_line(dumper: yaml.SafeDumper, mapping: _OneLine) -> yaml.Node:
    return dumper.represent_mapping("tag:yaml.org,2002:map", mapping.items(), flow_style=True)


for _dumper in (_Dumper, _Quick):
    _dumper.add_representer(type(None), _represent_none)
    _dumper.add_representer(_OneLine, _represent_one_line)
    _dumper.add_representer(_Lines, _represent_lines)
    _dumper.add_representer(str, _represent_str)


def dump(topology: Topology, quick: bool = False) -> str:
    """Readable YAML for which `parse(dump(t)) == t`; the slice's most frequent routing is said once.

    `quick`: for a program that reads it at once; less well indented.
    """
    usual = _usual_routing(topology)
    written: Written = {"name": topology.name}
    if usual is not None:
        written["routing"] = _short_routing(_OneLine(_differences(usual, Routing())))
    slivers = {name: _one_line(_sliver(s, usual)) for name, s in topology.slivers.items()}
    written["slivers"] = {n: s or None for n, s in slivers.items()} if any(slivers.values()) else list(slivers)
    if topology.links:
        written["links"] = _Lines(_link(link) for link in topology.links)
    if topology.expect:
        written["expect"] = "all" if topology.expect == (Expect(),) else [_expect(e) for e in topology.expect]
    if topology.substrate != "mirror":
        written["substrate"] = topology.substrate
    if topology.tunnel:
        written["tunnel"] = topology.tunnel
    dumper = _Quick if quick else _Dumper
    return yaml.dump(written, Dumper=dumper, sort_keys=False, default_flow_style=None, width=WIDTH, allow_unicode=True)


def _one_line(written: Written) -> Written:
    """As {...} where it has no mapping and no text of several lines inside."""
    return written if any(map(_long, written.values())) else _OneLine(written)


def _long(value: Any) -> bool:
    if isinstance(value, str):
        return "\n" in value
    if isinstance(value, dict):
        return not isinstance(value, _OneLine)
    return isinstance(value, list) and not all(map(_short, value))


def _short(item: Any) -> bool:
    return not isinstance(item, dict) and len(str(item)) < 30 and "\n" not in str(item)


# --- routing ----------------------------------------------------------------------------------

SHARED = ("protocols", "daemon", "hello_s", "dead_s", "area", "bfd")  # the rest belongs to one sliver


def _usual_routing(topology: Topology) -> Routing | None:
    """What most slivers have in common, for the head of the file."""
    counted = Counter(_shared(s.routing) for s in topology.slivers.values() if s.routing and s.routing.protocols)
    return Routing(**dict(zip(SHARED, counted.most_common(1)[0][0], strict=True))) if counted else None


def _shared(routing: Routing) -> tuple[Any, ...]:
    return tuple(getattr(routing, field) for field in SHARED)


def _differences(routing: Routing, below: Routing) -> Written:
    """The keys in which `routing` differs from what it inherits; `protocols` is () where none are inherited."""
    write: dict[str, Any] = {
        "protocols": list,
        "daemon": str,
        "hello_s": units.duration_s,
        "dead_s": units.duration_s,
        "area": _area,
        "asn": int,
        "bfd": bool,
        "announce": list,
        "raw": dict,
    }
    return {
        field.removesuffix("_s"): to_text(getattr(routing, field))
        for field, to_text in write.items()
        if getattr(routing, field) != getattr(below, field)
    }


def _area(area: str) -> int | str:
    return int(area[6:]) if area.startswith("0.0.0.") else area


def _short_routing(written: Written) -> str | list[str] | Written:
    if written.keys() != {"protocols"}:
        return written
    protocols: list[str] = written["protocols"]
    return protocols[0] if len(protocols) == 1 else protocols


# --- slivers ----------------------------------------------------------------------------------


def _sliver(sliver: Sliver, usual: Routing | None) -> Written:
    written: Written = {}
    if sliver.label:
        written["label"] = sliver.label
    if sliver.place is not None:
        written["place"] = [sliver.place.latitude, sliver.place.longitude]
    if sliver.mode != "kernel":
        written["mode"] = sliver.mode
    for key in ("node", "site", "apart"):
        if getattr(sliver, key):
            written[key] = getattr(sliver, key)
    if sliver.routing is None and usual is not None and sliver.mode != "switch":
        written["routing"] = "none"
    elif sliver.routing is not None and (own := _differences(sliver.routing, usual or Routing())):
        written["routing"] = _short_routing(own)
    if not sliver.expected:
        written["expected"] = False
    if sliver.addresses:
        written["addresses"] = [a.split("/")[0] for a in sliver.addresses]
    if sliver.forward is not None:
        written["forward"] = sliver.forward
    if sliver.routes:
        written["routes"] = [{"to": r.to, "via": r.via} for r in sliver.routes]
    if sliver.runtime:
        written["runtime"] = sliver.runtime
    if sliver.resources != Resources():
        written["resources"] = _resources(sliver.resources)
    if sliver.network != Traffic():
        written["network"] = _network(sliver.network)
    if sliver.outside:
        written["outside"] = True
    if sliver.volumes:
        written["volumes"] = {n: _volume(at, sliver.bounds.get(n)) for n, at in sliver.volumes.items()}
    for key in ("state", "restarts", "resets"):
        if getattr(sliver, key) not in ("running", 0):
            written[key] = getattr(sliver, key)
    if sliver.image:
        written["image"] = sliver.image
    if sliver.files:
        written["files"] = dict(sliver.files)
    if sliver.environment:
        written["environment"] = dict(sliver.environment)
    if sliver.program is not None:
        written["program"] = _program(sliver.program)
    if sliver.initscript:
        written["initscript"] = sliver.initscript
    if sliver.commands:
        written["commands"] = [{"run": c.run, "service": True} if c.service else c.run for c in sliver.commands]
    return written


def _volume(at: str, bound: Bound | None) -> str | Written:
    if bound is None:
        return at
    inodes = {"inodes": bound.inodes} if bound.inodes else {}
    return _OneLine({"at": at, "size": units.memory(bound.mb), **inodes})


def _network(network: Traffic) -> Written:
    said = {
        "min": network.min_mbit and units.rate(network.min_mbit),
        "max": network.max_mbit and units.rate(network.max_mbit),
        "weight": network.weight if network.weight != Traffic().weight else 0,
        "daily": network.daily_mb and units.memory(network.daily_mb),
    }
    return _OneLine((key, value) for key, value in said.items() if value)


def _resources(resources: Resources) -> Written:
    usual = Resources()
    texts: Written = {
        "weight": resources.cpu_weight,
        "cores": resources.cores,
        "memory": units.memory(resources.memory_mb),
        "memory_high": units.memory(resources.memory_high_mb),
        "pids": resources.pids,
        "reserve": resources.reserve,
        "disk": units.memory(resources.disk_mb),
        "inodes": resources.inodes,
        "disk_read": units.disk_rate(resources.disk_read_mb),
        "disk_write": units.disk_rate(resources.disk_write_mb),
        "memory_reserve": units.memory(resources.memory_reserve_mb),
        "io_weight": resources.io_weight,
    }
    differs = [getattr(resources, f) != getattr(usual, f) for f in resources.__struct_fields__]
    return {key: text for (key, text), other in zip(texts.items(), differs, strict=True) if other}


# --- links ------------------------------------------------------------------------------------


def _program(program: Program) -> Written:
    """With its text: the file that it came from may be elsewhere."""
    written: Written = {"name": program.name} if program.name else {}
    written[program.kind] = program.text
    if program.hook != "auto":
        written["hook"] = program.hook
    if program.vifs:
        written["vifs"] = list(program.vifs)
    if program.budget_kpps:
        written["budget"] = program.budget_kpps
    if program.af_xdp:
        written["af_xdp"] = True
    return written


def _link(link: Link) -> str | Written:
    properties = _properties(link)
    if any(_end_properties(end, link.impairment) for end in link.ends):
        return {"ends": [_end(end, link.impairment) for end in link.ends], **properties}
    line = " -- ".join(_end_name(end) for end in link.ends)
    return {line: properties} if properties else line


def _properties(link: Link) -> Written:
    written: Written = {}
    if link.name:
        written["name"] = link.name
    if link.cost != 10:
        written["cost"] = link.cost
    written |= _impairment(link.impairment, Impairment())
    if link.mtu is not None:
        written["mtu"] = link.mtu
    if link.fault != "none":
        written["fault"] = link.fault
    if link.protocols is not None:
        written["protocols"] = list(link.protocols)
    if link.area:
        written["area"] = _area(link.area)
    return written


def _impairment(impairment: Impairment, below: Impairment) -> Written:
    written = impairment_keys(impairment, below)
    return {key: _OneLine(value) if isinstance(value, dict) else value for key, value in written.items()}


def _end_name(end: End) -> str:
    return f"{end.sliver}:{end.vif}" if end.vif else end.sliver


def _end(end: End, below: Impairment) -> str | Written:
    properties = _end_properties(end, below)
    if not properties:
        return _end_name(end)
    name = {"sliver": end.sliver, "vif": end.vif} if end.vif else {"sliver": end.sliver}
    return _one_line({**name, **properties})


def _end_properties(end: End, below: Impairment) -> Written:
    written: Written = {"addresses": list(end.addresses)} if end.addresses else {}
    if end.cost is not None:
        written["cost"] = end.cost
    if end.impairment is not None:
        # An end with the link's very values still has its own: one key says so.
        written |= _impairment(end.impairment, below) or {"delay": units.duration(end.impairment.delay_ms)}
    return written


def _expect(expect: Expect) -> Written:
    written: Written = {}
    if expect.source != "*":
        written["from"] = expect.source
    if expect.destination != "*":
        written["to"] = expect.destination
    if expect.within_s != 60.0:
        written["within"] = units.duration_s(expect.within_s)
    return written
