"""How specs reach nodes and reports come back.

`messages` is what is said; `unix` carries it between a command and the agent of one machine, `frames` are what carries
it between a central and its nodes; `seam` is what a central asks of whatever reaches them.
"""

from vini.bus.errors import AgentGone as AgentGone
from vini.bus.errors import AgentHangs as AgentHangs
from vini.bus.errors import Foreign as Foreign
from vini.bus.errors import NodeAway as NodeAway
from vini.bus.errors import Oversized as Oversized
from vini.bus.errors import refusal as refusal
from vini.bus.errors import refused as refused
from vini.bus.messages import *
from vini.bus.saying import said as said
from vini.bus.seam import Bus as Bus
from vini.bus.unix import Line as Line
from vini.bus.unix import LineChannel as LineChannel
from vini.bus.unix import receive_request as receive_request
from vini.bus.unix import send as send
