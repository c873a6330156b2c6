"""What a sliver needs of a node besides room, in words of `vini doctor`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vini.layout import link_name
from vini.model import Link, Resources, Sliver, Traffic, Unsupported
from vini.plugins import router_plugin
from vini.plugins.shaping import shape


def lacking(sliver: Sliver, links: Sequence[tuple[str, Link]], capabilities: frozenset[str]) -> Iterator[str]:
    """What of it is not among a node's capabilities; a word may come more than once."""
    routing, program = sliver.routing, sliver.program
    if routing is not None and not sliver.image and (routing.raw or set(routing.protocols) - {"static"}):
        needed = router_plugin(routing.daemon).needs
        if needed and needed not in capabilities:
            yield needed
    if sliver.runtime == "container" and "containers" not in capabilities:
        yield "containers"
    asked = sliver.resources
    if (asked.disk_mb or sliver.bounds) and "disks" not in capabilities:
        yield "disks"
    if asked.memory_reserve_mb and "memory-reserve" not in capabilities:
        yield "memory-reserve"
    if asked.io_weight != Resources().io_weight and "io-weight" not in capabilities:
        yield "io-weight"
    if sliver.network != Traffic() and "shares" not in capabilities:
        yield "shares"
    if program is not None and program.in_kernel and "programs" not in capabilities:
        yield "programs"
    for _, link in links:
        own = next(end.impairment for end in link.ends if end.sliver == sliver.name)
        try:
            shape(sliver.name, link_name(link), own or link.impairment, link.fault, capabilities)
        except Unsupported:
            yield "element" if "netem" in capabilities else "netem"
