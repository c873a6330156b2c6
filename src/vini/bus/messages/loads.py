"""What slivers do to the machine."""

from __future__ import annotations

from vini.bus.messages.message import Message
from vini.model import Value


class AskLoads(Message, frozen=True):
    """What a slice's slivers do to the machine.  Answered by `Loads`."""

    slice: str


class ShareLoad(Value, frozen=True, forbid_unknown_fields=False):
    """What a sliver sends by its node's uplink, against what it may; bytes are of Ethernet frames."""

    sent: int  # bytes since its Share was made, also exempt ones
    dropped: int  # packets for which there was no more room to wait, likewise
    min_mbit: float  # its own now
    max_mbit: float  # and the most that it may send now
    today: int  # bytes of this day of UTC that count
    exempt_today: int = 0  # and those that don't
    daily: int = 0  # bytes that it may send in a day before it is slowed; 0: not bounded
    slowed: bool = False


class SliverLoad(Value, frozen=True, forbid_unknown_fields=False):
    """The counters of one sliver; those of a vif or a process began when it did."""

    at: float  # s, the node's CLOCK_MONOTONIC
    vifs: dict[str, tuple[int, int, int, int]]  # bytes and packets received, bytes and packets sent
    cpu_s: float  # of its living processes
    memory: int  # bytes
    departed: dict[str, tuple[int, int]] = {}  # vif -> packets that left it shaped, and those more than 1 ms late
    traces: dict[str, int] = {}  # shaped vif -> ns, the node's CLOCK_REALTIME when its trace began; 0: it has none
    program: tuple[int, int] | None = None  # packets that its program in the kernel handled, and beyond its budget
    disk: tuple[int, int] | None = None  # bytes that are used of its disk, and its size; None: it has none
    volumes: dict[str, tuple[int, int]] = {}  # the same of its volumes that have a size, by name
    pressure: dict[str, float] = {}  # % of the last 10 s in which a process of it waited for "cpu", "memory", "io"
    node_pressure: dict[str, float] = {}  # the same of all that runs on its node
    share: ShareLoad | None = None  # None: it has none


class Loads(Message, frozen=True):
    """Sliver name -> its counters."""

    slivers: dict[str, SliverLoad]
