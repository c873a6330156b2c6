"""The command line.  Nothing outside this package prints or exits."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
import sys
from types import FrameType
from typing import NoReturn

import click

from vini import __version__
from vini.cli.out import complain
from vini.model import Denied, ViniError

_SECTIONS = {
    "Slices": ("up", "plan", "status", "link", "sliver", "program", "outside", "grant", "down", "log"),
    "Inside": ("exec", "shell", "ssh", "ssh-config", "cp", "logs", "ping", "routes", "neighbors", "top", "capture"),
    "Experiments": ("run", "compare"),
    "Files": ("import", "schema"),
    "This machine": ("doctor", "agent", "image", "volume", "audit", "bench"),
    "A testbed": (
        "login",
        "logout",
        "slice",
        "usage",
        "nodes",
        "node",
        "sites",
        "site",
        "person",
        "initscript",
        "conffile",
        "key",
        "token",
        "tag",
        "nodegroup",
        "lease",
        "substrate",
        "central",
    ),
}
_MODULES = {
    "vini.cli.slices": ("up", "plan", "status", "down", "log"),
    "vini.cli.links": ("link",),
    "vini.cli.program": ("program",),
    "vini.cli.outside": ("outside",),
    "vini.cli.audit": ("audit",),
    "vini.cli.grant": ("grant",),
    "vini.cli.execute": ("exec",),
    "vini.cli.copy": ("cp",),
    "vini.cli.logs": ("logs",),
    "vini.cli.ssh": ("ssh", "ssh-config"),
    "vini.cli.slivers": ("shell", "ping", "capture"),
    "vini.cli.views": ("routes", "neighbors", "top"),
    "vini.cli.runs": ("run", "compare"),
    "vini.cli.files": ("import", "schema"),
    "vini.cli.machine": ("doctor", "agent", "bench"),
    "vini.cli.image": ("image",),
    "vini.cli.volume": ("volume",),
    "vini.cli.lifecycle": ("sliver",),
    "vini.cli.account": ("login", "logout"),
    "vini.cli.testbed": ("slice", "nodes", "sites", "site", "person"),
    "vini.cli.initscript": ("initscript",),
    "vini.cli.conffile": ("conffile",),
    "vini.cli.keys": ("key",),
    "vini.cli.tokens": ("token",),
    "vini.cli.tags": ("tag", "nodegroup"),
    "vini.cli.node": ("node",),
    "vini.cli.usage": ("usage",),
    "vini.cli.lease": ("lease",),
    "vini.cli.substrate": ("substrate",),
    "vini.cli.central": ("central",),
}
_OF_SLICES = ("Slices", "Inside", "Experiments")  # what these commands are about depends on `vini login`
# What is interrupted in them has changed nothing that would stay.
_LOOKS = frozenset(
    {
        "plan",
        "status",
        "log",
        "exec",
        "shell",
        "ssh",
        "ssh-config",
        "logs",
        "ping",
        "routes",
        "neighbors",
        "top",
        "capture",
        "compare",
        "import",
        "schema",
        "doctor",
        "audit",
        "bench",
        "nodes",
        "sites",
        "usage",
    }
)


class _Interrupted(Exception):
    """A command was, by Ctrl-C or SIGTERM; as a sentence."""


class _ReaderGone(Exception):
    """Whoever read our output reads no more."""


class Commands(click.Group):
    """Imports a command's module only when it is asked for: `vini exec` must not wait for plotting libraries."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """All, in the order of the help page."""
        return [name for names in _SECTIONS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of that name."""
        for module, names in _MODULES.items():
            if cmd_name in names:
                __import__(module)
                found: click.Command = getattr(sys.modules[module], cmd_name.replace("-", "_") + "_command")
                return found
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """A word that is no command gets the nearest one as a hint."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f"Did you mean `vini {near[0]}`?" if near else "`vini --help` lists all."
            raise click.UsageError(f"There is no command {args[0]!r}. {hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """What click would make an exit code 1 of, or a blank line, is for `main`."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as e:
            raise _ReaderGone from e
        except (KeyboardInterrupt, asyncio.CancelledError, click.exceptions.Abort) as e:
            raise _Interrupted(f"Interrupted{_what_stays(ctx.invoked_subcommand or '')}.") from e

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """By section."""
        for section, names in _SECTIONS.items():
            found = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(section):
                formatter.write_dl([(name, command.get_short_help_str(80)) for name, command in found if command])


def _what_stays(command: str) -> str:
    if command in _LOOKS:
        return ""
    shown = any(command in _SECTIONS[section] for section in _OF_SLICES)
    return "; what was done so far stays" + (". `vini status` shows it" if shown else "")


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="vini")
@click.pass_context
def vini(ctx: click.Context) -> None:
    """A network of your own, inside the real one.

    A slice is one such network.  A sliver is a virtual machine, router or host in it; links join slivers.

    \b
    vini up examples/abilene.yaml         a topology file becomes a running network
    vini status                           how it is
    vini exec denver -- ip route          look inside a sliver
    vini link denver kansas-city --fail silent
    vini down                             leave nothing behind
    """
    if os.environ.get("SUDO_USER") and any(ctx.invoked_subcommand in _SECTIONS[s] for s in _OF_SLICES):
        from vini.cli.account import warn_of_sudo

        warn_of_sudo()


def main() -> None:
    """Run a command; errors become one sentence and an exit code: 1 failed, 2 bad file or usage, 3 no capacity,
    4 denied, 130 interrupted."""
    signal.signal(signal.SIGTERM, _as_ctrl_c)
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # httpx's own command: it would load pygments
    try:
        code = vini.main(prog_name="vini", standalone_mode=False) or 0
        sys.stdout.flush()
        sys.exit(code)
    except (_Interrupted, KeyboardInterrupt) as e:
        complain(str(e) or "Interrupted.")
        sys.exit(130)
    except click.exceptions.NoArgsIsHelpError as e:
        print(e.format_message(), file=sys.stderr)
        sys.exit(e.exit_code)
    except click.ClickException as e:
        complain(_with_next_step(e))
        sys.exit(e.exit_code)
    except click.exceptions.Exit as e:
        sys.exit(e.exit_code)
    except (_ReaderGone, BrokenPipeError):
        _write_no_more()
        sys.exit(141)
    except ViniError as e:
        complain(str(e))
        sys.exit(e.exit_code)
    except OSError as e:
        if e.errno not in _MACHINES:
            _unforeseen(e)
        _write_no_more()
        complain(f"{_where(e)} {_MACHINES[e.errno]}")
        sys.exit(Denied.exit_code if e.errno in (errno.EACCES, errno.EPERM) else 1)
    except Exception as e:  # the request boundary: whoever sits there can't act on a traceback
        _unforeseen(e)


_FULL = "can't be written: its disk is full. Make room there and try again."
_FORBIDDEN = "may not be used by you: run this with sudo, or as whose it is."
_MACHINES: dict[int | None, str] = {  # what is no mistake in VINI
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: "can't be written: its disk may only be read now; see `mount` and `dmesg`, mend that and try again.",
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
}


def _unforeseen(e: Exception) -> NoReturn:
    if os.environ.get("VINI_DEBUG"):
        raise e
    complain(f"This is a bug in VINI ({type(e).__name__}: {e}); the same command with VINI_DEBUG=1 shows where.")
    sys.exit(1)


def _where(e: OSError) -> str:
    return repr(e.filename) if e.filename else "The output"


def _write_no_more() -> None:
    """Python flushes standard output at its end, once more in vain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)


def _as_ctrl_c(_: int, frame: FrameType | None) -> None:
    """SIGTERM ends a command as tidily as Ctrl-C does; also where Ctrl-C is ignored (a background job of a script)."""
    on_interrupt = signal.getsignal(signal.SIGINT)
    if not callable(on_interrupt):
        raise KeyboardInterrupt
    on_interrupt(signal.SIGINT, frame)


def _with_next_step(e: click.ClickException) -> str:
    """click's own sentences say what is wrong, but not where to look."""
    text = e.format_message()
    if isinstance(e, click.UsageError) and e.ctx and "`vini" not in text:
        return _too_many(text, e.ctx) or f"{text} `{e.ctx.command_path} --help` shows what there is."
    return text


def _too_many(text: str, ctx: click.Context) -> str | None:
    """Of words that a command does not take; where it takes none, the first is meant as a slice's name."""
    found = re.fullmatch(r"Got unexpected extra arguments? \((.*)\)", text)
    if not found:
        return None
    takes = {p.name for p in ctx.command.params if isinstance(p, click.Argument)}
    named = not takes and any(p.name == "slice_" for p in ctx.command.params)
    first = found[1].split()[0]
    next_ = (
        f"to name a slice: `{ctx.command_path} -s {first}`"
        if named
        else f"`{ctx.command_path} --help` shows what it takes"
    )
    return f"`{ctx.command_path}` can't take {found[1]!r} here; {next_}."
