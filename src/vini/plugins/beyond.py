"""Tunnels beyond the reach of those who use them: a container's are in a namespace that its root has no hold of.  Pure.

Whoever rules the network that a kernel's tunnel is in says where it leads, packet by packet: so he would send into
other slices.  A container therefore has one end of a pair, and what comes out of the other end goes into its tunnel.
"""

from __future__ import annotations

from collections.abc import Iterator

from vini import names
from vini.layout import Vif
from vini.model import (
    SYSCTLS,
    TWIN,
    AnyObject,
    Gate,
    Interface,
    Netns,
    Shape,
    Sysctl,
    Tunnel,
    Veth,
    VethEnd,
    beyond,
)

_TUNNEL = 1 << 24  # indexes above all numbers of tunnels, and without the bit of a TAP (`node.bpf.TAP_BIT`)
_PAIR = _TUNNEL ^ TWIN


def place(slice_: str, number: int) -> tuple[str, str, int, str]:
    """Namespace, interface, index and MAC address of a tunnel there, by its number."""
    return _at(slice_, f"tunnel{number}", _TUNNEL | number)


def twin(dev: str) -> str:
    """The end there of the pair that leads to a tunnel, by the tunnel's name; "": a tunnel that nothing leads to has
    another name."""
    return f"pair{number}" if (number := dev.removeprefix("tunnel")).isdigit() else ""


def pair(slice_: str, vif: Vif, number: int) -> Veth:
    """What leads to it."""
    ends = (
        VethEnd(f"{slice_}.{vif.sliver}", vif.dev, vif.index, vif.mac),
        VethEnd(*_at(slice_, f"pair{number}", _PAIR | number)),
    )
    a, b = sorted(ends, key=lambda e: (e.ns, e.dev))
    return Veth((a, b))


def _at(slice_: str, dev: str, index: int) -> tuple[str, str, int, str]:
    ns = beyond(slice_)
    return ns, dev, index, names.mac(slice_, ns, dev)


def objects(tunnel: Tunnel, led_by: Veth, mtu: int, shape: Shape | None) -> Iterator[AnyObject]:
    """All there is of one.  Where its vif has a Shape, only what that has released gets into the tunnel."""
    ns, end = tunnel.ns, next(e for e in led_by.ends if e.ns == tunnel.ns)
    yield Netns(ns)
    yield Sysctl(ns, tuple((setting, "0") for setting in SYSCTLS))
    yield Interface(ns, "lo", ("netns", ns), mtu=65536)
    yield tunnel
    yield Interface(ns, tunnel.dev, tunnel.key, mtu, crosses=True)
    yield Interface(ns, end.dev, led_by.key, mtu, crosses=True)
    if shape:
        yield Gate(ns, end.dev, shape.ns, shape.dev)
