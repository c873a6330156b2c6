"""Who sent a packet to the world."""

from __future__ import annotations

from vini.bus.messages.message import Message
from vini.model import Value


class AskFlows(Message, frozen=True):
    """Who sent this packet, or got it as an answer?  Answered by `Flows`.  A port of -1 is any."""

    source: str  # the address that it came from: the node's, or the sliver's own
    source_port: int
    destination: str
    destination_port: int
    at: float = 0.0  # Unix time, s; 0: whenever
    protocol: int = 0  # 0: any
    most: int = 100  # flows


class Flow(Value, frozen=True, forbid_unknown_fields=False):
    """A flow between a sliver and the world, as a node wrote it down; addresses with ports, "a:p" or "[a]:p".

    Of ICMP the sliver's port is the identifier, and the other one 256 * type + code.
    """

    slice: str
    sliver: str
    protocol: str
    source: str  # the sliver's own
    seen_as: str  # the node's, by which the world saw it
    destination: str
    start: float  # Unix time, s
    stop: float  # 0: it has not ended
    end: str  # "", "ended", or "unseen": while nobody watched, so that not all is counted
    out_packets: int
    out_bytes: int
    in_packets: int
    in_bytes: int


class Flows(Message, frozen=True):
    """The newest first; and what was not watched at that time: from, until, why."""

    flows: tuple[Flow, ...]
    unwatched: tuple[tuple[float, float, str], ...] = ()
