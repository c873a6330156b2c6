"""Initscripts: what a sliver runs at each of its boots, once, before its commands; as PlanetLab had it.

A script is a text; or the name of one that the central keeps, where its operator wrote it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from vini import environment, names
from vini.model import File, Process, Sliver, Unsupported

NAME = "initscript"  # of its file, of its process, and so of its log; and of the tag that names one
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def is_name(text: str) -> bool:
    """Whether that is the name of a script, and no script."""
    return bool(_NAME.fullmatch(text))


def objects(sliver: Sliver, ns: str, rooted: bool) -> Iterator[File | Process]:
    """Its file, and the process that runs it with what its first line names: /run may let no file be a program."""
    text = sliver.initscript
    if not text:
        return
    if is_name(text):
        raise Unsupported(
            f"Sliver {sliver.name!r} names the initscript {text!r}, which only a testbed's central can know; "
            "write the script itself after `initscript: |`."
        )
    yield File(ns, NAME, text)
    argv = (*environment.words(sliver.environment), *_interpreter(text), f"{{run}}/{NAME}")
    yield Process(ns, NAME, argv, config=f"{names.digest('initscript', text):016x}", once=True, rooted=rooted)


def _interpreter(text: str) -> list[str]:
    first = text.partition("\n")[0]
    try:
        return (shlex.split(first[2:]) if first.startswith("#!") else []) or ["sh"]
    except ValueError:
        return ["sh"]
