"""Which messages go where: all that a central, a command and an agent may say to each other.

Whoever adds a message writes its class in one of these files, and its name here: on the side of the answers that it
may be, or the questions.  From then on it is a name of `vini.bus`, it is understood by who gets it, and mypy tells
where a `match` lacks it.
"""

from __future__ import annotations

from vini.bus.messages import commands, files, flows, loads, logins, message, nodes, programs, states, usage

Stream = commands.Run | commands.Logs | commands.SshThrough | commands.Measure  # is answered by a stream of output
Typed = commands.Input | commands.Resize | commands.Signal  # what goes to a running command
Said = commands.Output | commands.Exited  # what comes from it
Request = (
    states.Hello
    | states.Accept
    | states.Foresee
    | states.AskStatus
    | states.AskFibs
    | states.AskActs
    | states.Stop
    | nodes.AskClock
    | nodes.AskRtts
    | loads.AskLoads
    | flows.AskFlows
    | usage.AskUsage
    | programs.AskMaps
    | programs.WriteRow
    | logins.Authorize
    | logins.AskSsh
    | logins.AskLogins
    | files.Configure
    | files.AskConfFiles
    | Stream
)
Reply = (
    message.Progress
    | message.Lines
    | message.Refusal
    | states.Greeting
    | states.Report
    | states.Fibs
    | states.Acts
    | nodes.Clock
    | nodes.Rtts
    | loads.Loads
    | flows.Flows
    | usage.Usage
    | programs.Maps
    | logins.Ssh
    | logins.Logins
    | files.ConfFiles
)
ToNode = (
    Request
    | Typed
    | commands.Credit
    | commands.Cancel
    | nodes.Challenge
    | nodes.Welcome
    | nodes.Elsewhere
    | nodes.Over
    | message.Refusal
)
ToCentral = Reply | Said | commands.Credit | nodes.Proof | nodes.Over
