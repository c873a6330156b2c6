"""Commands in slivers, and other streams of bytes."""

from __future__ import annotations

from vini.bus.messages.message import Message
from vini.model import Value


class Run(Message, frozen=True):
    """Run a command in a sliver.  Answered by `Output`s and then by `Exited`; meanwhile `Input`, `Resize` and
    `Signal` may be sent.  Whoever sends data waits for `Credit` when a window of it is under way."""

    ns: str
    argv: tuple[str, ...]
    tty: bool = False
    rows: int = 24
    columns: int = 80
    environment: dict[str, str] = {}  # in addition to what every command in a sliver is given
    hosts: str = ""  # hosts(5) of the slice, in addition to the node's own


class Logs(Message, frozen=True):
    """What a sliver's processes said last, and with `follow` what they say from now on.  A stream, as that of `Run`."""

    ns: str
    lines: int = 100
    follow: bool = False
    processes: tuple[str, ...] = ()  # only of these; none: of all
    boot: bool = False  # only what each said since it was started last


class SshThrough(Message, frozen=True):
    """A connection to the SSH server of a sliver's node, for whoever can't reach that himself.  A stream, as that of
    `Run`: what is sent as `Input` goes to the server, what it says comes as `Output`, and its end is `Exited`."""

    ns: str


class FrameFlow(Value, frozen=True, forbid_unknown_fields=False):
    """Numbered frames from one vif to another: the first `ahead` at once, the others at an even pace."""

    source: str  # sliver; "": it is not on this node, and then `vif` is the address (MAC) of that vif
    vif: str
    destination: str  # the same
    peer_vif: str
    start_ns: int  # after the beginning of the measurement
    interval_ns: int
    count: int
    frame_bytes: int  # Ethernet header included
    ahead: int = 0


class Measure(Message, frozen=True):
    """Send and await these frames at slivers of one slice; the first flow is over a loopback, whose ends are "-".  A
    stream, as that of `Run`: "L" is said when all are listened for, a line begins the sending; "S" when all has left,
    a second line ends it; then comes what the link probe tells (its `main.c`)."""

    ns: str  # one of the slivers
    flows: tuple[FrameFlow, ...]
    drain_ns: int  # how long to wait, from the second line on, for what is still on its way


class Input(Message, frozen=True):
    """Bytes for its standard input; none: the end of it."""

    data: bytes = b""


class Resize(Message, frozen=True):
    """The terminal has another size now."""

    rows: int
    columns: int


class Signal(Message, frozen=True):
    """Send it, and what it started in the foreground, a signal (signal(7))."""

    number: int


class Output(Message, frozen=True):
    """Bytes from its standard output (1; of a terminal all) or its standard error (2)."""

    fd: int
    data: bytes


class Exited(Message, frozen=True):
    """It ended; with 128 + n where signal n ended it."""

    code: int


class Credit(Message, frozen=True):
    """The other side has passed on what cost so much (`streams.cost`): as much more may be sent."""

    amount: int


class Cancel(Message, frozen=True):
    """Whoever asked has gone: what is under way for him ends."""
