"""The substrate: what operators declare of the links between machines, and maintenance."""

from __future__ import annotations

import click

from vini.cli.account import remote
from vini.cli.out import dump, json_option, line, note, table
from vini.rules.nouns import SubstrateLink
from vini.rules.wishes import Page

_AT = "/substrate-links"


@click.group("substrate", invoke_without_command=True)
@json_option
@click.pass_context
def substrate_command(ctx: click.Context, as_json: bool) -> None:
    """Links between nodes and sites: declare them, take one down.

    \b
    vini substrate add east-west n1 n2 --rate 1000 --delay 12
    vini substrate add uplink site:home site:mit --rate 10000
    vini substrate down east-west --because "new fibre"     all virtual links on it fail, as with a cable
    vini substrate up east-west
    """
    if ctx.invoked_subcommand:
        return
    rows = remote().pages(_AT, Page[SubstrateLink])
    if as_json:
        dump([{f: getattr(row, f) for f in row.__struct_fields__} for row in rows])
        return
    table(("LINK", "FROM", "TO", "MBIT/S", "DELAY", "STATE"), [_row(row) for row in rows])
    if not rows:
        note("No link of the substrate is declared; `vini substrate add NAME FROM TO` declares one.")


def _row(row: SubstrateLink) -> tuple[str, ...]:
    rate = f"{row.rate_mbit:g}" if row.rate_mbit else "-"
    return row.name, row.a, row.b, rate, f"{row.delay_ms:g} ms", f"down: {row.down}" if row.down else "up"


@substrate_command.command("add")
@click.argument("name")
@click.argument("a", metavar="FROM")
@click.argument("b", metavar="TO")
@click.option(
    "--rate", type=click.FloatRange(0), default=0.0, help="What it carries, Mbit/s in each direction; 0: unbounded."
)
@click.option("--delay", type=click.FloatRange(0), default=0.0, help="One way, in ms; the shortest path is taken.")
def _add(name: str, a: str, b: str, rate: float, delay: float) -> None:
    """Declare a link between two nodes (n1) or sites (site:home)."""
    wish = {"name": name, "a": a, "b": b, "rate_mbit": rate, "delay_ms": delay}
    row = remote().call("POST", _AT, SubstrateLink, wish)
    line(f"Substrate link {row.name} leads from {row.a} to {row.b}.")


@substrate_command.command("down")
@click.argument("name")
@click.option("--because", required=True, help="Why; the owners of slices are told.")
def _down(name: str, because: str) -> None:
    """Take a link down: every virtual link that rides on it fails within a second."""
    if not because.strip():
        raise click.UsageError("--because says why: the owners of slices want to know.")
    row = remote().call("PATCH", f"{_AT}/{name}", SubstrateLink, {"down": because})
    line(f"Substrate link {row.name} is down: {row.down}.")


@substrate_command.command("up")
@click.argument("name")
def _up(name: str) -> None:
    """Bring it up again, and with it what rides on it."""
    line(f"Substrate link {remote().call('PATCH', f'{_AT}/{name}', SubstrateLink, {'down': ''}).name} is up.")


@substrate_command.command("delete")
@click.argument("name")
def _delete(name: str) -> None:
    """Declare it no more."""
    remote().call("DELETE", f"{_AT}/{name}", type(None))
    line(f"Substrate link {name} is deleted.")
