"""The slivers of a topology file, resolved: every default is in its sliver."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vini import daemons
from vini.model import (
    PROTOCOLS,
    SPEAKS,
    Bound,
    Command,
    Link,
    Place,
    Program,
    Resources,
    Routing,
    Sliver,
    StaticRoute,
    Traffic,
)
from vini.text import units
from vini.text.mistakes import Mark, Mistakes, quote
from vini.text.schema import Fields, Found
from vini.topology.impairments import ReadFile
from vini.topology.keys import SLIVER_PROPERTIES
from vini.topology.merge import inherit, overlay, section
from vini.topology.programs import read_program
from vini.topology.switches import NOT_OF_A_SWITCH, Versions, neighbors

DEFAULT_ROUTES = {4: "0.0.0.0/0", 6: "::/0"}


def sliver_names(root: Fields) -> dict[str, Found]:
    """Each sliver's own fields, by name; the list form has none."""
    found = root.get("slivers")
    if found is None:
        return {}
    if isinstance(found.value, dict):
        return found.value
    return {str(f.value): Found({}, f.at, f.at) for f in found.value}


def check_list(root: Fields, mistakes: Mistakes) -> None:
    """In the list form a name may stand once (in a mapping YAML itself sees to that)."""
    first: dict[str, Mark] = {}
    found = root.get("slivers")
    for f in found.value if found and isinstance(found.value, list) else ():
        if first.setdefault(f.value, f.at) != f.at:
            what = f"The sliver {quote(f.value)} is already there on line {first[f.value][0]}."
            mistakes.add(f.at, what, "remove one of them")


def read_slivers(
    root: Fields, links: Iterable[Link], switches: frozenset[str], read_file: ReadFile, mistakes: Mistakes
) -> dict[str, Sliver]:
    """All slivers, by name, with what they inherit."""
    defaults = section(section(root, "defaults"), "sliver")
    if "routing" in root:
        defaults = overlay({"routing": root["routing"]}, defaults)
    groups, allowed = section(root, "groups"), frozenset(SLIVER_PROPERTIES)
    inherited = {
        name: inherit(found.value, defaults, groups, allowed, mistakes) for name, found in sliver_names(root).items()
    }
    there = neighbors(links, switches, {name for name, fields in inherited.items() if "routes" in fields})
    slivers = {}
    for name, found in sliver_names(root).items():
        fields = inherited[name]
        if name in switches:
            fields = {key: f for key, f in fields.items() if key not in NOT_OF_A_SWITCH}
        _check_resources(found.value or {}, fields, mistakes)
        _check_volumes(found.value or {}, fields, mistakes)
        program = read_program(fields.get("program"), read_file, mistakes)
        slivers[name] = _sliver(name, fields, found.key_at, there.get(name, {}), program, mistakes)
    return slivers


def _sliver(
    name: str, fields: Fields, at: Mark, there: Versions, program: Program | None, mistakes: Mistakes
) -> Sliver:
    plain = (
        "forward", "node", "site", "apart", "label", "image", "initscript", "mode", "runtime", "expected", "outside",
        "state", "restarts", "resets",
    )  # fmt: skip
    optional: dict[str, Any] = {k: fields[k].value for k in plain if k in fields}
    volumes = _volumes(fields)
    return Sliver(
        name,
        routing=_routing(name, fields.get("routing"), at, mistakes),
        addresses=tuple(a.value for a in fields["addresses"].value) if "addresses" in fields else (),
        routes=_routes(name, fields, there, mistakes),
        files=_texts(fields, "files"),
        environment=_texts(fields, "environment"),
        commands=_commands(fields),
        place=_place(fields.get("place"), mistakes),
        program=program,
        resources=_resources(fields),
        network=_network(fields, mistakes),
        volumes={name: at for name, (at, _) in volumes.items()},
        bounds={name: bound for name, (_, bound) in volumes.items() if bound},
        **optional,
    )


def _texts(fields: Fields, key: str) -> dict[str, str]:
    return {name: f.value for name, f in section(fields, key).items() if isinstance(f.value, str)}


def _volumes(fields: Fields) -> dict[str, tuple[str, Bound | None]]:
    own = section(fields, "volumes") if _is_container(fields) else {}
    return {name: (f.value["at"].value, _bound(f.value)) for name, f in own.items() if "at" in (f.value or {})}


def _bound(volume: Fields) -> Bound | None:
    if "size" not in volume:
        return None
    return Bound(volume["size"].value, volume["inodes"].value if "inodes" in volume else 0)


def _commands(fields: Fields) -> tuple[Command, ...]:
    found = [f.value for f in fields["commands"].value] if "commands" in fields else []
    return tuple(Command(f["run"].value, f["service"].value if "service" in f else False) for f in found if "run" in f)


_RESOURCES = {
    "weight": "cpu_weight", "cores": "cores", "memory": "memory_mb", "memory_high": "memory_high_mb", "pids": "pids",
    "reserve": "reserve", "disk": "disk_mb", "inodes": "inodes", "disk_read": "disk_read_mb",
    "disk_write": "disk_write_mb", "memory_reserve": "memory_reserve_mb", "io_weight": "io_weight",
}  # fmt: skip


def _check_resources(own: Fields, fields: Fields, mistakes: Mistakes) -> None:
    """A sliver that is made `light` may inherit the resources of those that are not."""
    inherits = "runtime" in fields and "resources" not in own
    if "resources" in fields and not _is_container(fields) and not inherits:
        what = "Only a container's resources are bounded."
        mistakes.add(fields["resources"].key_at, what, "add 'runtime: container'")
    asked = section(fields, "resources")
    if {"reserve", "cores"} <= section(own, "resources").keys():  # an inherited `cores` gives way
        what = "What has cores reserved takes these and no more, so `cores` says nothing."
        mistakes.add(asked["cores"].key_at, what, "leave 'cores' or 'reserve' out")
    own_mb, most_mb = (section(fields, "resources").get(key) for key in ("memory_reserve", "memory"))
    most = most_mb.value if most_mb else Resources().memory_mb
    if own_mb and isinstance(own_mb.value, int) and isinstance(most, int) and own_mb.value > most:
        what = f"What may take {most} MB of memory can't have {own_mb.value} MB reserved."
        mistakes.add(own_mb.key_at, what, "raise 'memory', or reserve less")
    for key in ("inodes", "disk_read", "disk_write"):
        if key in asked and "disk" not in asked:
            mistakes.add(asked[key].key_at, f"`{key}` bounds a disk, and there is none.", "add 'disk: 1GB'")


_NETWORK = {"min": "min_mbit", "max": "max_mbit", "weight": "weight", "daily": "daily_mb"}


def _network(fields: Fields, mistakes: Mistakes) -> Traffic:
    own = section(fields, "network")
    asked = Traffic(**{field: own[key].value for key, field in _NETWORK.items() if key in own})
    if 0 < asked.max_mbit < asked.min_mbit:
        what = (
            f"What is its own ({units.rate(asked.min_mbit)}) is more than it may have ({units.rate(asked.max_mbit)})."
        )
        mistakes.add(own["min"].at, what, f"write 'max: {units.rate(asked.min_mbit)}'")
    return asked


def _check_volumes(own: Fields, fields: Fields, mistakes: Mistakes) -> None:
    """As of resources, one that is light may inherit them."""
    if "volumes" in own and not _is_container(fields):
        mistakes.add(fields["volumes"].key_at, "Only a container has volumes.", "add 'runtime: container'")
    where: set[str] = set()
    for volume in section(fields, "volumes").values():
        if (found := (volume.value or {}).get("at")) is None:
            continue  # noted by the reader
        if str(found.value) in where:
            mistakes.add(found.at, f"There is already a volume at {found.value}.", "keep one of the two")
        where.add(str(found.value))
        if "inodes" in volume.value and "size" not in volume.value:
            what = "`inodes` bounds a volume that has a size, and this has none."
            mistakes.add(volume.value["inodes"].key_at, what, "add 'size: 1GB'")


def _is_container(fields: Fields) -> bool:
    return "runtime" in fields and fields["runtime"].value == "container"


def _resources(fields: Fields) -> Resources:
    own = section(fields, "resources") if _is_container(fields) else {}
    return Resources(**{field: own[key].value for key, field in _RESOURCES.items() if key in own})


def _place(found: Found | None, mistakes: Mistakes) -> Place | None:
    if found is None:
        return None
    degrees = [f.value for f in found.value]
    if len(degrees) != 2:
        mistakes.add(found.at, f"A place has two numbers, this one has {len(degrees)}.", "write [latitude, longitude]")
        return None
    if abs(degrees[0]) > 90:
        mistakes.add(found.at, f"The latitude {degrees[0]:g} is out of range.", "write [latitude, longitude]")
    return Place(degrees[0], degrees[1])


# --- routing ----------------------------------------------------------------------------------

ROUTING_FIELDS = {"daemon": "daemon", "hello": "hello_s", "dead": "dead_s", "area": "area", "asn": "asn", "bfd": "bfd"}
TIMERS = ("dead", "hello")


def _routing(name: str, found: Found | None, at: Mark, mistakes: Mistakes) -> Routing | None:
    if found is None or found.value is None:
        return None
    fields: Fields = found.value
    plain: dict[str, Any] = {
        field: fields[key].value
        for key, field in ROUTING_FIELDS.items()
        if key in fields and not (key in TIMERS and isinstance(fields[key].value, str))  # a wrong one, and noted
    }
    for key in ("protocols", "announce"):
        if key in fields:
            plain[key] = tuple(f.value for f in fields[key].value)
    raw = {file: f.value for file, f in section(fields, "raw").items() if isinstance(f.value, str)}
    routing = Routing(raw=raw, **plain)
    _check_routing(name, routing, found, at, mistakes)
    return routing


def _check_routing(name: str, routing: Routing, found: Found, at: Mark, mistakes: Mistakes) -> None:
    fields: Fields = found.value
    protocols = fields.get("protocols")
    if not routing.protocols and not routing.raw:
        hint = "add 'protocols: [ospf]', or write 'routing: none'"
        mistakes.add(found.at, "This routing section names no protocols.", hint)
    timers = [fields[key] for key in TIMERS if key in fields]
    if timers and all(isinstance(t.value, float) for t in timers) and routing.dead_s <= routing.hello_s:
        what = f"The dead interval ({routing.dead_s:g}s) must be longer than hello ({routing.hello_s:g}s)."
        mistakes.add(timers[0].at, what, f"write 'dead: {4 * routing.hello_s:g}s'")
    for f in protocols.value if protocols else ():
        if f.value in PROTOCOLS and f.value not in daemons.speaks(routing.daemon):
            has = ", ".join(sorted(daemons.speaks(routing.daemon)))
            other = next(d for d in SPEAKS if f.value in SPEAKS[d])
            hint = f"write 'daemon: {other}', which does; {routing.daemon} speaks {has}"
            mistakes.add(f.at, f"The daemon {routing.daemon} does not speak {f.value}.", hint)
    if "bgp" in routing.protocols and not routing.asn:
        mistakes.add(at, f"{quote(name)} speaks bgp but has no asn.", "write 'routing: {asn: 65001}' in the sliver")
    if len(set(routing.protocols)) < len(routing.protocols) and protocols:
        mistakes.add(protocols.at, "A protocol is named twice.", "name each once")


# --- static routes ----------------------------------------------------------------------------


def _routes(name: str, fields: Fields, there: Versions, mistakes: Mistakes) -> tuple[StaticRoute, ...]:
    routes: dict[str, StaticRoute] = {}
    for found in fields["routes"].value if "routes" in fields else ():
        if "to" not in found.value or "via" not in found.value:
            continue  # noted by the reader
        to, via = found.value["to"], found.value["via"]
        for route in _resolve(name, to, via, there, mistakes):
            if route.to in routes:
                mistakes.add(to.at, f"There is already a route to {route.to}.", "keep one of the two")
            routes[route.to] = route
    return tuple(routes.values())


def _resolve(name: str, to: Found, via: Found, there: Versions, mistakes: Mistakes) -> list[StaticRoute]:
    """The routes that one line stands for: `default` by way of a neighbour is one for each IP version."""
    if _is_address(via.value):
        versions = frozenset((_version(via.value),))
    elif via.value in there:
        versions = there[via.value]
    else:
        what = f"{quote(name)} has no link to {quote(via.value)}, so no route can go there."
        mistakes.unknown(via.at, what, via.value, there)
        return []
    if to.value == "default":
        return [StaticRoute(DEFAULT_ROUTES[v], via.value) for v in sorted(versions)]
    if _version(to.value) not in versions:
        what = f"The route to {to.value} goes by way of {via.value}, which has no IPv{_version(to.value)} address."
        mistakes.add(via.at, what, "take a next hop of the same IP version")
    return [StaticRoute(to.value, via.value)]


def _is_address(text: str) -> bool:
    """Of an address or a sliver's name; a name has neither ':' nor '.'."""
    return ":" in text or "." in text


def _version(address: str) -> int:
    return 6 if ":" in address else 4
