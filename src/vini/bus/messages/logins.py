"""Who may log in to slivers by SSH, and where."""

from __future__ import annotations

from vini.bus.messages.message import Message
from vini.model import Value
from vini.rules.logins import Login


class AuthorizedKey(Value, frozen=True, forbid_unknown_fields=False):
    """A public SSH key that opens a slice, and whose it is."""

    key: str  # "ssh-ed25519 AAAA...", without comment
    person: str = ""


class GuestKey(Value, frozen=True, forbid_unknown_fields=False):
    """A public SSH key that opens some slivers of a slice for some time.  Apart from those of members, so that a node
    that does not know of guests lets none in."""

    key: str
    person: str = ""
    slivers: tuple[str, ...] = ()  # names; none: all
    until: float = 0.0  # Unix time; 0: for as long as the slice lives


class Admission(Value, frozen=True, forbid_unknown_fields=False):
    """Who may come into a slice, what is known to those who do: its slivers' names, as in hosts(5), and what its
    processes may ask for."""

    keys: tuple[AuthorizedKey, ...] = ()
    hosts: str = ""
    grants: tuple[str, ...] = ()  # what its processes may have of the node by the broker (`rules.grants`)
    guests: tuple[GuestKey, ...] = ()


class Authorize(Message, frozen=True):
    """Who may log in by SSH: to these slices with these keys, and to no other slice of this asker.  Whoever is in with
    a key that is not named any more is put out.  Answered by `Ssh`."""

    slices: dict[str, Admission]


class AskLogins(Message, frozen=True):
    """Who logged in to slivers by SSH, and out again, after the one of that number?  Answered by `Logins`."""

    after: int


class Logins(Message, frozen=True):
    """Some of them, the oldest first; none: those were all."""

    rows: tuple[Login, ...]


class AskSsh(Message, frozen=True):
    """Where does the node's SSH server listen?  Answered by `Ssh`."""


class Ssh(Message, frozen=True):
    """A node's SSH server; port 0: it serves nobody yet, since nobody has a key for what is here."""

    port: int = 0
    host_key: str = ""  # "ssh-ed25519 AAAA..."
    outside: bool = True  # it listens at the node's own address; False: only whoever comes through the central gets in
