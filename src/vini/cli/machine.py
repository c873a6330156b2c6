"""This machine: doctor, agent, bench."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, Literal

import click
from msgspec import structs

from vini import bus
from vini.cli.out import called, dump, json_option, line, note, table
from vini.client import Client
from vini.model import Denied, ViniError
from vini.node import identity, probe, service


@click.command("doctor", short_help="What this machine can do, and how to add what is missing.")
@json_option
def doctor_command(as_json: bool) -> None:
    """What this machine can do, and the command that adds what is missing.  Exit code 1 when something needed is."""
    have = probe.capabilities()
    unknown = probe.unknown(have)
    if as_json:
        dump({"kernel": platform.release(), "python": platform.python_version(), "have": sorted(have),
              "missing": {f.name: f.remedy for f in probe.FEATURES if f.name not in have | unknown},
              "unknown": sorted(unknown), "failing": list(_failing())})  # fmt: skip
    else:
        line(f"Linux {platform.release()}, Python {platform.python_version()}")
        table(("", "FEATURE", "SERVES", "REMEDY"), [_row(f, have, unknown) for f in probe.FEATURES])
        if {"netem", "element"}.isdisjoint(have):
            note("Without netem or element, links can't have delay, loss or rate; plain links work.")
        elif "netem" not in have | unknown:
            note("This kernel has no netem: links are emulated by VINI's own element (docs/explanation/links.md).")
        if "outside-ipv6" in have and not probe.has_way_by_ipv6():
            note('This machine has no IPv6 route to the world: slivers that are granted one hear "no route" of it.')
        for sentence in _failing():
            note(sentence)
    raise click.exceptions.Exit(0 if {"root", "cgroup2"} <= have else 1)


def _failing() -> tuple[str, ...]:
    """What the agent tells of its parts that failed, where one runs and we may ask it."""
    with suppress(ViniError, OSError):
        reply = asyncio.run(_ask(Client(), bus.Hello()))
        if isinstance(reply, bus.Greeting):
            return reply.failing
    return ()


def _row(feature: probe.Feature, have: Collection[str], unknown: Collection[str]) -> tuple[str, ...]:
    if feature.name in unknown:
        return "?", feature.name, feature.serves, "only root finds out"
    has = feature.name in have
    return ("yes" if has else "no", feature.name, feature.serves, "" if has else feature.remedy)


@click.group("agent")
def agent_command() -> None:
    """The agent that keeps this machine as asked, in the background."""


async def _ask(client: Client, request: bus.Request) -> bus.Reply:
    """The agent that runs; none is started for the purpose."""
    return await bus.Line(client.place.run / "agent.socket", client.place.state / "agent.log").ask(request)


@agent_command.command("status")
def _status() -> None:
    """Whether it runs, and what it watches over."""
    client = Client()
    try:
        reply = asyncio.run(_ask(client, bus.Hello()))
    except bus.AgentGone:
        line(called("No agent runs; `vini agent start` starts one, and so does the next command that needs it."))
        raise click.exceptions.Exit(1) from None
    assert isinstance(reply, bus.Greeting)
    of_its_own = " of this machine's own" if reply.uplink else ""
    slices = ", ".join(f"{s} (generation {g})" for s, g in reply.generations.items()) or f"no slice{of_its_own}"
    line(f"The agent runs as process {reply.pid}, version {reply.version}; it watches over {slices}.")
    if reply.uplink:
        held = sum(1 for _ in (identity.directory(client.place.state) / "ledger").glob("*.json"))
        line(f"Of its testbed it has {held} slice{'' if held == 1 else 's'}; {reply.uplink}")
    line(f"Its log: {client.place.state / 'agent.log'}")
    for sentence in reply.failing:
        line(sentence)


@agent_command.command("start")
def _start() -> None:
    """Start it, where none runs."""
    greeting = asyncio.run(Client(say=note).greeting())
    line(f"The agent runs as process {greeting.pid}.")


@agent_command.command("stop")
def _stop() -> None:
    """End it.  Slices run on, but nobody heals them until it is started again."""
    client = Client()
    ended = service.stop(client.place)
    with suppress(bus.AgentGone):
        asyncio.run(_ask(client, bus.Stop()))
        ended = True
    again = (
        "The agent ends; slices that are up run on, but nobody heals them until `vini agent start`, or the next "
        "command that needs it, starts it again."
    )
    line(called(again) if ended else "No agent runs (any more).")


@click.command("bench", short_help="Measure VINI on this machine, beside its peers.")
@click.argument(
    "what",
    type=click.Choice(["setup", "forward", "link", "fleet", "slivers", "isolation", "audit", "embed"]),
    default="setup",
)
@click.option("--quick", is_flag=True, help="Smaller sizes, about half a minute.")
@click.option("--engine", type=click.Choice(["hub", "nats"]), default="hub", help="Of `fleet`: what reaches the nodes.")
@json_option
def bench_command(what: str, quick: bool, engine: Literal["hub", "nats"], as_json: bool) -> None:
    """Measure VINI on this machine, as ratios against peers in the same run (docs/reference/benchmarks.md)."""
    from vini.bench import audit, forward, isolation, link, placing, setup, slivers

    if what != "embed" and os.geteuid() != 0:
        raise Denied("Benchmarks make network namespaces, which only root may; run this with sudo.")

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    match what:
        case "fleet":
            results = _fleet(quick, engine, say)
        case "forward":
            results = forward.measure(quick, say)
        case "link":
            results = link.measure(quick, say)
        case "audit":
            results = audit.measure(quick, say)
        case "embed":
            results = placing.measure(quick, say)
        case "isolation":
            results = isolation.measure(quick, say)
        case "slivers":
            results = slivers.measure(quick, say)
        case _:
            results = setup.measure(quick, say)
    if as_json:
        dump(results)
    else:
        setup.show(results)


def _fleet(quick: bool, engine: Literal["hub", "nats"], say: Callable[[str], None]) -> dict[str, Any]:
    try:
        from vini.bench import fleet
    except ImportError as e:
        raise ViniError(f"A central is needed, which lacks {e.name!r} here: `pip install 'vini[central]'`.") from e
    return fleet.measure(quick, say, structs.replace(fleet.QUICK if quick else fleet.FULL, engine=engine))
