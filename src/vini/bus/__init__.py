"""How specs reach nodes and reports come back.

`messages` is what is said; `unix` carries it between a command and the agent of one machine, `frames` are what carries
it between a central and its nodes; `seam` is what a central asks of whatever reaches them.
"""

from __future__ import annotations

from vini.bus.errors import AgentGone, AgentHangs, Foreign, NodeAway, refusal, refused
from vini.bus.messages import (
    WIRE,
    Accept,
    Act,
    Acts,
    Admission,
    AskActs,
    AskClock,
    AskFibs,
    AskFlows,
    AskLoads,
    AskMaps,
    AskRtts,
    AskSsh,
    AskStatus,
    Authorize,
    AuthorizedKey,
    Cancel,
    Challenge,
    Clock,
    Credit,
    Elsewhere,
    Exited,
    Fibs,
    Flow,
    Flows,
    Foresee,
    FrameFlow,
    Greeting,
    GuestKey,
    Hello,
    Here,
    Input,
    Lines,
    Loads,
    Logs,
    MapRows,
    Maps,
    Measure,
    Message,
    Offset,
    Output,
    Over,
    Progress,
    Proof,
    Refusal,
    Reply,
    Report,
    Request,
    Resize,
    Rtts,
    Run,
    Said,
    ShareLoad,
    Signal,
    SliverLoad,
    Ssh,
    SshThrough,
    Stop,
    Stream,
    ToCentral,
    ToNode,
    Typed,
    Welcome,
    WriteRow,
)
from vini.bus.saying import said
from vini.bus.seam import Bus
from vini.bus.unix import Line, LineChannel, receive_request, send

__all__ = [
    "Accept", "Act", "Acts", "Admission", "AgentGone", "AgentHangs", "AskActs", "AskClock", "AskFibs",
    "AskFlows", "AskLoads", "AskMaps", "AskRtts", "AskSsh", "AskStatus", "Authorize", "AuthorizedKey", "Bus",
    "Cancel", "Challenge", "Clock", "Credit", "Elsewhere", "Exited", "Fibs", "Flow", "Flows", "Foreign",
    "Foresee", "FrameFlow", "Greeting", "GuestKey", "Hello", "Here", "Input", "Line", "LineChannel", "Lines", "Loads",
    "Logs", "MapRows", "Maps", "Measure", "Message", "NodeAway", "Offset", "Output", "Over", "Progress",
    "Proof", "Refusal", "Reply", "Report", "Request", "Resize", "Rtts", "Run", "Said", "Signal",
    "ShareLoad", "SliverLoad", "Ssh", "SshThrough", "Stop", "Stream", "ToCentral", "ToNode", "Typed", "WIRE", "Welcome",
    "WriteRow", "receive_request", "refusal", "refused", "said", "send",
]  # fmt: skip
