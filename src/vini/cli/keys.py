"""SSH keys of one's account at a testbed: what opens the slivers of one's slices."""

from __future__ import annotations

from pathlib import Path

import click

from vini.cli.account import remote
from vini.cli.out import dump, json_option, line, note, table
from vini.model import ViniError
from vini.rules.nouns import Key
from vini.rules.wishes import Page

_NAMES = ("id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub")


@click.group("key", invoke_without_command=True, short_help="SSH keys of an account: list, add or delete.")
@click.option("--of", "email", help="Somebody else's; default: one's own.")
@json_option
@click.pass_context
def key_command(ctx: click.Context, email: str | None, as_json: bool) -> None:
    """SSH keys of an account of the testbed: list, add or delete.  They open the slivers of its slices."""
    ctx.obj = email
    if ctx.invoked_subcommand:
        return
    client = remote()
    rows = client.pages(f"/persons/{email or client.login.email}/keys", Page[Key])
    if as_json:
        dump([{f: getattr(row, f) for f in row.__struct_fields__} for row in rows])
        return
    table(("NUMBER", "KEY", "COMMENT"), [(str(k.id), f"{k.key[:24]}...{k.key[-12:]}", k.comment) for k in rows])
    if not rows:
        note("There is no key; `vini key add` adds yours.")


@key_command.command("add")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.pass_context
def _add(ctx: click.Context, file: Path | None) -> None:
    """Add the public key in FILE; default: ~/.ssh/id_ed25519.pub, or the first that there is."""
    text = _public(file or next((p for n in _NAMES if (p := Path.home() / ".ssh" / n).exists()), None))
    client = remote()
    made = client.call("POST", f"/persons/{ctx.obj or client.login.email}/keys", Key, {"key": text})
    line(f"Key {made.id} of {made.person} opens the slivers of all slices of that account.")


@key_command.command("blacklist")
@click.argument("file", type=click.Path(path_type=Path))
def _blacklist(file: Path) -> None:
    """Take the public key in FILE from whoever has it, for ever, as an admin: others know its private half."""
    remote().call("POST", "/key-blacklist", type(None), {"key": _public(file)})
    line("Nobody may have that key any more; it opens nothing.")


def _public(path: Path | None) -> str:
    """The key in a file; None: there is none."""
    if path is None:
        raise ViniError("There is no key in ~/.ssh; `ssh-keygen -t ed25519` makes one.")
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as e:
        raise ViniError(f"The key {str(path)!r} can't be read; name a public key, which ends in .pub.") from e
    if "PRIVATE KEY" in text:
        raise ViniError(f"{str(path)!r} is a private key, which never leaves your machine; add {str(path)!r}.pub.")
    return text


@key_command.command("delete")
@click.argument("number", type=click.IntRange(1))
def _delete(number: int) -> None:
    """Take a key away; whoever is in with it is put out."""
    remote().call("DELETE", f"/keys/{number}", type(None))
    line(f"Key {number} opens nothing any more.")
