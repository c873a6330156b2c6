"""Where a program in C, or compiled, says that it runs: by the names of its sections.  Pure.

`tc`, `tc/ingress`, `tc/egress`, `xdp`, each also with `/VIF` (docs/reference/programs.md).
"""

from __future__ import annotations

import re
from typing import Literal

from vini.model import Value

_SECTION = re.compile(r"(tc/ingress|tc/egress|tc|xdp)(?:/([A-Za-z0-9_][A-Za-z0-9_.-]{0,14}))?")


class Entry(Value, frozen=True):
    """Where a program's section says that it runs; `vif` is "" for any."""

    hook: Literal["tc", "xdp"]
    direction: Literal["ingress", "egress"]
    vif: str


def entry(section: str) -> Entry | None:
    """Where a program of that section runs; None where no program may be in such a section."""
    match = _SECTION.fullmatch(section)
    if not match:
        return None
    hook, _, direction = match[1].partition("/")
    return Entry(hook, direction or "ingress", match[2] or "")  # type: ignore[arg-type]
