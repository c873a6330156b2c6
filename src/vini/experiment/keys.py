"""The experiment file's format: every key, what it takes and what it means.

The reader, the JSON Schema and the check of `docs/reference/experiment.md` all read this table.
"""

from __future__ import annotations

import re
from functools import partial

from vini.text import units
from vini.text.mistakes import Wrong, quote
from vini.text.schema import Either, Json, Key, ListOf, MapOf, Section, Text, integer, json_schema, words
from vini.topology.keys import COST, IMPAIRMENTS, ROUTING, TOPOLOGY
from vini.topology.scalars import COMMAND, REFERENCE, SLICE_NAME, VIF_NAME

BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20}


def _read_window(text: str) -> int:
    """Bytes as iperf3 writes them: 16k is 16384."""
    found = re.fullmatch(r"([0-9]{1,9})([km]?)", text.lower())
    if not found:
        raise Wrong(f"{quote(text)} is not a number of bytes.", "write it like 16k or 16384")
    return int(found[1]) * BYTES[found[2]]


def _read_pace(text: str) -> float:
    """Datagrams per second: 1000/s."""
    found = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)/s", text)
    if not found:
        raise Wrong(f"{quote(text)} is not a pace.", "write it like 1000/s")
    if not 0.1 <= float(found[1]) <= 20_000:
        raise Wrong(f"The pace {quote(text)} is out of range.", "it must be in 0.1/s..20000/s")
    return float(found[1])


def _read_path(text: str) -> str:
    if not text.strip() or "\0" in text:
        raise Wrong("'topology' names no file.", "write it like 'topology: abilene.yaml'")
    return text


def _duration(low: float, high: float = 86_400.0) -> Text:
    return Text(partial(units.read_s, low=low, high=high), {"type": "string", "pattern": units.DURATION})


def _read_settle(text: str) -> float | None:
    """None: converged."""
    return None if text == "converged" else units.read_s(text)


MOMENT = _duration(0.0)
SETTLE = Text(_read_settle, {"anyOf": [{"const": "converged"}, {"type": "string", "pattern": units.DURATION}]})
EVERY = _duration(0.01, 3_600.0)
SLOW_EVERY = _duration(0.1, 3_600.0)
ENDS = {
    "from": Key(REFERENCE, "The sliver that sends.", required=True),
    "to": Key(REFERENCE, "The sliver that receives and answers.", required=True),
}
LINK = Key(
    Either((ListOf(REFERENCE), Text(str, {"type": "string"}))),
    "The link: its two slivers `[a, b]`, or its name (for one of parallel links).",
    required=True,
)
OF = Key(ListOf(REFERENCE, lone=True), "Only these slivers; default: all.")

PING = Section(
    "a ping probe",
    {
        **ENDS,
        "every": Key(EVERY, "Interval, 10ms..1h; default 200ms."),
        "size": Key(integer(16, 65_507), "Bytes of payload; default 56."),
    },
)
IPERF3 = Section(
    "an iperf3 probe",
    {
        **ENDS,
        "window": Key(
            Text(_read_window, {"type": ["string", "integer"]}), "Socket buffers, iperf3's -w; default: tuned."
        ),
        "every": Key(SLOW_EVERY, "Interval of the report, 100ms..1h; default 500ms."),
        "rate": Key(Text(units.read_mbit, {"type": "string", "pattern": units.RATE}), "Pace; default: all TCP gets."),
    },
)
UDP = Section(
    "a udp probe",
    {
        **ENDS,
        "rate": Key(Text(_read_pace, {"type": "string", "pattern": "/s$"}), "Datagrams per second; default 100/s."),
        "size": Key(integer(16, 65_507), "Bytes of payload; default 200."),
    },
)
TRACEROUTE = Section(
    "a traceroute probe",
    {
        **ENDS,
        "every": Key(SLOW_EVERY, "Interval, 100ms..1h; default 1s."),
        "wait": Key(_duration(0.05, 60.0), "How long to wait for a hop's answer; default 800ms."),
    },
)
PATH = Section("a path probe", {**ENDS, "every": Key(EVERY, "Interval, 10ms..1h; default 200ms.")})
ROUTES = Section("a routes probe", {"slivers": OF, "every": Key(SLOW_EVERY, "Interval, 100ms..1h; default 1s.")})
COUNTERS = Section("a counters probe", {"slivers": OF, "every": Key(SLOW_EVERY, "Interval, 100ms..1h; default 1s.")})
CAPTURE = Section(
    "a capture probe",
    {
        "sliver": Key(REFERENCE, "The sliver.", required=True),
        "vif": Key(VIF_NAME, "Its vif, such as to-denver.", required=True),
        "filter": Key(Text(str, {"type": "string"}), "A pcap filter; default: all packets."),
        "snap": Key(integer(0, 65_535), "Bytes kept of each packet; default 0, all."),
    },
)
PROBE = Section(
    "a probe",
    {
        "ping": Key(PING, "Round-trip times as a series; lost ones with their times."),
        "iperf3": Key(IPERF3, "Goodput of one TCP connection."),
        "udp": Key(UDP, "A numbered stream: exact loss, longest gap, one-way delay, jitter."),
        "traceroute": Key(TRACEROUTE, "Hops that answer, round after round."),
        "path": Key(PATH, "The exact way there and back, from forwarding tables."),
        "routes": Key(ROUTES, "Changes of the forwarding tables."),
        "capture": Key(CAPTURE, "Packets of one vif, as pcap file."),
        "counters": Key(COUNTERS, "Packets and bytes of every vif."),
    },
)

FAIL = Section(
    "a fail action",
    {"link": LINK, "how": Key(words("silent", "carrier"), "Packets vanish, or the carrier goes; default silent.")},
    short="link",
)
RESTORE = Section("a restore action", {"link": LINK}, short="link")
SHAPE = Section(
    "a shape action",
    {
        "link": Key(LINK.kind, "The link, in both directions."),
        "from": Key(REFERENCE, "With `to`: one direction only."),
        "to": Key(REFERENCE, "The other end."),
        **IMPAIRMENTS,
    },
)
REROUTE = Section(
    "a routing action",
    {
        "link": Key(LINK.kind, "The link whose cost changes."),
        "sliver": Key(REFERENCE, "The sliver whose routing changes; with `cost`, all its vifs."),
        "cost": COST,
        **{k: ROUTING.keys[k] for k in ("protocols", "daemon", "hello", "dead", "bfd")},
    },
)
EXEC = Section(
    "an exec action",
    {
        "sliver": Key(REFERENCE, "Where.", required=True),
        "run": Key(COMMAND, "A shell command line; its output goes to the run's logs.", required=True),
    },
)
TRAFFIC = Section("a start or stop action", {"traffic": Key(REFERENCE, "Its name.", required=True)}, short="traffic")
ACTIONS = {
    "fail": Key(FAIL, "A link fails."),
    "restore": Key(RESTORE, "A failed link works again."),
    "shape": Key(SHAPE, "A link's impairments change; what is not named stays."),
    "routing": Key(REROUTE, "Routing is reconfigured."),
    "exec": Key(EXEC, "A command runs in a sliver."),
    "start": Key(TRAFFIC, "Traffic begins."),
    "stop": Key(TRAFFIC, "Traffic, or a probe, ends early."),
}
EVENT = Section(
    "an event",
    {
        "at": Key(MOMENT, "Time since t = 0; with `every`, of the first."),
        "every": Key(SLOW_EVERY, "Again and again at this interval; from the start, or from `at`."),
        "times": Key(integer(1, 10_000), "How many times; default: until the end."),
        "after": Key(words("converged"), "Once the slice has settled again after the event before this one."),
        **ACTIONS,
    },
)
EXPERIMENT = Section(
    "an experiment",
    {
        "name": Key(SLICE_NAME, "Its name; default: the file's."),
        "topology": Key(
            Either((Text(_read_path, {"type": "string"}), TOPOLOGY)),
            "The topology: a file, relative to this one, or a mapping.",
            required=True,
        ),
        "routing": Key(
            Section("a routing override", {k: v for k, v in ROUTING.keys.items() if k not in ("announce", "raw")}),
            "Routing intent that overrides the topology's, in every sliver that routes.",
        ),
        "seed": Key(integer(0, 2**31 - 1), "For what is drawn at random; recorded, part of the run's name; default 0."),
        "duration": Key(_duration(0.1), "How long it measures, from t = 0.", required=True),
        "settle": Key(SETTLE, "What t = 0 waits for: `converged` (default), or a duration."),
        "patience": Key(_duration(1.0), "How long `settle: converged` may take; default 120s."),
        "calm": Key(MOMENT, "Converged means too that no route has changed for this long; default 6s."),
        "check_links": Key(
            words("off", "light", "load"),
            "Measure before t = 0 what shaped links give: `light` (default, about 2 s), under `load`, or not.",
        ),
        "timeline": Key(ListOf(EVENT), "What happens, and when."),
        "probes": Key(MapOf(SLICE_NAME, PROBE), "What is measured, from t = 0 to the end; by names of your choice."),
        "traffic": Key(MapOf(SLICE_NAME, PROBE), "As probes, but begun by a `start` action."),
    },
)
SECTIONS = (
    EXPERIMENT, EVENT, FAIL, RESTORE, SHAPE, REROUTE, EXEC, TRAFFIC, PROBE,
    PING, IPERF3, UDP, TRACEROUTE, PATH, ROUTES, CAPTURE, COUNTERS,
)  # fmt: skip


def schema() -> Json:
    """The format's JSON Schema (draft 2020-12), from the declaration that `load` reads by."""
    return json_schema(EXPERIMENT, "VINI experiment", "experiment.schema.json")
