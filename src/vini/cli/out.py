"""How the command line talks: results on standard output, progress and complaints on standard error."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import click

from vini.bus import Progress
from vini.text.units import count

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Ticker", "called", "complain", "count", "dump", "json_option", "line", "note", "plain", "table"]

_CONTROLS = {c: f"\\x{c:02x}" for c in (*range(32), *range(127, 160)) if chr(c) not in "\t\n"}
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")


def called(sentence: str) -> str:
    """The same with every command as this user has to type it: `vini status` is `sudo ./vini status` for some."""
    way = os.environ.get("VINI_CALLED", "vini")
    if os.environ.get("SUDO_USER"):
        way = f"sudo {way}"
    return re.sub(r"(?<![\w./-])vini(?= (?:--)?[a-z])", lambda _: way, sentence)


def plain(text: str) -> str:
    """The same with what would move a terminal's cursor, or what no terminal can show, written out: much of what is
    printed was said by slivers."""
    return text.translate(_CONTROLS).encode(errors="backslashreplace").decode()


def complain(sentence: str) -> None:
    """An error, on standard error."""
    told = plain(called(sentence))
    click.echo(f"{click.style('error:', bold=True, fg='red')} {told}", err=True, color=_colours())


def note(sentence: str) -> None:
    """Something worth knowing, on standard error."""
    click.secho(plain(called(sentence)), dim=True, err=True, color=_colours())


def _colours() -> bool | None:
    """Whether colours are refused (https://no-color.org), which click does not heed; None: as the terminal is."""
    return False if os.environ.get("NO_COLOR") else None


def line(text: str = "") -> None:
    """A line of the result, without markup."""
    click.echo(plain(text))


def dump(value: object) -> None:
    """A result for machines."""
    click.echo(json.dumps(value, indent=2, default=str))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> None:
    """A result for people and for `grep`: plain columns, whole words, nothing cut."""
    lines = [tuple(head), *(tuple(map(plain, row)) for row in rows)]
    widths = [max(len(row[i]) for row in lines) for i in range(len(head))]
    for row in lines:
        cells = [c.rjust(w) if h in right else c.ljust(w) for c, w, h in zip(row, widths, head, strict=True)]
        click.echo("  ".join(cells).rstrip())


class Ticker:
    """One line that changes on a terminal; elsewhere a line per new text, so that logs stay short."""

    def __init__(self, title: str):
        self._title, self._last = title, ""
        self._status = _terminal().status(title) if sys.stderr.isatty() else None

    def say(self, text: str) -> None:
        """What is going on now."""
        if self._status:
            self._status.update(_escaped(f"{self._title}: {text}"))
        elif (start := text.partition(";")[0].split(",")[0]) != self._last:
            self._last = start
            note(f"{self._title}: {text}")

    def progress(self, p: Progress) -> None:
        """A step of a pass."""
        if self._status:
            self._status.update(_escaped(f"{self._title}: {p.done}/{p.total} {p.what}"))

    @contextmanager
    def shown(self) -> Iterator[Ticker]:
        """Visible while the block runs."""
        if self._status:
            with self._status:
                yield self
        else:
            yield self


@cache
def _terminal() -> Console:
    """Only whoever sits at one waits until rich is imported."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")
