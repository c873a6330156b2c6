"""Conf files that nodes of a testbed are asked to have."""

from __future__ import annotations

from typing import BinaryIO

import click
from msgspec import structs

from vini.cli.account import remote
from vini.cli.out import dump, json_option, line, note, table
from vini.model import NotFound
from vini.rules.nouns import ConfFile
from vini.rules.wishes import Page


class _Mode(click.ParamType[int]):
    """As chmod(1) has it: 0644."""

    name = "mode"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Octal, up to 777."""
        text = str(value)
        if not text.isascii() or not text.isdigit() or set(text) & set("89") or int(text, 8) > 0o777:
            self.fail(f"{text!r} is no mode; write it like 0644, up to 0777.", param, ctx)
        return int(text, 8)


@click.group("conffile", invoke_without_command=True)
@json_option
@click.pass_context
def conffile_command(ctx: click.Context, as_json: bool) -> None:
    """Conf files that nodes are asked to have: list, show, set, remove.

    \b
    vini conffile set /etc/vini/conf.d/ntp.conf ntp.conf
    vini node conf-files n1
    """
    if ctx.invoked_subcommand:
        return
    rows = _all()
    if as_json:
        dump([structs.asdict(row) for row in rows])
        return
    shown = [
        (str(f.id), f.path, _of(f), f"{f.mode:04o}", f"{f.owner}:{f.group}", "yes" if f.enabled else "no") for f in rows
    ]
    table(("NUMBER", "PATH", "FOR", "MODE", "OWNER", "ENABLED"), shown, right=("NUMBER",))
    if not rows:
        note("There is no conf file; an admin makes one: `vini conffile set PATH FILE`.")


def _all() -> list[ConfFile]:
    return remote().pages("/conf-files", Page[ConfFile])


def _of(f: ConfFile) -> str:
    return f"node {f.node}" if f.node else f"nodegroup {f.nodegroup}" if f.nodegroup else "all nodes"


@conffile_command.command("show")
@click.argument("number", type=click.IntRange(1))
@json_option
def _show(number: int, as_json: bool) -> None:
    """Print the text of a conf file, by its number."""
    found = next((f for f in _all() if f.id == number), None)
    if found is None:
        raise NotFound(f"There is no conf file {number}; `vini conffile` lists them.")
    if as_json:
        dump(structs.asdict(found))
        return
    line(found.text.removesuffix("\n"))
    for what in ("preinstall_cmd", "postinstall_cmd", "error_cmd"):
        if command := getattr(found, what):
            note(f"{what}: {command}")


@conffile_command.command("set")
@click.argument("path")
@click.argument("file", type=click.File("rb"))
@click.option("--node", default="", help="Only for this node.")
@click.option("--nodegroup", default="", help="Only for the nodes of this group.")
@click.option("--mode", type=_Mode(), default="0644", show_default=True)
@click.option("--owner", default="root", show_default=True, help="A user of the node's machine.")
@click.option("--group", default="root", show_default=True, help="A group there.")
@click.option("--preinstall", "preinstall_cmd", default="", metavar="COMMAND", help="Run there before it is written.")
@click.option("--postinstall", "postinstall_cmd", default="", metavar="COMMAND", help="Run there after that.")
@click.option("--error", "error_cmd", default="", metavar="COMMAND", help="Run there when one of these failed.")
@click.option("--ignore-errors", "ignore_cmd_errors", is_flag=True, help="Go on where one of these failed.")
@click.option("--always-update", is_flag=True, help="Also over what somebody else made of the file there.")
@click.option("--disabled", is_flag=True, help="Keep it, but let no node have it.")
@json_option
def _set(path: str, file: BinaryIO, node: str, nodegroup: str, disabled: bool, as_json: bool, **more: object) -> None:
    """Have nodes keep the text of FILE (-: standard input) at PATH, as an admin.

    Nodes take it within seconds, where the administrator of each machine permits that: `vini node conf-files NODE`.
    """
    try:
        text = file.read().decode()  # with its ends of lines as they are
    except UnicodeDecodeError as e:
        raise click.UsageError(f"{file.name} is no text: {e}; a conf file is one.") from e
    target = {k: v for k, v in (("node", node), ("nodegroup", nodegroup)) if v}
    body = {"path": path, "text": text, "enabled": not disabled, **target, **more}
    made = remote().call("POST", "/conf-files", ConfFile, body)
    if as_json:
        dump(structs.asdict(made))
    elif made.enabled:
        line(f"Conf file {made.id} is {made.path} of {_of(made)}.")
        note(f"What a node has of it: `vini node conf-files {node or 'NODE'}`.")
    else:
        line(f"Conf file {made.id} is {made.path} of {_of(made)}, and not enabled: no node has it.")


@conffile_command.command("remove")
@click.argument("number", type=click.IntRange(1))
def _remove(number: int) -> None:
    """Ask for a conf file no more, as an admin: nodes take away what they wrote, unless somebody has changed it."""
    remote().call("DELETE", f"/conf-files/{number}", type(None))
    line(f"Conf file {number} is asked for no more.")
