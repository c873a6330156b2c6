"""What a central, a command and an agent say to each other, whatever carries it.

A request is answered by any number of `Progress` and then by one final reply.  What a message of another version has
in addition is passed over; what it lacks has the default.  So fields are only ever added, with a default, at the end.
Each file has what is said of one thing; every name in it that begins with a letter is one of `vini.bus`, too.
"""

from vini.bus.messages.commands import *
from vini.bus.messages.directions import *
from vini.bus.messages.files import *
from vini.bus.messages.flows import *
from vini.bus.messages.loads import *
from vini.bus.messages.logins import *
from vini.bus.messages.message import *
from vini.bus.messages.nodes import *
from vini.bus.messages.programs import *
from vini.bus.messages.states import *
from vini.bus.messages.usage import *
