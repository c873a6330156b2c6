"""The documentation as tests see it: pages, fenced blocks, links."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]\n]*\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """A fenced block, and the paragraph before it."""

    language: str
    text: str
    before: str


def pages() -> list[Path]:
    """README.md and everything in docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """In the order of the page."""
    text = page.read_text()
    return [Block(m[1], m[2], text[: m.start()].rstrip().rpartition("\n\n")[2]) for m in _FENCE.finditer(text)]


def links(page: Path) -> list[str]:
    """Targets of links and images, outside fenced blocks."""
    return _LINK.findall(_FENCE.sub("", page.read_text()))


def anchors(page: Path) -> set[str]:
    """What `#...` may name: GitHub's form of each heading."""
    prose = _FENCE.sub("", page.read_text())
    titles = re.findall(r"^#+ +(.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", t.lower()).strip().replace(" ", "-") for t in titles}
