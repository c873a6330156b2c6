"""Tags of nodes, slices and slivers of a testbed, and the groups of nodes that tags make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from vini.cli.account import remote
from vini.cli.out import dump, json_option, line, note, table
from vini.rules.nouns import NodeGroup, Tag
from vini.rules.wishes import Page

Target = dict[str, str]


def _target_options(of: Callable[..., Any]) -> Callable[..., Any]:
    for name, says in (
        ("nodegroup", "A slice's, on the nodes of this group."),
        ("node", "A node's; with --slice a sliver's: the slice's there."),
        ("slice", "A slice's."),
    ):
        of = click.option(f"--{name}", name, default="", help=says)(of)
    return of


def _named(target: Target) -> Target:
    return {k: v for k, v in target.items() if v}


@click.group("tag", invoke_without_command=True, short_help="Tags of nodes, slices and slivers: list, set or delete.")
@_target_options
@click.option("--name", default="", help="Only those of this name; `*` stands for any text.")
@json_option
@click.pass_context
def tag_command(ctx: click.Context, /, name: str, as_json: bool, **target: str) -> None:
    """Tags of nodes, slices and slivers: list, set or delete.

    Of those with one name a sliver's goes before its nodegroup's, and that before its slice's.

    \b
    vini tag set arch arm --node n1
    vini tag set initscript boot --slice princeton_iias
    """
    if ctx.invoked_subcommand:
        return
    rows = remote().pages("/tags", Page[Tag], name=name, **target)
    if as_json:
        dump([{f: getattr(row, f) for f in row.__struct_fields__} for row in rows])
        return
    shown = [(str(t.id), t.name, t.value, t.slice or "-", t.node or "-", t.nodegroup or "-") for t in rows]
    table(("NUMBER", "NAME", "VALUE", "SLICE", "NODE", "NODEGROUP"), shown)


@tag_command.command("set")
@click.argument("name")
@click.argument("value")
@_target_options
def _set(name: str, value: str, **target: str) -> None:
    """Give a tag this value, whether or not it had one."""
    made = remote().call("POST", "/tags", Tag, {"name": name, "value": value, **_named(target)})
    line(f"Tag {made.name} is {made.value!r} now: tag {made.id}.")


@tag_command.command("delete")
@click.argument("number", type=click.IntRange(1))
def _delete(number: int) -> None:
    """Take a tag away."""
    remote().call("DELETE", f"/tags/{number}", type(None))
    line(f"Tag {number} is deleted.")


@click.group("nodegroup", invoke_without_command=True, short_help="Groups of nodes by their tags: list, add or delete.")
@json_option
@click.pass_context
def nodegroup_command(ctx: click.Context, as_json: bool) -> None:
    """Groups of nodes: those whose tag has some value, at any moment."""
    if ctx.invoked_subcommand:
        return
    rows = remote().pages("/nodegroups", Page[NodeGroup])
    if as_json:
        dump([{f: getattr(row, f) for f in row.__struct_fields__} for row in rows])
        return
    table(("NODEGROUP", "TAG", "VALUE", "NODES"), [(g.name, g.tag, g.value, ", ".join(g.nodes)) for g in rows])
    if not rows:
        note("There is no nodegroup; `vini nodegroup add NAME TAG VALUE` makes one.")


@nodegroup_command.command("add")
@click.argument("name")
@click.argument("tag")
@click.argument("value")
def _add(name: str, tag: str, value: str) -> None:
    """Make a group of all nodes whose TAG is VALUE."""
    made = remote().call("POST", "/nodegroups", NodeGroup, {"name": name, "tag": tag, "value": value})
    line(f"Nodegroup {made.name} has now: {', '.join(made.nodes) or 'no node'}.")


@nodegroup_command.command("delete")
@click.argument("name")
def _delete_group(name: str) -> None:
    """Delete a group, with the tags that slices have in it."""
    remote().call("DELETE", f"/nodegroups/{name}", type(None))
    line(f"Nodegroup {name} is deleted.")
