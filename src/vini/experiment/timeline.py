"""An experiment as a value, and its timeline laid out in time.  Pure."""

from __future__ import annotations

from typing import Literal

from vini.experiment.actions import AnyAction
from vini.experiment.probes import AnyProbe
from vini.model import Topology, Value

MOST_OCCASIONS = 10_000


class Event(Value, frozen=True):
    """An action and when: at `at_s`; from then on every `every_s` (`times` times, 0: until the end);
    or once the slice is converged after the event before it in the file."""

    action: AnyAction
    at_s: float = 0.0
    every_s: float = 0.0
    times: int = 0
    after: Literal["", "converged"] = ""


class Experiment(Value, frozen=True):
    """A topology, what happens to it and when, and what is measured; all that a run depends on.

    Times are seconds; t = 0 is when the slice has settled.  `topology` has the file's routing
    overrides in it.  `inputs` are the texts that were read, by file name.
    """

    name: str
    topology: Topology
    duration_s: float
    seed: int = 0
    settle: Literal["converged", "none"] = "converged"
    settle_s: float = 120.0  # converged: give up after this; none: just wait for this
    calm_s: float = 6.0  # converged, and no route changed for this long; OSPF's MinLSInterval is 5 s
    check_links: Literal["off", "light", "load"] = "light"  # before t = 0: what they really give
    timeline: tuple[Event, ...] = ()
    probes: dict[str, AnyProbe] = {}
    traffic: dict[str, AnyProbe] = {}  # as probes, but begun by a `start` action
    inputs: dict[str, str] = {}


class Occasion(Value, frozen=True):
    """One happening of one event.  `at_s` None: once converged after the occasion number `after`, -1: after t = 0."""

    number: int
    event: int  # place in the file's timeline
    action: AnyAction
    at_s: float | None = None
    after: int = -1


def occasions(experiment: Experiment) -> tuple[Occasion, ...]:
    """Every happening, numbered in the order in which they are due; what follows convergence stands after its cause.

    Occasions at one instant keep the file's order.  None lies at or after the end of the run,
    bar those that wait for convergence: nobody knows when they come.
    """
    planned: list[tuple[float, int, int, float | None, int]] = []  # due or cause's due, event, repeat, at, cause
    for i, event in enumerate(experiment.timeline):
        if event.after:
            cause = max((p for p in planned if p[1] == i - 1), default=None)
            planned.append((cause[0] if cause else 0.0, i, 0, None, i - 1))
        else:
            moments = _moments(event, experiment.duration_s)
            planned += [(at, i, k, at, -1) for k, at in enumerate(moments)]
    planned.sort(key=lambda p: p[:3])
    last_of = {event: number for number, (_, event, _, _, _) in enumerate(planned)}
    return tuple(
        Occasion(number, event, experiment.timeline[event].action, at, last_of.get(cause, -1))
        for number, (_, event, _, at, cause) in enumerate(planned)
    )


def _moments(event: Event, duration_s: float) -> list[float]:
    if not event.every_s:
        return [event.at_s] if event.at_s < duration_s else []
    found: list[float] = []
    while len(found) < (event.times or MOST_OCCASIONS):
        at = event.at_s + len(found) * event.every_s
        if at >= duration_s:
            break
        found.append(at)
    return found
