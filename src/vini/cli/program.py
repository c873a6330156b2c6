"""Programs: a sliver's own data plane, loaded, read and written while it runs."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Literal

import click

from vini import edit, nearby
from vini.cli.choose import slice_option, the_slice, the_sliver
from vini.cli.out import dump, json_option, line, table
from vini.client import Slices, connect
from vini.elements import manual
from vini.model import (
    IN_KERNEL,
    Mistake,
    NotFound,
    Program,
    SliverStatus,
    Topology,
    TopologyError,
    ViniError,
)
from vini.node import policy
from vini.node.programs import compiled, verify
from vini.plugins.process_program import COUNTERS
from vini.plugins.programs import prepare
from vini.program_view import Shown, View, hooked, of_process
from vini.text.mistakes import Wrong
from vini.topology.programs import program

_SETTLES_S = 30.0  # after that a process that neither works nor has failed is left to itself


@click.group("program", short_help="A sliver's own data plane: load, read, write, look up elements.")
def program_command() -> None:
    """A sliver's own data plane, in place of the kernel's forwarding.

    \b
    vini program load denver router.elements     now, while traffic flows
    vini program read denver                     all its counters and tables
    vini program write denver routes.routes 10.9.0.0/16 to-seattle
    vini program write denver lookup.hits 0      a counter begins anew
    vini program unload denver                   the kernel forwards again
    vini program elements route4                 the manual page of an element
    """


@program_command.command("load", short_help="Give a sliver a program.")
@click.argument("sliver")
@click.argument("file")
@slice_option
@click.option("--hook", type=click.Choice(["auto", "tc", "xdp"]), default="auto", help="Where it runs; auto chooses.")
@click.option("--vif", "vifs", multiple=True, help="Only at this vif; may be repeated.")
@click.option("--budget", type=click.IntRange(1, 100_000), help="At most so many 1000 packets per second.")
def load_command(sliver: str, file: str, slice_: str | None, hook: Literal["auto", "tc", "xdp"], vifs: tuple[str, ...],
                 budget: int | None) -> None:  # fmt: skip
    """Give SLIVER the program in FILE (NAME.elements, NAME.c, NAME.o or NAME.py), in place of the one that it has.

    Tables of the same name and shape keep what they hold; counters go on where the program has the same ones.
    """
    found = program_of(file)
    wanted = Program(found.kind, found.text, found.name, hook, vifs, budget or 0)
    client = connect()
    topology = the_slice(client, slice_)
    the_sliver(topology, sliver)
    _change(client, topology, sliver, wanted, f"program {sliver}: {file}")


@program_command.command("unload", short_help="Take a sliver's program away.")
@click.argument("sliver")
@slice_option
def unload_command(sliver: str, slice_: str | None) -> None:
    """Take SLIVER's program away: the kernel forwards again."""
    client = connect()
    topology = the_slice(client, slice_)
    the_sliver(topology, sliver)
    _change(client, topology, sliver, None, f"program {sliver}: none")


def _change(client: Slices, topology: Topology, sliver: str, wanted: Program | None, what: str) -> None:
    edit.set_program(topology, sliver, wanted)  # a mistake is told before the agent is asked
    report = asyncio.run(client.edit(topology.name, lambda now: edit.set_program(now, sliver, wanted), what))
    row = next((r for r in report.slivers if r.sliver == f"{topology.name}.{sliver}"), None)
    if row and wanted and wanted.kind not in IN_KERNEL:
        row = asyncio.run(_settled(client, topology.name, row))
    if row and row.state == "failed":
        before = topology.slivers[sliver].program
        asyncio.run(client.edit(topology.name, lambda now: edit.set_program(now, sliver, before), f"{what} (refused)"))
        raise ViniError(f"{row.why}\n{sliver} stays as it was: {_describe(before)}.")
    line(f"{sliver}: {_describe(wanted)}")


async def _settled(client: Slices, slice_: str, row: SliverStatus) -> SliverStatus:
    """A sliver's status once its process works or has failed, or `_SETTLES_S` have passed."""
    deadline = time.monotonic() + _SETTLES_S
    while row.state not in ("ready", "failed") and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
        row = next((r for r in await client.status(slice_) if r.sliver == row.sliver), row)
    return row


def program_of(file: str) -> Program:
    """The program in a file of this machine.  Raises TopologyError."""
    path = Path(file)
    try:
        return program(path.name, nearby.reader(path.parent))
    except Wrong as e:
        raise TopologyError([Mistake(0, 0, str(e), e.hint)]) from e


def _describe(found: Program | None) -> str:
    if found is None:
        return "the kernel forwards"
    return f"{found.kind} {found.name}".strip() + (f" at {found.hook}" if found.hook != "auto" else "")


@program_command.command("list", short_help="Which slivers have one, and how it fares.")
@slice_option
@json_option
def list_command(slice_: str | None, as_json: bool) -> None:
    """Which slivers have a program, where it runs, and how many packets it has seen."""
    client = connect()
    topology = the_slice(client, slice_)
    rows = []
    for name, sliver in topology.slivers.items():
        if sliver.program is None:
            continue
        rows.append(
            {"sliver": name, "kind": sliver.program.kind, "file": sliver.program.name, **_fare(client, topology, name)}
        )
    if as_json:
        dump(rows)
        return
    head = ("sliver", "kind", "file", "hook", "packets", "over_budget", "why")
    table(head, [[str(r.get(h, "-")) for h in head] for r in rows], right=("packets", "over_budget"))


def _fare(client: Slices, topology: Topology, sliver: str) -> dict[str, object]:
    found = topology.slivers[sliver].program
    if found is None or not found.in_kernel:
        return {}
    found_hook = hooked(topology, sliver, asyncio.run(client.placed(topology.name)))
    chosen = {"hook": found_hook.hook, "why": found_hook.why}
    try:
        maps = asyncio.run(client.maps(topology.name, sliver, ()))
    except NotFound as e:
        return {**chosen, "why": str(e)}
    return {
        **chosen,
        "packets": maps.packets,
        "over_budget": maps.over_budget,
        "slice_kpps": maps.slice_kpps,
    }


@program_command.command("read", short_help="Read counters and tables by name.")
@click.argument("sliver")
@click.argument("name", required=False, default="")
@slice_option
@json_option
def read_command(sliver: str, name: str, slice_: str | None, as_json: bool) -> None:
    """Read the counter or table NAME of SLIVER's program, or all of them: `vini program read denver lookup.hits`."""
    client = connect()
    topology = the_slice(client, slice_)
    found = topology.slivers[the_sliver(topology, sliver)].program
    shown = (_of_process if found and found.kind not in IN_KERNEL else _of_kernel)(client, topology, sliver, name)
    if as_json:
        dump({s.name: [dict(zip(s.headings, row, strict=True)) for row in s.rows] for s in shown})
    else:
        _print(shown)


def _of_kernel(client: Slices, topology: Topology, sliver: str, name: str) -> list[Shown]:
    view = View(topology, sliver)
    names = ((view.cell(name).map if view.program.kind == "elements" else name),) if name else None
    maps = asyncio.run(client.maps(topology.name, sliver, names)).maps
    return view.show({n: dict(m.rows) for n, m in maps.items()}, name)


def _of_process(client: Slices, topology: Topology, sliver: str, name: str) -> list[Shown]:
    code, text = asyncio.run(client.output(topology.name, sliver, ["cat", f"{{run}}/{COUNTERS}"]))
    if code:
        raise NotFound(
            f"The program of {sliver!r} is a process that counts nothing for others to read; what uses `vini.packets` "
            "does, and any other may write such a file at $VINI_COUNTERS."
        )
    return of_process(text, name)


def _print(shown: list[Shown]) -> None:
    counters = [s for s in shown if s.headings == ("packets", "bytes")]
    if counters:
        table(("counter", "packets", "bytes"), [(s.name, *s.rows[0]) for s in counters], right=("packets", "bytes"))
    for s in shown:
        if s not in counters:
            line(f"{s.name}:" + ("" if s.rows else " empty"))
            if s.rows:
                table(s.headings, s.rows)


@program_command.command("write", short_help="Set, or with --delete remove, a row of a table; set a counter to 0.")
@click.argument("sliver")
@click.argument("name")
@click.argument("key")
@click.argument("values", nargs=-1)
@click.option("--delete", is_flag=True, help="Take the key out.")
@slice_option
def write_command(sliver: str, name: str, key: str, values: tuple[str, ...], delete: bool, slice_: str | None) -> None:
    """Set what the table NAME of SLIVER's program holds for KEY; or the counter NAME to 0.

    It holds until the sliver's end; what must be there from the start stands in the program itself.
    """
    if delete and values:
        raise click.UsageError("--delete takes KEY out, whatever it holds; leave the VALUES away.")
    client = connect()
    topology = the_slice(client, slice_)
    view = View(topology, the_sliver(topology, sliver))
    if delete:
        table_name, raw_key = view.key(name, key)
        asyncio.run(client.write_row(topology.name, sliver, table_name, raw_key, None))
        return
    table_name, raw_key, raw_value = view.entry(name, key, values)
    asyncio.run(client.write_row(topology.name, sliver, table_name, raw_key, raw_value))


@program_command.command("check", short_help="Look a program over without loading it.")
@click.argument("file")
@click.option("--vifs", required=True, help="The vifs of the sliver that it is for, e.g. to-a,to-b.")
def check_command(file: str, vifs: str) -> None:
    """Look the program in FILE over for mistakes, all at once, without loading it into a sliver.

    As root also by the kernel's verifier.
    """
    found = program_of(file)
    if found.kind not in IN_KERNEL:
        raise ViniError(f"{file} is a process; only programs of elements, in C or compiled can be looked over.")
    ready = prepare(Path(file).stem, found, vifs.split(","), ())
    units = compiled(ready.source, Path(file).name, ready.hook)
    if os.geteuid() == 0:
        verify(units, ready.source, Path(file).name)
        line(f"{file}: fit for {ready.hook} ({ready.why})")
    else:
        line(f"{file}: no mistake found for {ready.hook} ({ready.why}); only root can ask the kernel's verifier.")


@program_command.command("elements", short_help="The manual pages of elements.")
@click.argument("name", required=False, default="")
def elements_command(name: str) -> None:
    """All elements, or the manual page of one."""
    line(manual(name).rstrip())


@program_command.command("policy", short_help="What programs may do, and why.")
@json_option
def policy_command(as_json: bool) -> None:
    """What a program may use on this node, and the reason of each rule."""
    rules = policy.rules()
    if as_json:
        limits = [{"what": x.what, "most": x.most, "why": x.reason} for x in policy.LIMITS]
        dump([*({"what": r.what, "allowed": r.allowed, "why": r.reason} for r in rules), *limits])
        return
    told = [("may" if r.allowed else "may not", r.what, r.reason) for r in rules]
    table(("", "what", "why"), [*told, *(("at most", f"{x.most} {x.what}", x.reason) for x in policy.LIMITS)])
