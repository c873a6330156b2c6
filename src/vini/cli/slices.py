"""Whole slices: up, plan, status, down, log."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from datetime import datetime

import click
from msgspec import structs

from vini.bus import Report
from vini.cli.choose import check_named, generated, read_topology, readable, slice_option, the_slice
from vini.cli.out import Ticker, count, dump, json_option, line, note, table
from vini.cli.seconds import Seconds
from vini.cli.verdict import head_option, parsed_head, show_verdict
from vini.client import Client, connect
from vini.client.slices import Slices
from vini.expected import expectations
from vini.model import Conflict, Link, NotFound, Routing, SliverStatus, Topology, ViniError

Body = Callable[..., None]
_PATIENCE_S = 120.0


def _source(
    path: str | None, spec: str | None, seed: int | None, routing: str | None, daemon: str | None, slice_: str | None
) -> Topology:
    if (path is None) == (spec is None):
        raise click.UsageError("Give a topology file, or --generate: `vini up examples/abilene.yaml`.")
    if path is not None:
        if seed is not None:
            raise click.UsageError("--seed is for --generate; what a file describes is not drawn at random.")
        if routing is not None:
            raise click.UsageError("--routing is for --generate; a file says it itself, under `routing:`.")
        topology = read_topology(path, slice_=slice_)
        return _with_daemon(topology, daemon) if daemon else topology
    assert spec is not None
    return generated(spec, seed or 0, routing, daemon, slice_)


def _with_daemon(topology: Topology, daemon: str) -> Topology:
    def changed(routing: Routing | None) -> Routing | None:
        return structs.replace(routing, daemon=daemon) if routing else None

    slivers = {n: structs.replace(s, routing=changed(s.routing)) for n, s in topology.slivers.items()}
    return structs.replace(topology, slivers=slivers)


def _source_options(command: Body) -> Body:
    for option in (
        click.option("--daemon", type=click.Choice(["frr", "bird"]), help="Use this routing daemon everywhere."),
        click.option("--routing", help="With --generate: protocols, e.g. `ospf` or `ospf,ospf6`; default none."),
        click.option("--seed", type=int, help="With --generate: for random topologies; default 0."),
        click.option(
            "--generate",
            "spec",
            metavar="SPEC",
            help="ring:N line:N star:N grid:RxC torus:RxC tree:DxF full:N waxman:N",
        ),
        click.argument("file", required=False),
    ):
        command = option(command)
    return command


@click.command("up")
@_source_options
@click.option("-s", "--slice", "slice_", help="Name of the slice; default: the file's `name:`.")
@click.option("--wait/--no-wait", default=True, help="Wait until it is ready and has converged (default), or not.")
@click.option("--timeout", "timeout_s", type=Seconds(), help="Seconds to wait; default 120.")
@json_option
def up_command(file: str | None, spec: str | None, seed: int | None, routing: str | None, daemon: str | None,
               slice_: str | None, wait: bool, timeout_s: float | None, as_json: bool) -> None:  # fmt: skip
    """Bring a slice up, or change a running one into what FILE says now.

    FILE is a topology file (docs/reference/topology.md), or one of another tool: GraphML, GML, SNDlib,
    containerlab, PL-VINI.  Only the difference is applied; other links lose no packet.
    """
    if timeout_s is not None and not wait:
        raise click.UsageError("--timeout is how long to wait, and --no-wait is not to; give one of the two.")
    topology = _source(file, spec, seed, routing, daemon, slice_)
    ticker = Ticker(topology.name)
    client = connect(ticker.say)
    check_named(client, topology, file or f"--generate {spec}")
    asyncio.run(_up(client, ticker, topology, wait, _PATIENCE_S if timeout_s is None else timeout_s, as_json))


async def _up(client: Slices, ticker: Ticker, topology: Topology, wait: bool, timeout_s: float, as_json: bool) -> None:
    started = time.monotonic()
    with ticker.shown():
        report = await client.put(topology, "up", ticker.progress)
        made_s = ready_s = time.monotonic() - started
        try:
            if wait:
                await client.wait_ready(topology.name, timeout_s, report)
                ready_s = time.monotonic() - started
                await client.wait_converged(topology.name, timeout_s)
        except NotFound as e:
            raise Conflict(f"Somebody took slice {topology.name!r} down before it was up.") from e
    done_s = time.monotonic() - started
    if as_json:
        dump({"slice": topology.name, "steps": report.ops, "made_s": made_s, "done_s": done_s, "converged": wait})
        return
    size = ", ".join(
        (count(len(topology.slivers), "sliver"), count(len(topology.links), "link"), _done(client, report, "change"))
    )
    times = f"made in {made_s:.1f} s"
    if wait:
        times += f", ready after {ready_s:.1f} s"
        times += f", converged after {done_s:.1f} s" if expectations(topology) else ""
    line(f"{topology.name} is up: {size}; {times}.")
    first = next(iter(topology.slivers))
    which = f" -s {topology.name}" if len(client.topologies()) > 1 else ""
    note(f"Next: vini status | vini exec{which} {first} -- ip route | vini ping{which} --all | vini down{which}")


def _done(client: Slices, report: Report, step: str) -> str:
    """What a report counts: on one machine steps, on a testbed the nodes that the slice is on."""
    return count(report.ops, step) if isinstance(client, Client) else f"on {count(report.ops, 'node')}"


@click.command("plan")
@_source_options
@click.option("-s", "--slice", "slice_", help="Name of the slice; default: the file's `name:`.")
@json_option
def plan_command(file: str | None, spec: str | None, seed: int | None, routing: str | None, daemon: str | None,
                 slice_: str | None, as_json: bool) -> None:  # fmt: skip
    """Show what `up` would change, and the reason for each change.  Nothing is touched."""
    topology = _source(file, spec, seed, routing, daemon, slice_)
    client = connect()
    check_named(client, topology, file or f"--generate {spec}")
    steps = asyncio.run(client.foresee(topology))
    if as_json:
        dump({"slice": topology.name, "steps": steps})
        return
    for step in steps:
        line(step)
    removals = sum(s.startswith("-") for s in steps)
    note(
        f"{count(len(steps), 'change')}: {len(steps) - removals} to make, {removals} to remove."
        if steps
        else "Nothing would change."
    )


@click.command("status")
@slice_option
@click.option("-v", "--verbose", is_flag=True, help="List every sliver, also the ready ones.")
@click.option(
    "--wait", "wait_s", type=Seconds(), help="Wait until it is ready and has converged, at most so many seconds."
)
@json_option
def status_command(slice_: str | None, verbose: bool, wait_s: float | None, as_json: bool) -> None:
    """How a slice is, by a fresh look at the machine.

    Exit code 1 when a sliver is not ready, or something that is expected can't be reached.  A link that has failed as
    asked is no reason by itself.
    """
    well = asyncio.run(_status(slice_, verbose, wait_s, as_json))
    raise click.exceptions.Exit(0 if well else 1)


async def _status(slice_: str | None, verbose: bool, wait_s: float | None, as_json: bool) -> bool:
    client = connect()
    named = slice_ or os.environ.get("VINI_SLICE")
    slices = [the_slice(client, named)] if named else list(readable(client).values())
    if not slices:
        the_slice(client, None)
    everything = []
    for topology in slices:
        if wait_s is not None:
            await client.wait_ready(topology.name, wait_s)
            await client.wait_converged(topology.name, wait_s)
        rows = await client.status(topology.name)
        converged, why = await client.converged(topology.name)
        everything.append((topology, rows, converged, why, _shut_in(client, topology)))
    if as_json:
        dump([_status_json(*entry) for entry in everything])
    else:
        for entry in everything:
            _print_status(*entry, verbose=verbose)
    for sentence in await client.failing():
        note(f"note: {sentence}")
    return all(converged and all(r.state == "ready" for r in rows) for _, rows, converged, *_ in everything)


def _shut_in(client: Slices, topology: Topology) -> list[str]:
    """The slivers that ask for a way to the world, where none is granted to their slice."""
    asking = [s.name for s in topology.slivers.values() if s.outside]
    return asking if asking and client.granted(topology.name) is None else []


def _status_json(
    topology: Topology, rows: list[SliverStatus], converged: bool, why: str, shut_in: list[str]
) -> dict[str, object]:
    return {
        "not_granted": shut_in,
        "slice": topology.name,
        "slivers": [{"sliver": r.sliver.partition(".")[2], "state": r.state, "why": r.why} for r in rows],
        "converged": converged,
        "why": why,
        "faults": {_title(link): link.fault for link in topology.links if link.fault != "none"},
        "halted": {s.name: s.state for s in topology.slivers.values() if s.state != "running"},
        "slowed": {r.sliver.partition(".")[2]: r.slowed for r in rows if r.slowed},
        "leaves": {r.sliver.partition(".")[2]: r.leaves for r in rows if r.leaves},
        "substrate": {link: fault for r in rows for link, fault in r.faults.items()},
    }


def _title(link: Link) -> str:
    return "--".join(e.sliver for e in link.ends)


def _print_status(
    topology: Topology, rows: list[SliverStatus], converged: bool, why: str, shut_in: list[str], *, verbose: bool
) -> None:
    ready = sum(r.state == "ready" for r in rows)
    state = "" if not expectations(topology) else "; converged" if converged else f"; not converged: {why}"
    line(f"{topology.name}: {ready} of {count(len(rows), 'sliver')} ready, {count(len(topology.links), 'link')}{state}")
    for link in topology.links:
        if link.fault != "none":
            line(f"  link {_title(link)} has failed ({link.fault}), as asked")
    for sliver in topology.slivers.values():
        if sliver.state != "running":
            line(f"  sliver {sliver.name} is {sliver.state}, as asked")
    if shut_in:
        grants = f"`vini outside grant {topology.name} --to PREFIX`"
        line(f"  no way to the world, which `outside: true` of {', '.join(shut_in)} asks for: it is not granted")
        line(f"  an admin, on one machine root, grants it: {grants}")
    for link_, fault in sorted({pair for r in rows for pair in r.faults.items()}):
        line(f"  link {link_} has failed: {fault}")
    for row in rows:
        if row.slowed:
            line(f"  sliver {row.sliver.partition('.')[2]} is slowed: {row.slowed}")
    for why in sorted({r.leaves for r in rows if r.leaves}):
        going = [r.sliver.partition(".")[2] for r in rows if r.leaves == why]
        line(f"  {', '.join(going[:10])}{', ...' if going[10:] else ''}: only {why}")
    shown = [r for r in rows if verbose or r.state != "ready"]
    if shown:
        table(("SLIVER", "STATE", "WHY"), [(r.sliver.partition(".")[2], r.state, r.why) for r in shown])


@click.command("down")
@slice_option
@click.option("--all", "all_", is_flag=True, help="All slices of this machine; on a testbed, that you are a member of.")
@json_option
def down_command(slice_: str | None, all_: bool, as_json: bool) -> None:
    """End a slice.  Nothing of it stays; nothing of others is touched."""
    if slice_ and all_:
        raise click.UsageError("--slice names one slice, and --all means all of them; give one of the two.")
    asyncio.run(_down(slice_, all_, as_json))


async def _down(slice_: str | None, all_: bool, as_json: bool) -> None:
    client = connect()
    unreadable = client.unreadable()
    named = slice_ or os.environ.get("VINI_SLICE")
    if all_:
        ends = sorted([*client.own(), *unreadable])
    else:
        ends = [named if named and named in unreadable else the_slice(client, slice_).name]
    if not ends:
        others = "" if isinstance(client, Client) else " of yours"
        note(f"No slice{others} is up; there is nothing to end.")
    ended: list[dict[str, object]] = []
    for name in ends:
        started = time.monotonic()
        ticker = Ticker(name)
        with ticker.shown():
            report = await client.down(name, ticker.progress)
        if report.slivers:
            whys = "\n".join(f"  {r.sliver}: {r.why}" for r in report.slivers[:10])
            raise ViniError(f"Something of slice {name!r} is still there; the agent goes on trying:\n{whys}")
        took_s = time.monotonic() - started
        ended.append({"slice": name, "steps": report.ops, "done_s": took_s})
        if not as_json:
            line(f"{name} is down: {_done(client, report, 'removal')} in {took_s:.1f} s.")
    if as_json:
        dump(ended)


@click.command("log")
@slice_option
@click.option(
    "-n", "limit", type=click.IntRange(1, 1_000_000), default=30, show_default=True, help="How many, the newest last."
)
@click.option("--verify", is_flag=True, help="Check that no event was changed, taken out or put in.")
@head_option
@json_option
def log_command(slice_: str | None, limit: int, verify: bool, head: str, as_json: bool) -> None:
    """What was asked of a slice: when, by whom.

    On a testbed also which of its links failed, and came back, with the path between two nodes.

    Every event holds a hash of itself and of the one before: --verify checks those of all slices of this machine, and
    says where something is wrong (exit code 1).  Who can write the database could make all hashes anew: so keep the
    head that it prints elsewhere, and give it the next time.
    """
    if verify:
        if slice_:
            raise click.UsageError("--verify is about the events of all slices together; leave --slice out.")
        show_verdict(connect().check_events(parsed_head(head)), as_json)
        return
    if head:
        raise click.UsageError("--head is what --verify compares with; give both.")
    client = connect()
    topology = the_slice(client, slice_)
    rows = list(reversed(client.events(topology.name, limit)))
    if as_json:
        dump([{"at": e.at, "who": e.who, "what": e.what, "generation": e.generation} for e in rows])
        return
    stamped = [
        (f"{datetime.fromtimestamp(e.at):%Y-%m-%d %H:%M:%S}", e.who, e.what, str(e.generation or "-")) for e in rows
    ]
    table(("TIME", "WHO", "WHAT", "GENERATION"), stamped)
