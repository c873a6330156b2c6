"""The `timeline` section of an experiment file."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

from vini.experiment.actions import AnyAction, Exec, Fail, Reroute, Restore, Shape, Start, Stop
from vini.experiment.keys import ACTIONS
from vini.experiment.places import Places
from vini.experiment.timeline import Event
from vini.text.mistakes import Mistakes, quote
from vini.text.schema import Fields, Found
from vini.topology import ReadFile
from vini.topology.impairments import impairment_fields
from vini.topology.keys import IMPAIRMENTS

INTENT = {"protocols": "protocols", "daemon": "daemon", "hello": "hello_s", "dead": "dead_s", "bfd": "bfd"}


def read_timeline(
    found: Found | None,
    places: Places,
    duration_s: float,
    probes: frozenset[str],
    traffic: frozenset[str],
    read_file: ReadFile,
) -> tuple[Event, ...]:
    """The events; wrong ones are noted and left out.  `read_file` gives the text of a trace."""
    reader = _Reader(places, duration_s, probes, traffic, read_file)
    all_: list[Found] = found.value if found else []
    events = [reader.event(one, after) for one, after in zip_longest(all_, all_[1:])]
    return tuple(e for e in events if e)


class _Reader:
    def __init__(
        self,
        places: Places,
        duration_s: float,
        probes: frozenset[str],
        traffic: frozenset[str],
        read_file: ReadFile,
    ):
        self.places, self.duration_s, self.probes, self.traffic = places, duration_s, probes, traffic
        self.read_file = read_file
        self.mistakes: Mistakes = places.mistakes

    def event(self, one: Found, after: Found | None) -> Event | None:
        fields: Fields = one.value
        given = [name for name in ACTIONS if name in fields]
        self._check_moment(one, fields)
        if len(given) != 1:
            what = f"An event has one action, but this has {len(given)}." if given else "This event has no action."
            if given or self.places.blank("an event", one, after):
                self.mistakes.add(one.at, what, f"one of: {', '.join(ACTIONS)}")
            return None
        action = self._action(given[0], fields[given[0]])
        if action is None:
            return None
        return Event(
            action=action,
            at_s=_get(fields, "at", 0.0),
            every_s=_get(fields, "every", 0.0),
            times=_get(fields, "times", 0),
            after=_get(fields, "after", ""),
        )

    def _check_moment(self, one: Found, fields: Fields) -> None:
        if not fields.keys() & {"at", "every", "after"}:
            hint = "add 'at: 10s', 'every: 5s' or 'after: converged'"
            self.mistakes.add(one.at, "This event does not say when.", hint)
        if "after" in fields and fields.keys() & {"at", "every"}:
            self.mistakes.add(fields["after"].key_at, "'after' stands alone.", "remove 'at' and 'every'")
        if "times" in fields and "every" not in fields:
            self.mistakes.add(fields["times"].key_at, "'times' needs 'every'.", "add 'every: 5s'")
        if "at" in fields and self.duration_s and fields["at"].value >= self.duration_s:
            what = f"The run ends at {self.duration_s:g} s, before this event."
            self.mistakes.add(fields["at"].at, what, "make 'duration' longer")

    def _action(self, name: str, found: Found) -> AnyAction | None:
        fields: Fields = found.value
        match name:
            case "fail" | "restore":
                link = self.places.link(fields["link"]) if "link" in fields else None
                if link is None:
                    return None
                return Fail(link, _get(fields, "how", "silent")) if name == "fail" else Restore(link)
            case "shape":
                return self._shape(found, fields)
            case "routing":
                return self._reroute(found, fields)
            case "exec":
                if not {"sliver", "run"} <= fields.keys():
                    return None
                return Exec(self.places.sliver(fields["sliver"]), fields["run"].value)
            case _:
                return self._traffic(name, fields)

    def _shape(self, found: Found, fields: Fields) -> Shape | None:
        wishes = impairment_fields(fields, self.read_file, self.mistakes)
        if not wishes:
            self.mistakes.add(found.at, "Nothing about the link changes.", f"add one of: {', '.join(IMPAIRMENTS)}")
        one_way = {"from", "to"} <= fields.keys()
        if ("link" in fields) == one_way or (not one_way and fields.keys() & {"from", "to"}):
            hint = "write 'link: [a, b]', or 'from: a' and 'to: b' for one direction"
            self.mistakes.add(found.at, "It must say which link.", hint)
            return None
        link = self.places.ends(fields["from"], fields["to"]) if one_way else self.places.link(fields["link"])
        return Shape(link, one_way, wishes) if link else None

    def _reroute(self, found: Found, fields: Fields) -> Reroute | None:
        wishes = {INTENT[k]: _plain(f.value) for k, f in fields.items() if k in INTENT}
        if ("link" in fields) == ("sliver" in fields):
            self.mistakes.add(found.at, "It must say whose routing.", "write 'link: [a, b]', or 'sliver: a'")
            return None
        if not wishes and "cost" not in fields:
            self.mistakes.add(found.at, "Nothing about routing changes.", f"add one of: cost, {', '.join(INTENT)}")
            return None
        cost = _get(fields, "cost", None)
        if "sliver" in fields:
            return Reroute(None, self.places.sliver(fields["sliver"]), cost, wishes)
        if wishes:
            self.mistakes.add(found.at, "Of a link only the cost changes.", "name a 'sliver' for its routing intent")
        link = self.places.link(fields["link"])
        return Reroute(link, "", cost) if link else None

    def _traffic(self, name: str, fields: Fields) -> AnyAction | None:
        if "traffic" not in fields:
            return None
        found = fields["traffic"]
        known = self.traffic if name == "start" else self.traffic | self.probes
        if found.value not in known:
            where = "'traffic:'" if name == "start" else "'traffic:' or 'probes:'"
            what = f"There is no {quote(found.value)} in {where}."
            self.mistakes.unknown(found.at, what, found.value, known)
        return Start(found.value) if name == "start" else Stop(found.value)


def _get(fields: Fields, key: str, default: Any) -> Any:
    return fields[key].value if key in fields else default


def _plain(value: Any) -> Any:
    return tuple(f.value for f in value) if isinstance(value, list) else value
