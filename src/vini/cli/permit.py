"""What the central may do to files of this machine, as its administrator says."""

from __future__ import annotations

import os
from pathlib import Path

import click
from msgspec import structs

from vini.cli.out import dump, json_option, line, note
from vini.model import Denied, ViniError
from vini.node import identity
from vini.node.files import permit
from vini.node.files.permit import Permit
from vini.node.files.record import Record
from vini.node.place import from_environment
from vini.rules.conf_files import lies_below

_ROOTS = (
    "/bin", "/boot", "/dev", "/home", "/lib", "/lib32", "/lib64", "/opt", "/proc", "/root", "/sbin", "/sys", "/usr",
    "/var/spool/cron", "/etc/apt", "/etc/cron.d", "/etc/cron.daily", "/etc/cron.hourly", "/etc/init.d",
    "/etc/ld.so.conf.d", "/etc/logrotate.d", "/etc/modprobe.d", "/etc/pam.d", "/etc/profile.d", "/etc/ssh",
    "/etc/sudoers.d", "/etc/systemd", "/etc/udev", "/run/systemd", "/run/udev",
)  # fmt: skip


@click.command("permit")
@click.option("--below", multiple=True, metavar="DIR",
              help="Conf files may be below this directory; may be repeated; `none`: nowhere.")  # fmt: skip
@click.option("--commands/--no-commands", default=None, help="Whether they may come with commands, which root runs.")
@json_option
def permit_command(below: tuple[str, ...], commands: bool | None, as_json: bool) -> None:
    """What the central may do to files of this machine; what isn't named stays as it was."""
    if os.geteuid() != 0:
        raise Denied("Only root says what the central may do to this machine's files; run this with sudo.")
    state = from_environment().state
    before = identity.read(state)
    owner = before.owner if before else ""
    named = named_below(below)
    said = permit_files(state, owner, named, commands) if below or commands is not None else permit.read(state, owner)
    written = sorted(Record(state).book)
    if as_json:
        dump({"below": said.below, "commands": said.commands, "written": written})
        return
    line(sentence(said))
    warn(named)
    if written:
        note(f"The agent wrote: {', '.join(written)}.")


def sentence(said: Permit) -> str:
    """What is permitted."""
    where = f"below {', '.join(said.below)}" if said.below else "nowhere"
    return f"The central may write conf files {where}, {'with' if said.commands else 'without'} commands."


def named_below(below: tuple[str, ...]) -> tuple[str, ...] | None:
    """The directories that are meant; None: nothing was said.  Raises ViniError where that makes no sense."""
    if below == ("none",):
        return ()
    for directory in below:
        if directory == "none":
            raise ViniError("`none` means nowhere; name it alone, or leave it out.")
        if not directory.startswith("/"):
            raise ViniError(f"{directory!r} is no directory from /; name one such as /etc/vini.")
    resolved = tuple(str(Path(directory).resolve()) for directory in below)
    permit.check(resolved)
    return resolved or None


def warn(below: tuple[str, ...] | None) -> None:
    """Where root takes orders from files there; we know of some such places, not of all."""
    if risky := [d for d in below or () if any(d == r or lies_below(d, r) or lies_below(r, d) for r in _ROOTS)]:
        note(f"Who may write below {', '.join(risky)} can become root of this machine, also without commands.")


def permit_files(state: Path, owner: str, below: tuple[str, ...] | None, commands: bool | None) -> Permit:
    """Write down what is permitted to that central from now on; what isn't named (None) stays as it was."""
    said = structs.replace(permit.read(state, owner), owner=owner)
    if below is not None:
        said = structs.replace(said, below=below)
    if commands is not None:
        said = structs.replace(said, commands=commands)
    permit.write(state, said)
    return said
