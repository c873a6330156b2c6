"""How a node and a central come together, what time it is at each, and how far others are."""

from __future__ import annotations

from vini.bus.messages.message import WIRE, Message
from vini.bus.messages.states import Greeting


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
    near: int = 0  # how many of these, from the first, are of the node's site: the others are for while they are away

    @property
    def urls(self) -> tuple[str, ...]:
        """Of all servers, those of the node's site first."""
        return (self.url, *self.more)


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
    failing: tuple[str, ...] = ()  # a sentence of all that is wrong there, the same as long as that is so
    conf_files: int = 0  # another number whenever it has something else of its conf files; 0: it has none
    logins: int = 0  # the number of its newest `Login`; 0: there is none
    boot: str = ""  # another one after each start of each machine; "": it does not say


class Offset(Message, frozen=True):
    """How far a node's clock is ahead of the central's, as measured by the exchange that took `rtt_s` on the way."""

    ahead_s: float
    rtt_s: float
    boot: str = ""  # as its `Clock` says


class AskRtts(Message, frozen=True):
    """How long do packets take to these other nodes and back?  Answered by `Rtts`, after some seconds."""

    local: str  # the node's own address
    peers: dict[str, str]  # node -> its address


class Rtts(Message, frozen=True):
    """Node -> the least of several round trips to it, in ms; None: nothing came back."""

    ms: dict[str, float | None]
