"""The `probes` and `traffic` sections of an experiment file."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from vini.experiment import probes
from vini.experiment.keys import PROBE
from vini.experiment.places import Places
from vini.experiment.probes import AnyProbe
from vini.text.mistakes import quote
from vini.text.schema import Fields, Found

KINDS: dict[str, type[Any]] = {
    "ping": probes.Ping,
    "iperf3": probes.Iperf3,
    "udp": probes.Udp,
    "traceroute": probes.Traceroute,
    "path": probes.Path,
    "routes": probes.Routes,
    "capture": probes.Capture,
    "counters": probes.Counters,
}
# key of the file -> field of the probe
FIELDS = {
    "from": "source", "to": "destination", "every": "every_s", "wait": "wait_s", "slivers": "of", "size": "size",
    "window": "window", "sliver": "sliver", "vif": "vif", "filter": "filter", "snap": "snap",
}  # fmt: skip


def read_probes(found: Found | None, places: Places) -> dict[str, AnyProbe]:
    """Name -> probe; wrong ones are noted and left out."""
    out: dict[str, AnyProbe] = {}
    given: Fields = found.value if found else {}
    for name, one, after in zip_longest(given, given.values(), list(given.values())[1:]):
        if probe := _read(name, one, after, places):
            out[name] = probe
    return out


def _read(name: str, one: Found, after: Found | None, places: Places) -> AnyProbe | None:
    before = len(places.mistakes.found)
    given: Fields = one.value
    if len(given) != 1:
        if given or places.blank("a probe", one, after):
            kinds = ", ".join(PROBE.keys)
            places.mistakes.add(one.at, f"Probe {quote(name)} must have one kind.", f"one of: {kinds}")
        return None
    (kind, section), *_ = given.items()
    fields: Fields = section.value or {}
    values = {_field(kind, key): _value(key, f, fields, places) for key, f in fields.items()}
    if {"from", "to"} <= fields.keys() and fields["from"].value == fields["to"].value:
        places.mistakes.add(fields["to"].at, f"Probe {quote(name)} goes from a sliver to itself.", "name another")
    if len(places.mistakes.found) > before or any(k.required and n not in fields for n, k in _keys(kind).items()):
        return None
    probe: AnyProbe = KINDS[kind](**values)
    return probe


def _keys(kind: str) -> dict[str, Any]:
    section = PROBE.keys[kind].kind
    return section.keys  # type: ignore[union-attr]


def _field(kind: str, key: str) -> str:
    if key == "rate":
        return "rate" if kind == "udp" else "rate_mbit"
    return FIELDS[key]


def _value(key: str, found: Found, fields: Fields, places: Places) -> Any:
    if key in ("from", "to", "sliver"):
        return places.sliver(found)
    if key == "slivers":
        return places.slivers(found)
    if key == "vif" and "sliver" in fields:
        return places.vif(fields["sliver"].value, found)
    return found.value
