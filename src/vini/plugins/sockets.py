"""A process with AF_XDP sockets: the program that hands it the packets of its vifs (sockets.c).  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from ipaddress import ip_address

from vini.model import BpfRow

MOST_VIFS = 64  # of sockets.c
MOST_MTU = 1778  # a frame of node/xsk.py, less the room for headers that XDP keeps and the Ethernet header


@cache
def _program() -> str:
    return files(__package__).joinpath("sockets.c").read_text("utf-8")


def source(vifs: Sequence[str]) -> str:
    """The program for these vifs, in C; the place of a vif is the number of its socket."""
    return _program() + "".join(f'AT({number}, "{vif}")\n' for number, vif in enumerate(vifs))


def functions(vifs: Sequence[str]) -> dict[str, str]:
    """The function for each vif."""
    return {vif: f"at_{number}" for number, vif in enumerate(vifs)}


def own(addresses: Sequence[str]) -> tuple[BpfRow, ...]:
    """What the kernel of the sliver is to get, as rows of the program's table; addresses with or without a length."""
    packed = {ip_address(a.partition("/")[0]).packed.ljust(16, b"\0").hex() for a in addresses}
    return tuple(BpfRow("own", key, "01") for key in sorted(packed))
