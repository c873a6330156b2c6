"""Who sent a packet to the world."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from ipaddress import ip_address

import click
from msgspec.structs import asdict

from vini.bus import AskFlows, Flow, Flows
from vini.cli.out import dump, json_option, note, table
from vini.client import connect
from vini.model import ViniError
from vini.node.flows.ask import PROTOCOLS


@click.group("audit", short_help="Who sent what to the world.")
def audit_command() -> None:
    """Who sent what to the world: every flow that left by a sliver's `outside` is written down.

    \b
    vini audit who 192.0.2.1:40001 198.51.100.7:443 --at "2026-11-29 15:04"
    """


@audit_command.command("who")
@click.argument("source", metavar="SRC:PORT")
@click.argument("destination", metavar="DST:PORT")
@click.option("--at", default="", help='When: "2026-11-29 15:04:05" (local time), with a zone, or Unix time, s.')
@click.option("--protocol", type=click.Choice(list(PROTOCOLS.values())), help="Only this one.")
@click.option("-n", "most", type=click.IntRange(1, 10_000), default=100, show_default=True, help="The most answers.")
@json_option
def _who(source: str, destination: str, at: str, protocol: str | None, most: int, as_json: bool) -> None:
    """Who sent this packet?  SRC is the address that the world saw, or the sliver's own; a port may be left out.

    Exit code 1: nobody who is written down.  It says, too, what was not watched at that time.
    """
    numbers = {name: number for number, name in PROTOCOLS.items()}
    question = AskFlows(
        *_endpoint(source), *_endpoint(destination), _moment(at), numbers.get(protocol or "", 0), most
    )  # fmt: skip
    answers = asyncio.run(connect().who(question))
    if as_json:
        dump({node: asdict(answer) | {"flows": [asdict(f) for f in answer.flows]} for node, answer in answers.items()})
    else:
        _show(answers.items())
    if not any(answer.flows for answer in answers.values()):
        raise ViniError(f"Nobody who is written down sent a packet from {source} to {destination}{_when(at)}.")


def _show(answers: Iterable[tuple[str, Flows]]) -> None:
    rows = []
    for node, answer in answers:
        for start, stop, why in answer.unwatched:
            note(f"note: node {node} has not seen all: {why}, from {_time(start)} to {_time(stop)}.")
        rows += [_row(node, flow) for flow in answer.flows]
    if rows:
        counted = ("PACKETS", "BYTES", "BACK", "BYTES BACK")
        head = ("NODE", "SLICE", "SLIVER", "BY", "FROM", "SEEN AS", "TO", "BEGAN", "LASTED", *counted)
        table(head, rows, right=counted)


def _row(node: str, f: Flow) -> tuple[str, ...]:
    where = (node, f.slice, f.sliver, f.protocol, f.source, f.seen_as, f.destination)
    counted = (f"{n}" for n in (f.out_packets, f.out_bytes, f.in_packets, f.in_bytes))
    return (*where, _time(f.start), _lasted(f.start, f.stop), *counted)


def _endpoint(text: str) -> tuple[str, int]:
    """An address and a port; -1 is any.  One of IPv6 is in brackets where a port follows."""
    if text.startswith("["):
        address, closed, port = text[1:].partition("]")
        port = port.removeprefix(":") if closed and port[:1] in ("", ":") else "none"
    else:
        address, _, port = (text, "", "") if text.count(":") > 1 else text.partition(":")
    try:
        found = int(port) if port not in ("", "*") else -1
        if not -1 <= found <= 65535:
            raise ValueError
        return str(ip_address(address)), found
    except ValueError as e:
        what = f"{text!r} is no address with a port; write it like 192.0.2.1:443 or [2001:db8::1]:443."
        raise ViniError(what) from e


def _moment(text: str) -> float:
    if not text:
        return 0.0
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as e:
        raise ViniError(f'{text!r} is no time; write it like "2026-11-29 15:04:05".') from e


def _when(at: str) -> str:
    return f" at {at}" if at else ""


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at):%Y-%m-%d %H:%M:%S}" if at else "the beginning"


def _lasted(start: float, stop: float) -> str:
    return f"{max(0.0, stop - start):.1f} s" if stop else "goes on"
