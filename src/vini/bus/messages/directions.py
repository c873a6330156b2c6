"""Which messages go where."""

from __future__ import annotations

from vini.bus.messages.commands import (
    Cancel,
    Credit,
    Exited,
    Input,
    Logs,
    Measure,
    Output,
    Resize,
    Run,
    Signal,
    SshThrough,
)
from vini.bus.messages.files import AskConfFiles, ConfFiles, Configure
from vini.bus.messages.flows import AskFlows, Flows
from vini.bus.messages.loads import AskLoads, Loads
from vini.bus.messages.logins import AskLogins, AskSsh, Authorize, Logins, Ssh
from vini.bus.messages.message import Lines, Progress, Refusal
from vini.bus.messages.nodes import AskClock, AskRtts, Challenge, Clock, Elsewhere, Over, Proof, Rtts, Welcome
from vini.bus.messages.programs import AskMaps, Maps, WriteRow
from vini.bus.messages.states import (
    Accept,
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
    | AskLogins
    | Configure
    | AskConfFiles
    | Logs
    | SshThrough
    | Measure
)
Reply = (
    Greeting
    | Progress
    | Report
    | Lines
    | Fibs
    | Loads
    | Acts
    | Flows
    | Usage
    | Rtts
    | Maps
    | Refusal
    | Clock
    | Ssh
    | ConfFiles
    | Logins
)
Stream = Run | Logs | SshThrough | Measure  # what is answered by a stream of output
Typed = Input | Resize | Signal  # what goes to a running command
Said = Output | Exited  # what comes from it
ToNode = Request | Typed | Credit | Cancel | Challenge | Welcome | Elsewhere | Over | Refusal
ToCentral = Reply | Said | Credit | Proof | Over
