"""The NATS subjects that centrals and nodes speak on, and so what a node's rights have to be.

A node is its key there, not its name: one that is reinstalled under the same name has other subjects.  `epoch` is a
word that each side makes anew with each connection to the engine, so that nothing of an older one is ever heard.
Nobody answers to the reply subject of a message: a node could name another's there.
"""

from __future__ import annotations

import os

CENTRALS = "centrals"  # the queue group: one of them hears a greeting
CALL = "vini.call"  # of a central: say that you are there, and see who has gone
WAKE = "vini.wake"  # between centrals: names of nodes for which something was written
SIGHT = "vini.sight"  # between centrals: the database answers me
LARGEST = 17 << 20  # bytes of a message: one of our frames and what is around it
_ME = "{{subject()}}"  # the server puts the user's key here


def epoch() -> str:
    """A new one."""
    return os.urandom(8).hex()


def to_node(key: str, epoch: str, central: str) -> str:
    """Frames of a central to a node."""
    return f"vini.to.{key}.{epoch}.{central}"


def to_central(key: str, epoch: str, central: str) -> str:
    """Frames of a node to a central."""
    return f"vini.from.{key}.{epoch}.{central}"


def greet(key: str) -> str:
    """A node that no central attends to looks for one."""
    return f"vini.greet.{key}"


def here(key: str) -> str:
    """A node says to all centrals that it is there."""
    return f"vini.here.{key}"


def may_publish(*keys: str) -> list[str]:
    """What these nodes may say; without any, what each may, in the words of a scoped signing key's template."""
    return [subject for key in keys or (_ME,) for subject in (to_central(key, "*", "*"), greet(key), here(key))]


def may_hear(*keys: str) -> list[str]:
    """What they may hear."""
    return [*(to_node(key, "*", "*") for key in keys or (_ME,)), CALL]
