"""Commands in slivers: in one, which this process becomes; in several at once, with a table of how each ended."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence

import click

from vini.cli.choose import slice_option, the_slice, the_sliver
from vini.cli.out import dump, json_option, table
from vini.cli.seconds import Seconds
from vini.cli.slivers import inside
from vini.client import Slices, connect
from vini.client.child import Said, outputs
from vini.model import Topology, Value

_AT_ONCE = 32
_MOST = 1 << 20  # bytes that are kept of each output of each command
_NAMES = "slivers named before --"


class Result(Value, frozen=True):
    """How a command went in one sliver."""

    sliver: str
    seconds: float
    said: Said


class _Exec(click.Command):
    """`--` ends the names of slivers; without it the first word is the only one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keeps what stands behind `--` apart: the parser would throw the mark away."""
        if "--" in args:
            at = args.index("--")
            ctx.meta[_NAMES] = args[at + 1 :]
            args = args[:at]
            ctx.ignore_unknown_options = False
        return super().parse_args(ctx, args)


@click.command("exec", cls=_Exec, context_settings={"ignore_unknown_options": True},
               short_help="Run a command inside one sliver, several, or all.")  # fmt: skip
@slice_option
@click.option("--all", "all_", is_flag=True, help="In every sliver of the slice, switches excepted.")
@click.option("--timeout", "timeout_s", type=Seconds(), help="With several: seconds that each may take.")
@json_option
@click.argument("words", metavar="SLIVER... -- COMMAND", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def exec_command(ctx: click.Context, slice_: str | None, all_: bool, timeout_s: float | None, as_json: bool,
                 words: tuple[str, ...]) -> None:  # fmt: skip
    """Run a command inside a sliver: `vini exec denver -- ip route`.  Its exit code is ours.

    In several at once: `vini exec denver seattle -- uptime`, or `vini exec --all -- uptime`.  Then a table tells how
    each ended and what it printed, and the exit code is the worst of all.
    """
    names, argv = _split(ctx, words, all_)
    client = connect()
    topology = the_slice(client, slice_)
    chosen = [n for n, s in topology.slivers.items() if s.mode != "switch"] if all_ else [
        the_sliver(topology, name) for name in dict.fromkeys(names)]  # fmt: skip
    if len(chosen) == 1 and not all_ and not as_json and timeout_s is None:
        command, environment = inside(client, topology, chosen[0], argv)
        sys.stdout.flush()
        os.execvpe(command[0], command, environment)
    results = asyncio.run(everywhere(client, topology, chosen, argv, timeout_s))
    _show(results, as_json)
    raise click.exceptions.Exit(max((r.said.code for r in results), default=0))


def _split(ctx: click.Context, words: tuple[str, ...], all_: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if _NAMES in ctx.meta:
        names, argv = words, tuple(ctx.meta[_NAMES])
    else:
        names, argv = ((), words) if all_ else (words[:1], words[1:])
    if all_ and names:
        raise click.UsageError("Name slivers, or give --all: `vini exec --all -- uptime`.")
    if not all_ and not names:
        raise click.UsageError("In which sliver? `vini exec denver -- ip route`, or --all.")
    if not argv:
        raise click.UsageError(f"Which command? `vini exec {' '.join(names) or '--all'} -- ip route`.")
    return names, argv


async def everywhere(
    client: Slices, topology: Topology, slivers: Sequence[str], argv: Sequence[str], timeout_s: float | None = None
) -> list[Result]:
    """The same command in each of these slivers, many at once; in their order."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(sliver: str) -> Result:
        async with gate:
            command, environment = await asyncio.to_thread(inside, client, topology, sliver, argv)
            started = time.monotonic()
            said = await outputs(command, environment, _MOST, timeout_s)
            return Result(sliver, time.monotonic() - started, said)

    return list(await asyncio.gather(*(one(s) for s in slivers)))


def _show(results: Sequence[Result], as_json: bool) -> None:
    if as_json:
        dump([_row(r) for r in results])
        return
    rows: list[tuple[str, ...]] = []
    for r in results:
        first, *rest = [
            *_text(r.said.stdout + r.said.stderr).splitlines(),
            *(["(cut here)"] if r.said.cut else []),
        ] or [""]
        rows += [(r.sliver, str(r.said.code), f"{r.seconds:.2f}", first), *(("", "", "", more) for more in rest)]
    table(("SLIVER", "EXIT", "SECONDS", "OUTPUT"), rows, right=("EXIT", "SECONDS"))


def _text(output: bytes) -> str:
    return output.decode(errors="replace")


def _row(r: Result) -> dict[str, object]:
    out, err = _text(r.said.stdout), _text(r.said.stderr)
    seconds = round(r.seconds, 3)
    return {"sliver": r.sliver, "exit_code": r.said.code, "seconds": seconds, "stdout": out, "stderr": err,
            "cut": r.said.cut}  # fmt: skip
