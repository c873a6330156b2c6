"""Pressure (PSI, Documentation/accounting/psi.rst): how much of the time somebody had to wait for what is short."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_OF_NODE = Path("/proc/pressure")
_SHORT = ("cpu", "memory", "io")


def of_group(group: Path) -> Mapping[str, float]:
    """Per cent of the last 10 s in which a process of a group, or of one below, waited: for `cpu`, `memory`, `io`.

    Version 2 of cgroups has it for all groups, whoever has the controllers; {} where the kernel keeps no account.
    """
    return {what: share for what in _SHORT if (share := _some(group / f"{what}.pressure")) is not None}


def of_node() -> Mapping[str, float]:
    """The same of all that runs on this machine."""
    return {what: share for what in _SHORT if (share := _some(_OF_NODE / what)) is not None}


def _some(file: Path) -> float | None:
    """`some avg10=1.23 avg60=...`."""
    with suppress(OSError):  # none, or switched off
        for line in file.read_text().splitlines():
            kind, average, *_ = line.split()
            if kind == "some":
                return float(average.removeprefix("avg10="))
    return None
