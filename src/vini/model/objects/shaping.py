"""What happens to packets on a link."""

from __future__ import annotations

from typing import ClassVar, Literal

from vini.model.objects.base import Object
from vini.model.value import Key


class Shape(Object, frozen=True):
    """What happens to packets that leave a namespace by `dev`.

    Whole numbers and words, so that what a kernel gives back compares equal.  `drop` is the silent fault.  The last
    three are paths of Files of the sliver, on which it stands; "": none.
    """

    in_place: ClassVar[frozenset[str]] = frozenset(
        {
            "delay_us", "jitter_us", "loss_ppm", "rate_kbit", "queue_packets", "drop", "queue_bytes", "queue_us", "aqm",
            "distribution", "keeps_order", "reorder_ppm", "enter_ppm", "leave_ppm", "bad_ppm", "good_ppm",
            "duplicate_ppm", "corrupt_ppm", "table", "lose", "trace", "whole",
        }
    )  # fmt: skip
    ns: str
    dev: str
    backend: Literal["netem", "element"]
    delay_us: int = 0
    jitter_us: int = 0
    loss_ppm: int = 0
    rate_kbit: int = 0  # 0: unlimited
    queue_packets: int = 1000  # 0: not bounded by this
    drop: bool = False
    queue_bytes: int = 0
    queue_us: int = 0
    aqm: Literal["", "codel"] = ""
    distribution: Literal["normal", "uniform", "pareto", "table"] = "normal"
    keeps_order: bool = True
    reorder_ppm: int = 0
    enter_ppm: int = 0  # of the good state into the bad one; 0: there are no states
    leave_ppm: int = 0
    bad_ppm: int = 0
    good_ppm: int = 0
    duplicate_ppm: int = 0
    corrupt_ppm: int = 0
    table: str = ""  # of delays that are added, for the distribution "table"
    lose: str = ""  # numbers of packets
    trace: str = ""  # of rate, delay and loss over time
    whole: bool = True  # nothing leaves the node by a tunnel that has not been through it; always wanted so

    @property
    def key(self) -> Key:
        return ("shape", self.ns, self.dev)

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of the files that it stands on."""
        return tuple(path for path in (self.table, self.lose, self.trace) if path)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("interface", self.ns, self.dev), *(("file", self.ns, path) for path in self.files))


class Gate(Object, frozen=True):
    """At one end of a pair: lets in what the Shape at the other end has released, and nothing else.

    Whatever passes that Shape by (a packet socket with PACKET_QDISC_BYPASS, AF_XDP, XDP's redirects) ends here.
    """

    in_place: ClassVar[frozenset[str]] = frozenset({"peer_ns", "peer_dev"})
    ns: str
    dev: str
    peer_ns: str
    peer_dev: str

    @property
    def key(self) -> Key:
        return ("gate", self.ns, self.dev)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("interface", self.ns, self.dev), ("shape", self.peer_ns, self.peer_dev))
