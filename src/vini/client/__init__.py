"""The way to a slice: everything that a command, an experiment or a Python program asks for goes through here.

`Client` is the central in the caller's own process, for the slices of this machine.  `connect` gives that one, or after
`vini login` the one that talks to a central over HTTP; faces can't tell them apart.
"""

from __future__ import annotations

from vini.client.local import Client
from vini.client.login import Login, current
from vini.client.slices import Say, Slices, SshPlace

__all__ = ["Client", "Login", "Say", "Slices", "SshPlace", "connect"]


def connect(say: Say = lambda _: None) -> Slices:
    """The central that this user has logged in to; without a login, this machine's own."""
    login = current()
    if login is None:
        return Client(say=say)
    from vini.client.remote import RemoteClient  # only those who need the network pay for its libraries

    return RemoteClient(login, say)
