"""The node's part in measuring links: it sends and awaits numbered frames at its slivers, and judges nothing."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from vini.bus.messages.commands import FrameFlow, Measure
from vini.dataplane import probe
from vini.dataplane.probe import ELSEWHERE, LEAST_FRAME, MOST_FRAME, OWN, Stream
from vini.model import NotFound, ViniError, is_sliver
from vini.node.place import Place
from vini.node.running import Prepared

MOST_FRAMES = 10_000_000  # of one measurement: their times take 240 MB
_LONGEST_NS = 3600 * 10**9
_DEV, _MAC = re.compile(r"[\w.-]{1,15}", re.ASCII), re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def measures(place: Place) -> Callable[[Measure], Prepared]:
    """Prepares the link probe for slivers of this place.  It may have to be compiled: not for an event loop.

    Raises NotFound where a sliver is not there, and ViniError for what can't be sent.
    """

    def prepare(asked: Measure) -> Prepared:
        slice_ = asked.ns.partition(".")[0]
        _check_size(asked)
        streams = [_stream(place, slice_, flow) for flow in asked.flows]
        program = probe.built()
        with tempfile.NamedTemporaryFile("w", dir=place.run, prefix="measure-", delete=False) as plan:
            plan.write(probe.plan(streams, asked.drain_ns / 1e9))
        path = Path(plan.name)
        environment = {"PATH": os.environ.get("PATH", os.defpath)}
        return Prepared((str(program), plan.name), environment, lambda _: path.unlink(missing_ok=True))

    return prepare


def _check_size(asked: Measure) -> None:
    if sum(max(0, f.count) for f in asked.flows) > MOST_FRAMES:
        raise ViniError(f"A node measures with {MOST_FRAMES} packets at most; measure for shorter, or fewer links.")
    times_ns = [t for f in asked.flows for t in (f.start_ns, f.interval_ns, f.interval_ns * f.count)]
    sound = all(f.count > 0 and f.ahead >= 0 and LEAST_FRAME <= f.frame_bytes <= MOST_FRAME for f in asked.flows)
    if not sound or not asked.flows or not all(0 <= t <= _LONGEST_NS for t in [asked.drain_ns, *times_ns]):
        raise ViniError(
            f"Packets of {LEAST_FRAME} to {MOST_FRAME} bytes can be sent, for an hour at most; this asks for others."
        )


def _stream(place: Place, slice_: str, flow: FrameFlow) -> Stream:
    source, vif = _end(place, slice_, flow.source, flow.vif)
    destination, peer_vif = _end(place, slice_, flow.destination, flow.peer_vif)
    return Stream(
        source, vif, destination, peer_vif, flow.start_ns, flow.interval_ns, flow.count, flow.frame_bytes, flow.ahead
    )


def _end(place: Place, slice_: str, sliver: str, vif: str) -> tuple[Path, str]:
    if sliver == "-":
        return OWN, "lo"
    if not sliver:
        if not _MAC.fullmatch(vif):
            raise NotFound(f"{vif!r} is no address of a vif on another node.")
        return ELSEWHERE, vif
    ns = f"{slice_}.{sliver}"
    if "/" in sliver or not is_sliver(ns) or not place.netns(ns).exists():
        raise NotFound(f"Sliver {sliver!r} isn't up, so its links can't be measured; `vini status` says why.")
    if not _DEV.fullmatch(vif):
        raise NotFound(f"Sliver {sliver!r} has no vif {vif!r}.")
    return place.netns(ns), vif
