"""Doing an experiment once: up, settle, timeline and probes, record, down."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from msgspec import to_builtins

from vini.experiment.ahead import REHEARSALS, Ahead
from vini.experiment.conditions import Limits
from vini.experiment.links import check
from vini.experiment.network import Network
from vini.experiment.others import Others
from vini.experiment.play import Play
from vini.experiment.record import Record, arrow
from vini.experiment.settling import settle
from vini.experiment.timeline import Experiment
from vini.experiment.versions import versions
from vini.experiment.witness import Witness, witness
from vini.model import Conflict, NotFound, Topology, Unsupported, ViniError
from vini.text.units import count
from vini.truth import Check

Say = Callable[[str], None]
REHEARSAL = "rehearsal"  # of how long a change takes; it changes nothing


async def run(
    experiment: Experiment,
    network: Network,
    out: Path,
    say: Say,
    *,
    keep: bool = False,
    limits: Limits | None = None,
    seen_by: Witness | None = None,
) -> Path:
    """Do it, and return the directory of its record.

    The slice is brought up, or changed into the experiment's topology; afterwards it is as it was
    before: down, or what it was; with `keep`, as the timeline left it.  When the task is cancelled
    (Ctrl-C) while it measures, probes are ended, and what they found is recorded and marked as
    interrupted; before that, nothing is left.  What others do to the slice meanwhile holds, and is
    recorded; where they take it down, the run ends early, and it stays down.
    Raises ViniError where it can't begin: a program is missing, the slice does not settle, or another
    run is using it.
    """
    if not network.lead_s:
        check_tools(experiment)
    arrow()
    seen_by = seen_by or witness(network)
    with seen_by.hold(experiment.topology.name):
        return await _held(experiment, network, out, say, keep, limits or Limits(), seen_by)


async def _held(
    experiment: Experiment, network: Network, out: Path, say: Say, keep: bool, limits: Limits, seen_by: Witness
) -> Path:
    """The run, while the slice is its own."""
    before = await _existing(network, experiment.topology.name)
    record = Record(out, experiment.name, experiment.seed, datetime.now(UTC))
    others = Others(seen_by, experiment.topology.name)
    began, done = False, None
    try:
        _record_inputs(record, experiment)
        record.json("versions.json", await versions())
        links = await _begin(experiment, network, say, others)
        ahead = await _rehearsed(experiment, network, say, others) if network.lead_s else None
        began = True
        play = Play(experiment, network, record, say, limits, links, others, ahead)
        await play.play()
        done = await asyncio.to_thread(play.finish)
    finally:
        if not began:
            record.discard()
        if not (keep and began):
            await _put_back(network, experiment.topology.name, before, say, done)
    return done


def check_tools(experiment: Experiment) -> None:
    """Refuse before the start, with the command that installs what is missing."""
    wanted = {tool for p in [*experiment.probes.values(), *experiment.traffic.values()] for tool in p.tools}
    missing = sorted((program, package) for program, package in wanted if shutil.which(program) is None)
    if missing:
        packages = " ".join(sorted({package for _, package in missing}))
        programs = ", ".join(program for program, _ in missing)
        raise Unsupported(f"This experiment needs {programs}. Install with: apt-get install {packages}")


async def _existing(network: Network, slice_: str) -> Topology | None:
    try:
        return await network.topology(slice_)
    except NotFound:
        return None


async def _put_back(network: Network, slice_: str, before: Topology | None, say: Say, record: Path | None) -> None:
    """As it was before, or down.  It may never have come up, and what others took down stays so."""
    try:
        if not await _existing(network, slice_):
            return
        say("putting the slice back as it was" if before else "taking the slice down")
        await (network.put(before) if before else network.down(slice_))
    except ViniError as e:
        if record is None:
            raise
        raise ViniError(
            f"The run is recorded in {record}, but slice {slice_!r} could not be "
            f"{'put back as it was' if before else 'taken down'}: {e}"
        ) from e


async def _begin(experiment: Experiment, network: Network, say: Say, others: Others) -> Check:
    """Up, settled, and its links looked at; what these gave."""
    try:
        await _settle(experiment, network, say, others)
        links = await check(experiment, network, say)
        await others.meet()
        return links
    except NotFound as e:
        slice_ = experiment.topology.name
        raise Conflict(f"Somebody took slice {slice_!r} down before t = 0. Nothing was measured; run it again.") from e


async def _rehearsed(experiment: Experiment, network: Network, say: Say, others: Others) -> Ahead:
    """What programs its nodes lack is told now, and how long a change takes to them is known."""
    name = experiment.topology.name
    await check_nodes_tools(experiment, network)
    ahead = Ahead(network, name)
    if any(event.action.edits for event in experiment.timeline):
        for _ in range(REHEARSALS):
            others.mine(REHEARSAL)
        await ahead.rehearse(REHEARSAL)
        say(f"changes are sent {ahead.lead_s:.1f} s ahead, so that all nodes make them at one moment")
    return ahead


async def check_nodes_tools(experiment: Experiment, network: Network) -> None:
    """As `check_tools`, on the nodes that probes run on."""
    all_ = [*experiment.probes.values(), *experiment.traffic.values()]
    wanted = {(s, tool) for p in all_ for s in p.slivers() for tool in p.tools}

    async def lacks(sliver: str, program: str) -> bool:
        look = ["sh", "-c", f"PATH=$PATH:/usr/sbin:/sbin; command -v {program}"]
        return (await network.output(experiment.topology.name, sliver, look))[0] != 0

    found = await asyncio.gather(*(lacks(sliver, program) for sliver, (program, _) in sorted(wanted)))
    missing = [w for w, lack in zip(sorted(wanted), found, strict=True) if lack]
    if missing:
        told = "; ".join(f"{program} on the node of {sliver}" for sliver, (program, _) in missing)
        packages = " ".join(sorted({package for _, (_, package) in missing}))
        raise Unsupported(f"This experiment needs {told}. Install there with: apt-get install {packages}")


def _record_inputs(record: Record, experiment: Experiment) -> None:
    for name, text in experiment.inputs.items():
        record.text(f"inputs/{name}", text)
    record.json("topology.json", to_builtins(experiment.topology))
    record.json("experiment.json", to_builtins(experiment) | {"inputs": sorted(experiment.inputs)})


async def _settle(experiment: Experiment, network: Network, say: Say, others: Others) -> None:
    slivers, links = count(len(experiment.topology.slivers), "sliver"), count(len(experiment.topology.links), "link")
    say(f"bringing up {slivers} and {links}")
    others.mine("up")
    await network.up(experiment.topology, wait=False)
    if experiment.settle == "none":
        await asyncio.sleep(experiment.settle_s)
        return
    name = experiment.topology.name
    try:
        async with asyncio.timeout(experiment.settle_s):
            await settle(network, name, experiment.calm_s, say)
    except TimeoutError as e:
        good, why = await network.converged(name)
        state = "its routes still change" if good else why
        raise ViniError(
            f"{name} has not settled after {experiment.settle_s:g} s: {state}. Give it more time (`patience:`), "
            "ask for a shorter calm (`calm:`), or look at `vini neighbors` and `vini routes`."
        ) from e
