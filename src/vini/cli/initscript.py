"""Initscripts that a testbed's central keeps."""

from __future__ import annotations

from typing import TextIO

import click

from vini.cli.account import remote
from vini.cli.out import dump, json_option, line, note, table
from vini.initscript import is_name
from vini.model import NotFound
from vini.rules.nouns import InitScript
from vini.rules.wishes import Page


@click.group("initscript", invoke_without_command=True)
@json_option
@click.pass_context
def initscript_command(ctx: click.Context, as_json: bool) -> None:
    """Initscripts that the central keeps: list, show, set, remove.

    Slivers name one (`initscript: NAME`), or a tag `initscript` of their slice does, and run it at each of their boots.
    """
    if ctx.invoked_subcommand:
        return
    rows = _all()
    if as_json:
        dump([_fields(row) for row in rows])
        return
    shown = [(s.name, "yes" if s.enabled else "no", f"{len(s.script.splitlines())}") for s in rows]
    table(("INITSCRIPT", "ENABLED", "LINES"), shown, right=("LINES",))
    if not rows:
        note("The central keeps no initscript; an admin has it keep one: vini initscript set NAME FILE")


def _all() -> list[InitScript]:
    return remote().pages("/initscripts", Page[InitScript])


def _fields(row: InitScript) -> dict[str, object]:
    return {"name": row.name, "enabled": row.enabled, "script": row.script}


@initscript_command.command("show")
@click.argument("name")
@json_option
def _show(name: str, as_json: bool) -> None:
    """Print the script NAME."""
    rows = _all()
    found = next((row for row in rows if row.name == name), None)
    if found is None:
        known = f"it keeps {', '.join(row.name for row in rows)}" if rows else "it keeps none"
        raise NotFound(f"The central keeps no initscript {name!r}; {known}.")
    if as_json:
        dump(_fields(found))
        return
    line(found.script.removesuffix("\n"))
    if not found.enabled:
        note(f"It is not enabled: a change of a slice that names it is refused; `vini initscript set {name} FILE`.")


@initscript_command.command("set")
@click.argument("name")
@click.argument("file", type=click.File())
@click.option("--disabled", is_flag=True, help="Keep it, but let no slice have it.")
@json_option
def _set(name: str, file: TextIO, disabled: bool, as_json: bool) -> None:
    """Have the central keep the script in FILE (-: standard input) as NAME, as an admin.

    What slices run does not change by that: each gets the new text with its next change, and runs it at once then.
    """
    if not is_name(name):
        raise click.UsageError(f"{name!r} can't be named in a file; use letters, digits, '.', '_' and '-'.")
    try:
        script = file.read()
    except UnicodeDecodeError as e:
        raise click.UsageError(f"{file.name} is no text: {e}; an initscript is a script, not a program.") from e
    if not script.strip():
        raise click.UsageError(f"{file.name} is empty; `vini initscript remove {name}` takes a script away.")
    was = next((row for row in _all() if row.name == name), None)
    body = {"name": name, "script": script, "enabled": not disabled}
    made = remote().call("POST", "/initscripts", InitScript, body)
    if as_json:
        dump(_fields(made) | {"changed": was is None or _fields(was) != _fields(made)})
        return
    if not made.enabled:
        line(f"The initscript {name} is kept, and not enabled: a change of a slice that names it is refused.")
    elif was is None:
        line(f"The initscript {name} is kept; a sliver runs it where its file says `initscript: {name}`.")
    elif _fields(was) == _fields(made):
        line(f"The initscript {name} is as it was.")
    else:
        line(f"The initscript {name} is another one now.")
        note("Slices that name it run on with the text that they have; their next change (`vini up`) brings this one.")


@initscript_command.command("remove")
@click.argument("name")
def _remove(name: str) -> None:
    """Forget the script NAME, as an admin."""
    if not is_name(name):
        raise click.UsageError(f"{name!r} is no initscript's name; `vini initscript` lists those that are kept.")
    remote().call("DELETE", f"/initscripts/{name}", type(None))
    line(f"The central keeps no initscript {name} any more.")
    note("Slices that name it run on with the text that they have, but their next change is refused.")
