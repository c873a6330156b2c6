"""Desired states and how they are on a node."""

from __future__ import annotations

from vini.bus.messages.message import Message
from vini.model import SliceSpec, SliverStatus, Value
from vini.reach import FibEntry
from vini.rules.interfaces import NodeInterface


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
    failing: tuple[str, ...] = ()  # a sentence of each part of the agent that failed lately, and of each narrow path
    interfaces: tuple[NodeInterface, ...] = ()  # of the machine itself; to its central only
    conf_files: str = ""  # the version of those that it was asked for last, likewise; "": none


class Accept(Message, frozen=True):
    """A new desired state.  Answered by `Report` when one pass has been made."""

    spec: SliceSpec


class Foresee(Message, frozen=True):
    """What would this desired state change?  Answered by `Lines`; nothing is touched."""

    spec: SliceSpec


class AskStatus(Message, frozen=True):
    """How is this slice?  Answered by `Report`."""

    slice: str


class Report(Message, frozen=True):
    """How the slivers of a slice are, after a pass of `seconds` that made `ops` steps."""

    slivers: tuple[SliverStatus, ...]
    ops: int = 0
    seconds: float = 0.0
    slice: str = ""
    generation: int = 0  # the one that the node holds, which this tells of
    accepted: int = 0  # the newest that it has on disk: higher where that waits for its `not_before`
    refused: str = ""  # why the node did not take over a newer one, where it didn't


class AskFibs(Message, frozen=True):
    """The main forwarding tables of a slice.  Answered by `Fibs`."""

    slice: str


class Fibs(Message, frozen=True):
    """Sliver name -> its main table."""

    tables: dict[str, tuple[FibEntry, ...]]


class AskActs(Message, frozen=True):
    """When did the node act on the desired states of a slice?  Answered by `Acts`."""

    slice: str
    after: int = 0  # only of generations above this one
    linked: bool = False  # tell of links, too: older askers take no `Act` that does


class Act(Value, frozen=True, forbid_unknown_fields=False):
    """A desired state was put in force: Unix times by the node's clock, s."""

    generation: int
    due: float  # its `not_before`; 0: at once
    began: float
    done: float  # the pass that it took
    waited: bool = False  # it was here before it was due
    linked: float = 0.0  # when the last of its links was as asked; 0: it changed none, one failed, or it does not say
    failed: str = ""  # why one of its links is not as asked


class Acts(Message, frozen=True):
    """The newest of them, in their order, as far as the agent that runs now has seen them."""

    acts: tuple[Act, ...]


class Stop(Message, frozen=True):
    """End the agent; slices run on.  Answered by `Lines`."""

    pid: int = 0  # only if it is this process (its successor may listen by now); 0: whichever it is
