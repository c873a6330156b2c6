"""Kernel modules by name, with those that they need: for machines without modprobe(8) or its modules.dep."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path


def in_order(tree: Path, names: Sequence[str]) -> list[Path]:
    """The files of these modules below /lib/modules/RELEASE, each after all that it needs; built-in ones have none."""
    files = {_name(p): p for p in tree.rglob("*.ko")}
    found: dict[Path, None] = {}

    def add(name: str) -> None:
        if name in files and files[name] not in found:
            for needed in _needs(files[name]):
                add(needed)
            found[files[name]] = None

    for name in names:
        add(name)
    return list(found)


def _name(file: Path) -> str:
    """As modules call each other: `cls-bpf.ko` is cls_bpf."""
    return file.name.removesuffix(".ko").replace("-", "_")


def _needs(file: Path) -> list[str]:
    """What stands in its section .modinfo; see modinfo(8)."""
    said = re.search(rb"\0depends=([^\0]*)\0", file.read_bytes())
    return [n.replace("-", "_") for n in said[1].decode().split(",") if n] if said else []
