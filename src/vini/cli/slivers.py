"""Inside slivers: shell, ping, capture."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import click

from vini.cli.choose import slice_option, the_slice, the_sliver
from vini.cli.out import dump, json_option, line, note, table
from vini.client import Client, Slices, connect
from vini.expected import pairs
from vini.layout import layout
from vini.model import Denied, NotFound, Topology, Unsupported, ViniError
from vini.pcapng import convert
from vini.reach import hosts

_PINGS_AT_ONCE = 64
_BIN = Path(__file__).parent / "bin"  # vtysh and birdc that talk to the sliver's own daemons


@click.command("shell")
@slice_option
@click.argument("sliver")
def shell_command(slice_: str | None, sliver: str) -> None:
    """Open a shell inside a sliver; `exit` leaves it."""
    _become(slice_, sliver, (os.environ.get("SHELL", "/bin/bash"),))


def _become(slice_: str | None, sliver: str, argv: tuple[str, ...]) -> None:
    """Turn this very process into the command, inside the sliver and its cgroup, so that `down` ends it too."""
    client = connect()
    topology = the_slice(client, slice_)
    command, environment = inside(client, topology, the_sliver(topology, sliver), argv)
    sys.stdout.flush()
    os.execvpe(command[0], command, environment)


def inside(client: Slices, topology: Topology, sliver: str, argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The command line, and its environment, that runs `argv` in a sliver as a person is used to: with the slice's
    names and the tools that talk to the sliver's own daemons.  Raises ViniError where the sliver is not there."""
    ns = f"{topology.name}.{sliver}"
    if (how := topology.slivers[sliver].state) != "running":
        word = "start" if how == "stopped" else "thaw"
        raise ViniError(f"Sliver {sliver!r} is {how}; `vini sliver {word} {sliver}` has it run again.")
    if not isinstance(client, Client):  # on another machine, which knows what a sliver's own commands see
        return client.enter(topology.name, sliver, argv), dict(os.environ)
    if not client.place.netns(ns).exists():
        raise ViniError(f"Sliver {sliver!r} is not there at the moment; `vini status` says why.")
    environment = {
        **os.environ,
        "PATH": f"{_BIN}:{os.environ.get('PATH', os.defpath)}",
        "VINI_SLIVER": ns,
        "VINI_NAME": sliver,
        "VINI_SLIVER_DIR": str(client.place.sockets(ns)),
        "PS1": f"{sliver}# ",
        "debian_chroot": sliver,
    }
    if shutil.which(argv[0], path=environment["PATH"]) is None and not argv[0].startswith("/"):
        note(f"note: {argv[0]!r} is not in the PATH of this machine.")
    there = topology.slivers[sliver]
    if (
        not there.image and there.runtime != "container"
    ):  # what an image holds, also of names and tools, is its maker's business
        client.place.sliver(ns).mkdir(parents=True, exist_ok=True)
        (client.place.sliver(ns) / "hosts").write_text(_hosts(topology))
        argv = ("unshare", "--mount", "--uts", f"{_BIN}/inside", *argv)
    return client.enter(topology.name, sliver, argv), environment


def _hosts(topology: Topology) -> str:
    """hosts(5): the node's own, and every sliver of the slice by name."""
    own = Path("/etc/hosts").read_text() if Path("/etc/hosts").exists() else ""
    return f"{own}\n{hosts(topology)}"


@click.command("ping", short_help="Ping between two slivers, or (--all) between all of them.")
@slice_option
@click.option("--all", "all_", is_flag=True, help="From every sliver to every sliver.")
@click.option("-c", "count", type=click.IntRange(1, 1000), default=1, show_default=True, help="Echo requests per pair.")
@click.option("-6", "six", is_flag=True, help="Over IPv6.")
@click.argument("source", required=False)
@click.argument("destination", required=False)
@json_option
def ping_command(slice_: str | None, all_: bool, count: int, six: bool, source: str | None, destination: str | None,
                 as_json: bool) -> None:  # fmt: skip
    """Ping between slivers: `vini ping seattle denver`, or `vini ping --all`.  Exit code 1 when one fails."""
    client = connect()
    topology = the_slice(client, slice_)
    if all_ == bool(source):
        raise click.UsageError("Name two slivers, or give --all: `vini ping seattle denver`.")
    if not all_ and not destination:
        raise click.UsageError(f"Ping whom? `vini ping {source} SLIVER`.")
    chosen = [(the_sliver(topology, source), the_sliver(topology, destination))] if source and destination else [
        *pairs(topology)]  # fmt: skip
    results = asyncio.run(_ping_all(client, topology, chosen, count, 6 if six else 4))
    _print_pings(results, as_json)
    if not any(rtt is not None for *_, rtt in results) and not any(s.routing for s in topology.slivers.values()):
        note(
            f"No sliver of {topology.name} runs a routing protocol, so none knows a way to another's address; "
            "`routing: [ospf]` in the file adds one, as `--routing ospf` does with --generate."
        )
    raise click.exceptions.Exit(0 if all(rtt is not None for *_, rtt in results) else 1)


async def _ping_all(client: Slices, topology: Topology, pairs: list[tuple[str, str]], count: int, family: int
                    ) -> list[tuple[str, str, float | None]]:  # fmt: skip
    addresses = {}
    for name in {name for pair in pairs for name in pair}:
        with suppress(NotFound):
            addresses[name] = client.address(topology, name, family)
    gate = asyncio.Semaphore(_PINGS_AT_ONCE)

    async def one(a: str, b: str) -> tuple[str, str, float | None]:
        if a not in addresses or b not in addresses or topology.slivers[a].state != "running":
            return a, b, None
        argv = [
            "ping",
            f"-{family}",
            "-n",
            "-q",
            "-c",
            str(count),
            "-i",
            "0.2",
            "-W",
            "2",
            "-I",
            addresses[a],
            addresses[b],
        ]
        try:
            async with gate:
                code, said = await client.output(topology.name, a, argv)
        except Denied:
            raise
        except ViniError:  # its node is away, or it has just gone: nobody answers there
            return a, b, None
        found = re.search(r"= [\d.]+/([\d.]+)/", said)
        return a, b, float(found[1]) if found and code == 0 else None

    return list(await asyncio.gather(*(one(a, b) for a, b in pairs)))


def _print_pings(results: list[tuple[str, str, float | None]], as_json: bool) -> None:
    if as_json:
        dump([{"from": a, "to": b, "rtt_ms": rtt} for a, b, rtt in results])
        return
    slivers = list(dict.fromkeys(a for a, _, _ in results))
    if 2 < len(slivers) <= 16:
        rtts = {(a, b): "-" if rtt is None else f"{rtt:.2f}" if rtt < 10 else f"{rtt:.1f}" for a, b, rtt in results}
        rows = [(a, *(rtts.get((a, b), "") for b in slivers)) for a in slivers]
        table(("RTT ms", *slivers), rows, right=slivers)
    else:
        for a, b, rtt in results:
            if len(results) < 30 or rtt is None:
                line(f"{a} -> {b}: " + (f"{rtt:.2f} ms" if rtt is not None else "no answer"))
    good = sum(rtt is not None for *_, rtt in results)
    line(f"{good} of {len(results)} pairs answer.")


@click.command("capture", short_help="Capture packets on a vif, to the terminal or to a file.")
@slice_option
@click.argument("where", metavar="SLIVER:VIF")
@click.option("-w", "file", help="Write to this file instead of printing: pcapng, or pcap where it ends in .pcap.")
@click.option("-c", "count", type=click.IntRange(1), help="End after this many packets.")
@click.argument("expression", nargs=-1)
def capture_command(
    slice_: str | None, where: str, file: str | None, count: int | None, expression: tuple[str, ...]
) -> None:
    """Capture packets on a vif: `vini capture denver:to-kansas-city -w x.pcapng`; Ctrl-C ends it.

    EXPRESSION is a pcap filter, e.g. `icmp`.  `-w -` writes to standard output, for `wireshark -k -i -`.
    """
    client = connect()
    here = isinstance(client, Client)
    if here and shutil.which("tcpdump") is None and not Path("/usr/bin/tcpdump").exists():
        raise Unsupported("Capturing needs tcpdump; install it with `apt-get install tcpdump`.")
    topology = the_slice(client, slice_)
    sliver, _, vif = where.partition(":")
    vifs = [v.dev for v in layout(topology).vifs[the_sliver(topology, sliver)]]
    if vif not in [*vifs, "lo", "any"]:
        if not vif:
            raise click.UsageError(
                f"On which vif? `vini capture {sliver}:{next(iter(vifs), 'lo')}`; {_has(sliver, vifs)}"
            )
        raise NotFound(f"Sliver {sliver!r} has no vif {vif!r}; {_has('it', vifs)}")
    argv = ["tcpdump", "-n", "-U", "-i", vif, *(["-c", str(count)] if count else [])]
    if file is None:
        _become(topology.name, sliver, (*argv, *expression))
    else:
        _record(client.enter(topology.name, sliver, [*argv, "-w", "-", *expression]), file, where)


def _has(sliver: str, vifs: Sequence[str]) -> str:
    return f"{sliver} has: {', '.join(vifs) or 'lo'}."


def _record(command: list[str], file: str, interface: str) -> None:
    """However we are told to end, we tell tcpdump; it ends its stream, we write what is left and end with it."""
    try:
        out = sys.stdout.buffer if file == "-" else Path(file).open("wb")  # noqa: SIM115
    except OSError as e:
        raise ViniError(f"{file!r} can't be written: {e.strerror}; choose another place with -w.") from e
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    before = {n: signal.signal(n, lambda *_: child.terminate()) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert child.stdout is not None
        with out:
            for block in _as_it_is(child.stdout) if file.endswith(".pcap") else convert(child.stdout, interface):
                out.write(block)
                out.flush()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    raise click.exceptions.Exit(child.wait())


def _as_it_is(stream: IO[bytes]) -> Iterator[bytes]:
    """As it comes."""
    while data := os.read(stream.fileno(), 1 << 16):
        yield data
