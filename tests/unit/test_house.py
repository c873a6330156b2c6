"""What the house keeps to in its own text, where no tool sees it."""

from __future__ import annotations

import re
from pathlib import Path

import vini

SOURCE = Path(vini.__file__).parent
BROAD = re.compile(r"^\s*except (\(.*)?\b(Base)?Exception\b|^\s*except:|suppress\((Base)?Exception\)")


def test_whoever_catches_everything_says_why_beside_it() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{number}"
        for path in sorted(SOURCE.rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if BROAD.search(line) and "#" not in line
    ]
    assert found == []
