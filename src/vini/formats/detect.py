"""Which format a file is in, told by its content, and by its suffix where the content is too broken to tell."""

from __future__ import annotations

import re
from typing import Literal

Format = Literal["graphml", "gml", "sndlib-xml", "sndlib", "containerlab", "pl-vini"]

_HEAD = 20_000  # characters that are looked at
# Go through in this order; each must be something that no other format can hold.
_CONTENT: tuple[tuple[Format, re.Pattern[str]], ...] = (
    ("graphml", re.compile(r"\A\s*<[^\0]*?<(\w+:)?graphml\b|\A\s*<(\w+:)?graphml\b")),
    ("sndlib-xml", re.compile(r"\A\s*<[^\0]*?<network\b[^>]*sndlib|\A\s*<network\b|\A\s*<[^\0]*?<networkStructure\b")),
    ("sndlib", re.compile(r"\A\s*\?\s*SNDlib native format")),
    ("gml", re.compile(r"^[ \t]*graph\s*\[", re.MULTILINE)),
    ("pl-vini", re.compile(r"^[ \t]*\$\w+\s*=\s*(Slice|Node|Link)\.new\b", re.MULTILINE)),
    ("containerlab", re.compile(r"^topology[ \t]*:[^\0]*?\bnodes[ \t]*:", re.MULTILINE)),
)
# A file of ours, whatever texts it holds.
_OURS = re.compile(r"""\A(?!\s*<)[^\0]*?^[{ \t]{0,2}["']?slivers["']?[ \t]*:""", re.MULTILINE)
_SUFFIXES: tuple[tuple[str, Format], ...] = (
    (".graphml", "graphml"),
    (".gml", "gml"),
    (".clab.yml", "containerlab"),
    (".clab.yaml", "containerlab"),
)


def is_ours(text: str) -> bool:
    """Whether it is a topology file of VINI's own."""
    return bool(_OURS.search(text[:_HEAD].removeprefix("\ufeff")))


def detect(text: str, name: str) -> Format | None:
    """The format of a file called `name`; None where it is none that can be imported."""
    if is_ours(text):
        return None
    head = text[:_HEAD].removeprefix("\ufeff")
    for format_, pattern in _CONTENT:
        if pattern.search(head):
            return format_
    return next((format_ for suffix, format_ in _SUFFIXES if name.lower().endswith(suffix)), None)
