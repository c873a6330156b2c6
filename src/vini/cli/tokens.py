"""API tokens of one's account at a testbed: what scripts come with instead of a password."""

from __future__ import annotations

from datetime import datetime

import click

from vini.cli.account import remote
from vini.cli.out import dump, json_option, line, note, table
from vini.rules.caller import SCOPES
from vini.rules.nouns import Token
from vini.rules.wishes import Page, Secret


@click.group("token", invoke_without_command=True, short_help="Your API tokens and sessions: list, add or delete.")
@json_option
@click.pass_context
def token_command(ctx: click.Context, as_json: bool) -> None:
    """API tokens and sessions of your account at the testbed: list, add or delete.

    \b
    vini token add nightly --scope read --days 90      for a script, which comes with it instead of a password
    vini login URL --token SECRET                      there
    """
    if ctx.invoked_subcommand:
        return
    rows = remote().pages("/tokens", Page[Token])
    if as_json:
        dump([{f: getattr(row, f) for f in row.__struct_fields__} for row in rows])
        return
    shown = [(str(t.id), t.kind, t.name, ", ".join(sorted(t.scopes)), _time(t.expires)) for t in rows]
    table(("NUMBER", "KIND", "NAME", "SCOPES", "EXPIRES"), shown)


@token_command.command("add")
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(SCOPES), default=("read",), show_default=True,
              help="What it lets whoever has it do; may be repeated.")  # fmt: skip
@click.option("--days", type=click.FloatRange(0.001, 366), default=30.0, show_default=True, help="How long it is good.")
@json_option
def _add(name: str, scopes: tuple[str, ...], days: float, as_json: bool) -> None:
    """Make an API token, called NAME; it can do no more than you, and no more than the token that you came with."""
    client = remote()
    body = {"name": name, "scopes": sorted(set(scopes)), "lifetime_s": days * 86400}
    made = client.call("POST", "/tokens", Secret, body)
    if as_json:
        dump({"token": made.secret, "expires": made.expires})
        return
    line(made.secret)
    note(f"It is shown once, and good until {_time(made.expires)}. Next: vini login {client.login.url} --token SECRET")


@token_command.command("delete")
@click.argument("number", type=click.IntRange(1))
def _delete(number: int) -> None:
    """Let a token or a session be worth nothing any more."""
    remote().call("DELETE", f"/tokens/{number}", type(None))
    line(f"Token {number} is worth nothing any more.")


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"
