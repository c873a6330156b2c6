"""Slivers as machines: stop, start, restart, freeze, thaw, reset, and what is on their disks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import click

from vini import edit
from vini.cli.choose import slice_option, the_slice, the_sliver
from vini.cli.out import Ticker, count, dump, json_option, line
from vini.client import Client, connect
from vini.model import Lives, Topology, Unsupported
from vini.node.images.provision import store
from vini.node.images.snapshot import snapshot

_PATIENCE_S = 60.0
Change = Callable[[Topology, Sequence[str]], Topology]


@click.group("sliver", short_help="Stop, start, freeze, thaw or reset slivers.")
def sliver_command() -> None:
    """Slivers as machines.  What they are asked to be, they stay: over restarts of the agent, too.

    \b
    vini sliver stop denver              its processes end; its links and files stay
    vini sliver start denver
    vini sliver restart --all
    vini sliver freeze denver            its processes stand still, with all that they know
    vini sliver reset denver             a fresh disk; volumes stay
    """


def _command(name: str, short: str, long: str, done: str, change: Change) -> None:
    @sliver_command.command(name, short_help=short, help=long)
    @click.argument("slivers", nargs=-1)
    @slice_option
    @click.option("--all", "all_", is_flag=True, help="All slivers of the slice.")
    @json_option
    def run(slivers: tuple[str, ...], slice_: str | None, all_: bool, as_json: bool) -> None:
        if all_ == bool(slivers):
            raise click.UsageError(f"Name slivers, or give --all: `vini sliver {name} denver`.")
        client = connect()
        topology = the_slice(client, slice_)
        chosen = list(topology.slivers) if all_ else [the_sliver(topology, s) for s in dict.fromkeys(slivers)]
        change(topology, chosen)  # a mistake is told before the agent is asked
        asyncio.run(_edited(topology.name, name, chosen, change))
        if as_json:
            now = client.asked(topology.name)
            dump([{"sliver": s, "state": now.slivers[s].state} for s in chosen])
        else:
            line(f"{', '.join(chosen)}: {done}.")


async def _edited(slice_: str, name: str, chosen: Sequence[str], change: Change) -> None:
    ticker = Ticker(slice_)
    with ticker.shown():
        client = connect(ticker.say)
        what = f"sliver {name} {' '.join(chosen)}"
        report = await client.edit(slice_, lambda now: change(now, chosen), what)
        await client.wait_ready(slice_, _PATIENCE_S, report)


def _to(state: Lives) -> Any:
    return lambda topology, chosen: edit.set_state(topology, chosen, state)


_command(
    "stop", "End all processes of slivers.",
    "End all processes of SLIVERS, also those that `vini exec` started.  Links, addresses and files stay.",
    "stopped", _to("stopped"),
)  # fmt: skip
_command(
    "start", "Have stopped or frozen slivers run.",
    "Have SLIVERS run that were stopped or frozen.", "running", _to("running"),
)  # fmt: skip
_command(
    "restart", "Start all processes of slivers anew.",
    "End all processes of SLIVERS and start them anew, in their links and files.", "started anew", edit.restart,
)  # fmt: skip
_command(
    "freeze", "Have the processes of slivers stand still.",
    "Have the processes of SLIVERS stand still, wherever they are, until `vini sliver thaw`.  Routing daemons"
    " fall silent; the kernel still forwards, and answers pings.",
    "frozen", _to("frozen"),
)  # fmt: skip
_command("thaw", "Have frozen slivers go on.", "Have frozen SLIVERS go on where they were.", "running", _to("running"))
_command(
    "reset", "Give containers a fresh disk.",
    "Throw away what was written in SLIVERS, which must be containers, but for their volumes, and start them anew.",
    "fresh", edit.reset,
)  # fmt: skip


@sliver_command.command("snapshot", short_help="Keep a sliver's disk as an image.")
@click.argument("sliver")
@click.argument("name")
@slice_option
@json_option
def _snapshot(sliver: str, name: str, slice_: str | None, as_json: bool) -> None:
    """Keep the disk of SLIVER, without its volumes, as the image NAME of this machine: `image: NAME` has it in another
    sliver.  To have all of one moment, `vini sliver freeze` it before."""
    client = connect()
    topology = the_slice(client, slice_)
    the_sliver(topology, sliver)
    if not isinstance(client, Client):
        raise Unsupported("Disks are kept on the node that has them: run this there, as its operator.")
    there = store(client.place)
    image = snapshot(client.place, f"{topology.name}.{sliver}", there)
    with there.lock():
        there.call(name, image)
    if as_json:
        dump({"name": name, "id": image.id, "bytes": image.bytes, "files": image.files})
    else:
        line(f"{name} is what {sliver} has on its disk: {count(image.files, 'file')}, {image.bytes / 10**6:.0f} MB.")
