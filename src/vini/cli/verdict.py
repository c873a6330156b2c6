"""What a check of the chain of events found."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from vini.cli.out import dump, line
from vini.model import ViniError
from vini.text.units import count

if TYPE_CHECKING:
    from vini.store import Head, Verdict

head_option = click.option(
    "--head", default="", metavar="PLACE:HASH", help="What an earlier check printed; it must still be there."
)


def parsed_head(text: str) -> Head | None:
    """None: none was given."""
    if not text:
        return None
    if not re.fullmatch(r"\d{1,18}:[0-9a-f]{64}", text):
        raise ViniError(f"{text!r} is no head of a chain; give what an earlier check printed, like 12:9f2c...")
    from vini.store import Head

    place, _, digest = text.partition(":")
    return Head(int(place), digest)


def show_verdict(found: Verdict, as_json: bool) -> None:
    """ViniError with what is wrong, where something is."""
    if as_json:
        dump({"events": found.events, "head": str(found.head), "broken": found.broken})
    elif not found.broken:
        line(f"{count(found.events, 'event')}, and none was changed. Keep this head elsewhere:")
        line(f"  {found.head}")
    if found.broken:
        raise ViniError(f"The events are not what they were: {found.broken}")
