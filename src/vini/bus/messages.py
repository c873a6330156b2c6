"""What a central, a command and an agent say to each other, whatever carries it.

A request is answered by any number of `Progress` and then by one final reply.  What a message of another version has
in addition is passed over; what it lacks has the default.  So fields are only ever added, with a default, at the end.
"""

from __future__ import annotations

from vini.model import SliceSpec, SliverStatus, Value
from vini.reach import FibEntry
from vini.usage import SliceUse

WIRE = 1  # the version of these messages, and of the frames that carry them between machines


class Message(Value, frozen=True, tag=str.lower, tag_field="message", forbid_unknown_fields=False):
    """What goes over the bus."""


class Hello(Message, frozen=True):
    """Who are you?  Answered by `Greeting`."""


class Greeting(Message, frozen=True):
    """An agent presents itself."""

    version: str
    pid: int
    node: str
    capabilities: frozenset[str]
    generations: dict[str, int]  # slice -> newest accepted generation, of slices that are asked for
    ended: dict[str, int] = {}  # the same, of slices whose end was asked for
    forgotten: int = 0  # the highest generation of those that ended and are not named in `ended` any more
    expired: dict[str, int] = {}  # slice -> generation, of those in `ended` that the node ended itself, by its clock
    uplink: str = ""  # whether the node is connected to its central, and if not why; "": it has joined none
    wireguard: str = ""  # its public key for encrypted tunnels, in base64; "": it can have none
    rate_mbit: float = 0.0  # 10**6 bit/s that slivers may send by its uplink together; 0: nobody said
    failing: tuple[str, ...] = ()  # a sentence of each part of the agent that failed lately


class Accept(Message, frozen=True):
    """A new desired state.  Answered by `Report` when one pass has been made."""

    spec: SliceSpec


class Foresee(Message, frozen=True):
    """What would this desired state change?  Answered by `Lines`; nothing is touched."""

    spec: SliceSpec


class AskStatus(Message, frozen=True):
    """How is this slice?  Answered by `Report`."""

    slice: str


class AskFibs(Message, frozen=True):
    """The main forwarding tables of a slice.  Answered by `Fibs`."""

    slice: str


class AskLoads(Message, frozen=True):
    """What a slice's slivers do to the machine.  Answered by `Loads`."""

    slice: str


class AskActs(Message, frozen=True):
    """When did the node act on the desired states of a slice?  Answered by `Acts`."""

    slice: str
    after: int = 0  # only of generations above this one


class AskRtts(Message, frozen=True):
    """How long do packets take to these other nodes and back?  Answered by `Rtts`, after some seconds."""

    local: str  # the node's own address
    peers: dict[str, str]  # node -> its address


class AskFlows(Message, frozen=True):
    """Who sent this packet, or got it as an answer?  Answered by `Flows`.  A port of -1 is any."""

    source: str  # the address that it came from: the node's, or the sliver's own
    source_port: int
    destination: str
    destination_port: int
    at: float = 0.0  # Unix time, s; 0: whenever
    protocol: int = 0  # 0: any
    most: int = 100  # flows


class AskUsage(Message, frozen=True):
    """What did slivers use, by day?  Answered by `Usage`, in the order of days and slices."""

    day: int = 0  # of UTC, since 1970: from this one on
    after: str = ""  # of that day only slices whose names are behind this one


class AskMaps(Message, frozen=True):
    """What the maps of a sliver's program hold.  Answered by `Maps`."""

    ns: str
    names: tuple[str, ...] | None = None  # only these; None: all


class WriteRow(Message, frozen=True):
    """Set a row of a map of a sliver's program; without a value, take it out.  Answered by `Lines`."""

    ns: str
    map: str
    key: bytes
    value: bytes | None


class AuthorizedKey(Value, frozen=True, forbid_unknown_fields=False):
    """A public SSH key that opens a slice, and whose it is."""

    key: str  # "ssh-ed25519 AAAA...", without comment
    person: str = ""


class GuestKey(Value, frozen=True, forbid_unknown_fields=False):
    """A public SSH key that opens some slivers of a slice for some time.  Apart from those of members, so that a node
    that does not know of guests lets none in."""

    key: str
    person: str = ""
    slivers: tuple[str, ...] = ()  # names; none: all
    until: float = 0.0  # Unix time; 0: for as long as the slice lives


class Admission(Value, frozen=True, forbid_unknown_fields=False):
    """Who may come into a slice, what is known to those who do: its slivers' names, as in hosts(5), and what its
    processes may ask for."""

    keys: tuple[AuthorizedKey, ...] = ()
    hosts: str = ""
    grants: tuple[str, ...] = ()  # what its processes may have of the node by the broker (`rules.grants`)
    guests: tuple[GuestKey, ...] = ()


class Authorize(Message, frozen=True):
    """Who may log in by SSH: to these slices with these keys, and to no other slice of this asker.  Whoever is in with
    a key that is not named any more is put out.  Answered by `Ssh`."""

    slices: dict[str, Admission]


class AskSsh(Message, frozen=True):
    """Where does the node's SSH server listen?  Answered by `Ssh`."""


class Ssh(Message, frozen=True):
    """A node's SSH server; port 0: it serves nobody yet, since nobody has a key for what is here."""

    port: int = 0
    host_key: str = ""  # "ssh-ed25519 AAAA..."
    outside: bool = True  # it listens at the node's own address; False: only whoever comes through the central gets in


class Stop(Message, frozen=True):
    """End the agent; slices run on.  Answered by `Lines`."""

    pid: int = 0  # only if it is this process (its successor may listen by now); 0: whichever it is


class Progress(Message, frozen=True):
    """A step of something longer."""

    done: int
    total: int
    what: str


class Report(Message, frozen=True):
    """How the slivers of a slice are, after a pass of `seconds` that made `ops` steps."""

    slivers: tuple[SliverStatus, ...]
    ops: int = 0
    seconds: float = 0.0
    slice: str = ""
    generation: int = 0  # the one that the node holds, which this tells of
    accepted: int = 0  # the newest that it has on disk: higher where that waits for its `not_before`
    refused: str = ""  # why the node did not take over a newer one, where it didn't


class Lines(Message, frozen=True):
    """Text for a person."""

    lines: tuple[str, ...]


class Fibs(Message, frozen=True):
    """Sliver name -> its main table."""

    tables: dict[str, tuple[FibEntry, ...]]


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
    program: tuple[int, int] | None = None  # packets that its program in the kernel handled, and beyond its budget
    disk: tuple[int, int] | None = None  # bytes that are used of its disk, and its size; None: it has none
    volumes: dict[str, tuple[int, int]] = {}  # the same of its volumes that have a size, by name
    pressure: dict[str, float] = {}  # % of the last 10 s in which a process of it waited for "cpu", "memory", "io"
    node_pressure: dict[str, float] = {}  # the same of all that runs on its node
    share: ShareLoad | None = None  # None: it has none


class Loads(Message, frozen=True):
    """Sliver name -> its counters."""

    slivers: dict[str, SliverLoad]


class Act(Value, frozen=True):
    """A desired state was put in force: Unix times by the node's clock, s."""

    generation: int
    due: float  # its `not_before`; 0: at once
    began: float
    done: float  # the pass that it took
    waited: bool = False  # it was here before it was due


class Acts(Message, frozen=True):
    """The newest of them, in their order, as far as the agent that runs now has seen them."""

    acts: tuple[Act, ...]


class Rtts(Message, frozen=True):
    """Node -> the least of several round trips to it, in ms; None: nothing came back."""

    ms: dict[str, float | None]


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


class Usage(Message, frozen=True):
    """All that is in a node's book, or with `more` only the first of it."""

    rows: tuple[SliceUse, ...]
    more: bool = False


class MapRows(Value, frozen=True):
    """A map of a program, and what it holds: keys with their values, one or one for each processor."""

    type: str  # "hash", "lpm_trie", "percpu_array", ...
    key_size: int  # bytes
    value_size: int
    max_entries: int
    rows: tuple[tuple[bytes, tuple[bytes, ...]], ...]


class Maps(Message, frozen=True):
    """Map name -> what it holds; and how many packets the program handled, and were beyond its budget."""

    maps: dict[str, MapRows]
    packets: int
    over_budget: int
    slice_kpps: int  # the budget of the whole slice in force


class Refusal(Message, frozen=True):
    """The request can't be met; `kind` names the error class."""

    kind: str
    sentence: str


# --- clocks and greetings between machines ---------------------------------------------------------


class Challenge(Message, frozen=True):
    """A central to whoever dials: prove who you are.  Answered by `Proof`."""

    nonce: bytes
    wire: int = WIRE


class Proof(Message, frozen=True):
    """A node's answer: its name, and `frames.statement` of both signed with its key."""

    node: str
    signature: bytes
    greeting: Greeting
    wire: int = WIRE


class Welcome(Message, frozen=True):
    """The central knows the node now; its requests may come at any time."""


class Elsewhere(Message, frozen=True):
    """The central knows the node now, and its requests come over the engine there."""

    url: str  # of a NATS server, tls://name:port; its certificate is of the central's authority
    jwt: str  # what the node shows to it, with a signature by its own key
    more: tuple[str, ...] = ()  # other servers of the same cluster


class Here(Message, frozen=True):
    """Over the engine: a node is there.  With a greeting it looks for a central that attends to it."""

    node: str
    epoch: str
    greeting: Greeting | None = None
    wire: int = WIRE


class Over(Message, frozen=True):
    """Over the engine, where there is no connection to close: whoever says it does not listen any more."""

    code: int  # as a WebSocket's close frame has it (`frames`)
    why: str = ""


class AskClock(Message, frozen=True):
    """What time is it there?  Answered by `Clock`."""


class Clock(Message, frozen=True):
    """Unix times (s) by the node's clock: when it received the question, and when it answered."""

    received: float
    answered: float
    failing: tuple[str, ...] = ()  # a sentence of each part of its agent that fails, the same as long as that does


class Offset(Message, frozen=True):
    """How far a node's clock is ahead of the central's, as measured by the exchange that took `rtt_s` on the way."""

    ahead_s: float
    rtt_s: float


# --- commands in slivers -----------------------------------------------------------------------------


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


Request = (
    Hello
    | Accept
    | Foresee
    | AskStatus
    | AskFibs
    | AskLoads
    | AskActs
    | AskRtts
    | AskFlows
    | AskUsage
    | AskMaps
    | WriteRow
    | Stop
    | AskClock
    | Run
    | Authorize
    | AskSsh
    | Logs
    | SshThrough
    | Measure
)
Reply = Greeting | Progress | Report | Lines | Fibs | Loads | Acts | Flows | Usage | Rtts | Maps | Refusal | Clock | Ssh
Stream = Run | Logs | SshThrough | Measure  # what is answered by a stream of output
Typed = Input | Resize | Signal  # what goes to a running command
Said = Output | Exited  # what comes from it
ToNode = Request | Typed | Credit | Cancel | Challenge | Welcome | Elsewhere | Over | Refusal
ToCentral = Reply | Said | Credit | Proof | Over
