"""The links before a run: whether they give what the topology asks of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from msgspec import to_builtins

from vini.experiment.network import Network
from vini.experiment.settling import settle
from vini.experiment.statistics import Row
from vini.experiment.timeline import Experiment
from vini.model import ViniError
from vini.text.units import count
from vini.truth import Check, directions, to_measure, worst

LOAD, LOAD_S = 0.8, 3.0  # of a check under load: a share of each rate, and how long on each link
COLUMNS = {
    "source": "str", "vif": "str", "destination": "str", "wish": "str", "asked": "str", "got": "str",
    "tolerance": "str", "outcome": "str", "why": "str", "value": "float", "limit": "float",
}  # fmt: skip


async def check(experiment: Experiment, network: Network, say: Callable[[str], None]) -> Check:
    """What the links gave, measured as the experiment asks; afterwards the slice is as settled as before.

    Where they can't be measured at all, the check says why.
    """
    slice_ = experiment.topology
    some = to_measure(directions(slice_, slice_.links))
    if experiment.check_links == "off" or not some:
        return Check()
    say(f"checking what links really give: {count(len(some), 'direction')}")
    try:
        if experiment.check_links == "light":
            return await network.check_links(slice_, slice_.links)
        found = await network.check_links(slice_, slice_.links, LOAD, LOAD_S)
    except ViniError as e:
        return Check(why_not=str(e))
    if experiment.settle == "converged":  # a full link may have cost a neighbour
        await settle(network, slice_.name, experiment.calm_s, say)
    return found


def rows(found: Check) -> list[Row]:
    """A row for each verdict."""
    return [
        {"source": j.source, "vif": j.vif, "destination": j.destination}
        | {n: getattr(v, n) for n in v.__struct_fields__}
        for j in found.judgements
        for v in j.verdicts
    ]


def summary(mode: str, found: Check) -> dict[str, Any]:
    """The check in a few numbers and sentences."""
    outcomes = Counter(j.outcome for j in found.judgements)
    return {
        "mode": mode,
        "outcome": "can't tell" if found.why_not else worst(outcomes),
        "sentence": _sentence(mode, found, outcomes),
        "directions": len(found.judgements),
        "off": outcomes["off"],
        "doubts": list(found.doubts()),
        "noise": to_builtins(found.noise) if found.judgements else None,
    }


def _sentence(mode: str, found: Check, outcomes: Counter[Any]) -> str:
    if mode == "off":
        return "The links were not checked, as the experiment asked."
    if found.why_not:
        return f"The links were not checked: {found.why_not}"
    if not found.judgements:
        return "No link does anything to packets, so there was nothing to check."
    of = len(found.judgements)
    told = {
        "true": "gave what was asked",
        "off": "gave something else",
        "can't tell": "could not be told from the machine's noise",
        "not measured": "were not measured",
    }
    parts = [f"{n} {told[o]}" for o, n in sorted(outcomes.items(), key=lambda x: list(told).index(x[0]))]
    return f"Of {of} directions of links, looked at before the run, {', '.join(parts)}."
