"""An experiment file, and the topology file that it names, to an `Experiment`; every mistake at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vini import names, nearby, topology
from vini.edit import set_routing
from vini.experiment.actions import Shape
from vini.experiment.keys import EXPERIMENT
from vini.experiment.places import Places
from vini.experiment.read_probe import read_probes
from vini.experiment.read_timeline import read_timeline
from vini.experiment.timeline import Event, Experiment
from vini.model import Mistake, Topology, TopologyError
from vini.text.mistakes import Mark, Mistakes
from vini.text.schema import Fields, Found, read
from vini.text.yamlplaces import Mapping
from vini.text.yamlplaces import load as load_yaml

RENAMED = {"hello": "hello_s", "dead": "dead_s"}
MAPPING = "start with 'topology: FILE' and 'duration: 30s'"


def load(path: Path) -> Experiment:
    """Read a file.  Raises TopologyError with all mistakes of it and of the topology file that it names."""
    text = _text(path, str(path), "give the path of an experiment file")
    return parse(text, path)


def parse(text: str, path: Path) -> Experiment:
    """The experiment that `text` describes; `path` names it in messages, and `topology:` is relative to it."""
    mistakes = Mistakes()
    node = load_yaml(text, mistakes)
    if not isinstance(node, Mapping):
        if not mistakes.found:
            mistakes.add(node.at if node else (0, 0), "An experiment file is a mapping.", MAPPING)
        raise mistakes.error(str(path))
    keys = {key.text: key for key, _ in node.items}
    if "slivers" in keys and "topology" not in keys:
        what = "This is a topology file: it has 'slivers'."
        mistakes.add(keys["slivers"].at, what, f"bring it up with 'vini up {path}'")
        raise mistakes.error(str(path))
    root = read(EXPERIMENT, node, mistakes, "experiment")
    fields: Fields = root.value if root else {}
    slice_, inputs, elsewhere = _topology(fields.get("topology"), path, mistakes)
    experiment = _experiment(fields, path, slice_, {path.name: text, **inputs}, mistakes)
    if mistakes.found or elsewhere:
        raise _error(path, mistakes, elsewhere)
    assert experiment is not None
    return experiment


def _experiment(
    fields: Fields, path: Path, slice_: Topology | None, inputs: dict[str, str], mistakes: Mistakes
) -> Experiment | None:
    places = Places(slice_, mistakes)
    probes = read_probes(fields.get("probes"), places)
    traffic = read_probes(fields.get("traffic"), places)
    for name in probes.keys() & traffic.keys():
        mistakes.add(fields["traffic"].value[name].key_at, f"There is a probe {name} too.", "rename one of the two")
    duration = fields["duration"].value if "duration" in fields else 0.0
    named = frozenset(probes), frozenset(traffic)
    timeline = read_timeline(fields.get("timeline"), places, duration, *named, nearby.reader(path.parent))
    if slice_ is None:
        return None
    if "timeline" in fields:
        _rehearse(slice_, timeline, fields["timeline"].key_at, mistakes)
    settle = fields["settle"].value if "settle" in fields else None
    return Experiment(
        name=_value(fields, "name", names.slug(path.stem) or "experiment"),
        topology=_overridden(slice_, fields, mistakes),
        duration_s=duration,
        seed=_value(fields, "seed", 0),
        settle="converged" if settle is None else "none",
        settle_s=_value(fields, "patience", 120.0) if settle is None else settle,
        calm_s=_value(fields, "calm", 6.0),
        check_links=_value(fields, "check_links", "light"),
        timeline=timeline,
        probes=probes,
        traffic=traffic,
        inputs=inputs,
    )


def _rehearse(slice_: Topology, timeline: Sequence[Event], at: Mark, mistakes: Mistakes) -> None:
    """Note where links would be asked for what excludes each other, as far as the order of events is known."""
    for event in sorted(timeline, key=lambda e: (bool(e.after), e.at_s)):
        if isinstance(event.action, Shape):
            try:
                slice_ = event.action.edit(slice_)
            except TopologyError as e:
                for mistake in e.mistakes:
                    mistakes.add(at, f"{event.action}: {mistake.what}", mistake.hint)


def _topology(
    found: Found | None, path: Path, mistakes: Mistakes
) -> tuple[Topology | None, dict[str, str], TopologyError | None]:
    """The topology, the texts that were read for it, and the mistakes that lie in its own file."""
    if found is None:
        return None, {}, None
    if not isinstance(found.value, str):
        before = len(mistakes.found)
        inline = topology.resolve(found.value, str(path), path.stem, mistakes, nearby.reader(path.parent))
        return (inline if len(mistakes.found) == before else None), {}, None
    file = path.parent / found.value
    kept = file.name if file.name != path.name else f"topology-{file.name}"  # in the record both lie side by side
    try:
        text = _text(file, str(file), "the path is relative to the experiment file")
    except TopologyError as e:
        for mistake in e.mistakes:
            mistakes.add(found.at, mistake.what, mistake.hint)
        return None, {}, None
    try:
        return topology.parse(text, str(file), file.stem, nearby.reader(file.parent)), {kept: text}, None
    except TopologyError as e:
        return None, {}, e


def _overridden(slice_: Topology, fields: Fields, mistakes: Mistakes) -> Topology:
    if "routing" not in fields:
        return slice_
    given: Fields = fields["routing"].value
    if any(isinstance(given[timer].value, str) for timer in RENAMED if timer in given):
        return slice_  # one is wrong, and noted
    changed = set_routing(slice_, routing_wishes(given))
    for name, sliver in changed.slivers.items():
        if sliver.routing and sliver.routing.dead_s <= sliver.routing.hello_s:
            key = given.get("dead") or given.get("hello")
            at = key.at if key else fields["routing"].at
            mistakes.add(at, f"'dead' must be longer than 'hello' (it is not, in {name}).", "four times is usual")
            break
    return changed


def routing_wishes(given: Fields) -> dict[str, Any]:
    """Keys of a routing section -> fields of `Routing`."""
    return {RENAMED.get(k, k): _plain(f.value) for k, f in given.items()}


def _plain(value: Any) -> Any:
    return tuple(f.value for f in value) if isinstance(value, list) else value


def _value(fields: Fields, key: str, default: Any) -> Any:
    return fields[key].value if key in fields else default


def _text(file: Path, what: str, hint: str) -> str:
    try:
        return file.read_text()
    except UnicodeDecodeError as e:
        raise TopologyError([Mistake(0, 0, f"{what} is not UTF-8 text.", hint)]) from e
    except OSError as e:
        raise TopologyError([Mistake(0, 0, f"{what} can't be read: {e.strerror}.", hint)]) from e


def _error(path: Path, mistakes: Mistakes, elsewhere: TopologyError | None) -> TopologyError:
    """Both files' mistakes in one error; those of the topology file say so themselves."""
    own = mistakes.error(str(path)).mistakes if mistakes.found else ()
    if elsewhere is None:
        return TopologyError(own, str(path))
    if not own:
        return elsewhere
    there = [Mistake(0, 0, f"in {elsewhere.source}: {m}") for m in elsewhere.mistakes]
    return TopologyError([*own, *there], str(path))
