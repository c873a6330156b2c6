"""How often a node tries to reach its central."""

from __future__ import annotations

from vini.model import Value


class Rhythm(Value, frozen=True):
    """How often things are tried, in s."""

    first: float = 0.2  # before the first new try; then twice as long each time
    longest: float = 8.0  # a central that was away for long has all its nodes back within 10 s
    patience: float = 20.0  # for a central that is dialled and says nothing
    look: float = 1.0  # between looks whether the machine has joined, or joined anew
    push: float = 0.1  # between two batches of reports
    lasting: float = 10.0  # a connection that lasted for so long was a good one
    interfaces: float = 60.0  # between looks whether the machine's network interfaces are others now
    beat: float = 20.0  # over an engine: between two words that this node is there, that nobody has called for
    alone: float = 30.0  # at a server of an engine where no central is heard; then the central is asked for another
    deaf: float = 600.0  # for so long such a server is dialled last
    nearer: float = 60.0  # at a server of the cluster: between looks whether one of the node's site can be reached
