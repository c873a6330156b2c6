"""What may go wrong between those who talk over the bus."""

from __future__ import annotations

from vini.bus.messages.message import Refusal
from vini.model import CapacityError, Conflict, Denied, DriverError, NotFound, Stale, Unsupported, ViniError


class AgentGone(ViniError):
    """The agent doesn't answer (any more); starting it and asking again is safe."""


class AgentHangs(ViniError):
    """The agent runs but does not even say hello; asking again won't help."""


class Foreign(ViniError):
    """What the other side says makes no sense to us: it is of another version."""


class Oversized(Foreign):
    """What we would say fits in no message."""


class NodeAway(ViniError):
    """The node isn't connected; what is asked of it reaches it when it comes back."""


_KINDS = (Stale, Conflict, Unsupported, DriverError, NotFound, Denied, CapacityError, Foreign, NodeAway)
_ERRORS: dict[str, type[ViniError]] = {kind.__name__: kind for kind in _KINDS}


def refused(refusal: Refusal) -> ViniError:
    """The error that the other side refused with."""
    return _ERRORS.get(refusal.kind, ViniError)(refusal.sentence)


def refusal(error: ViniError) -> Refusal:
    """The same on its way: of the error's class or, where the other side may not know that, of the next above."""
    kind = next((c.__name__ for c in type(error).__mro__ if c.__name__ in _ERRORS), "ViniError")
    return Refusal(kind, str(error))
