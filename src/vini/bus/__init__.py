"""How specs reach nodes and reports come back.

`messages` is what is said; `unix` carries it between a command and the agent of one machine, `frames` are what carries
it between a central and its nodes; `seam` is what a central asks of whatever reaches them.
"""

from __future__ import annotations

from vini.bus.errors import AgentGone, AgentHangs, Foreign, NodeAway, Oversized, refusal, refused
from vini.bus.messages.commands import (
    Cancel,
    Credit,
    Exited,
    FrameFlow,
    Input,
    Logs,
    Measure,
    Output,
    Resize,
    Run,
    Signal,
    SshThrough,
)
from vini.bus.messages.directions import Reply, Request, Said, Stream, ToCentral, ToNode, Typed
from vini.bus.messages.files import AskConfFiles, ConfFiles, Configure, NodeFile
from vini.bus.messages.flows import AskFlows, Flow, Flows
from vini.bus.messages.loads import AskLoads, Loads, ShareLoad, SliverLoad
from vini.bus.messages.logins import (
    Admission,
    AskLogins,
    AskSsh,
    Authorize,
    AuthorizedKey,
    GuestKey,
    Logins,
    Ssh,
)
from vini.bus.messages.message import WIRE, Lines, Message, Progress, Refusal
from vini.bus.messages.nodes import (
    AskClock,
    AskRtts,
    Challenge,
    Clock,
    Elsewhere,
    Here,
    Offset,
    Over,
    Proof,
    Rtts,
    Welcome,
)
from vini.bus.messages.programs import AskMaps, MapRows, Maps, WriteRow
from vini.bus.messages.states import (
    Accept,
    Act,
    Acts,
    AskActs,
    AskFibs,
    AskStatus,
    Fibs,
    Foresee,
    Greeting,
    Hello,
    Report,
    Stop,
)
from vini.bus.messages.usage import AskUsage, Usage
from vini.bus.saying import said
from vini.bus.seam import Bus
from vini.bus.unix import Line, LineChannel, receive_request, send

__all__ = [
    "Accept", "Act", "Acts", "Admission", "AgentGone", "AgentHangs", "AskActs", "AskClock", "AskConfFiles",
    "AskFibs", "AskFlows", "AskLoads", "AskLogins", "AskMaps", "AskRtts", "AskSsh", "AskStatus", "AskUsage",
    "Authorize", "AuthorizedKey", "Bus", "Cancel", "Challenge", "Clock", "ConfFiles", "Configure", "Credit",
    "Elsewhere", "Exited", "Fibs", "Flow", "Flows", "Foreign", "Foresee", "FrameFlow", "Greeting", "GuestKey",
    "Hello", "Here", "Input", "Line", "LineChannel", "Lines", "Loads", "Logins", "Logs", "MapRows", "Maps",
    "Measure", "Message", "NodeAway", "NodeFile", "Offset", "Output", "Over", "Progress", "Proof", "Refusal",
    "Reply", "Report", "Request", "Resize", "Rtts", "Run", "Said", "ShareLoad", "Signal", "SliverLoad", "Ssh",
    "SshThrough", "Stop", "Stream", "ToCentral", "ToNode", "Oversized", "Typed", "Usage", "WIRE", "Welcome", "WriteRow",
    "receive_request", "refusal", "refused", "said", "send",
]  # fmt: skip
