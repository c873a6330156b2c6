"""The SSH server of a node: lets members of a slice into its slivers, as `SLICE.SLIVER` or, where it is the only one of
its slice here, as `SLICE`.

A login is a public key that the book names for that slice at that moment; nothing else is.  Whoever is in with a key
that the book does not name any more is put out within `_LOOK_S`.  Agents, X11, and sockets of the node's file system
are not forwarded.  What one client, person or slice may have of it is bounded (`fairness`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any
from weakref import WeakSet

import asyncssh
from asyncssh import SSHServerConnection
from asyncssh.forward import SSHForwarder
from msgspec.structs import replace

from vini import bus
from vini.model import NotFound, is_sliver
from vini.node import netns, running
from vini.node.drivers.contents import has_root
from vini.node.place import Place
from vini.node.rate import Rate
from vini.node.ssh import session
from vini.node.ssh.authorized import Book
from vini.node.ssh.fairness import BURST, PER_CONNECTION, PER_SECOND, STRANGERS, TRIES, Census, Strangers, source
from vini.node.ssh.forward import Forwarded, Inside, lives
from vini.node.ssh.journal import Journal
from vini.node.ssh.need import needed
from vini.node.ssh.through import Came, came, is_carried
from vini.rules.logins import Login

log = logging.getLogger("vini.ssh")
_LOOK_S = 0.2  # between looks whether those who are in may stay
_LOGIN_S = 30.0  # for a login
_LAST_WORD_S = 0.5  # for the sentence that says why, to whoever is put out
_PUT_OUT = "Your key does not open this slice any more."
_ALIVE_S = 30.0  # between questions whether a client is still there; after three without an answer it has gone


class Doorkeeper:
    """All connections of one server."""

    def __init__(self, place: Place, prepare: running.Prepare):
        self._place, self._prepare, self._book = place, prepare, Book(place.state)
        self._journal = Journal(place.state)
        self._strangers: Strangers[_Connection] = Strangers()
        self._rate, self._census = Rate(BURST, PER_SECOND), Census()
        self._inside: dict[_Connection, tuple[str, str]] = {}  # with the slice and the person

    @property
    def busy(self) -> bool:
        """Whether anybody is in, or about to come in."""
        return bool(self._strangers or self._inside)

    def needed(self) -> bool:
        """Whether there is a sliver here that anybody has a key for."""
        return needed(self._place, self._book)

    async def listen(self, host: str, port: int, key: asyncssh.SSHKey) -> asyncssh.SSHAcceptor:
        """Raises OSError where the port is not to be had."""
        return await asyncssh.listen(
            host, port, server_host_keys=[key], server_factory=lambda: _Connection(self),
            encoding=None, line_editor=False, login_timeout=_LOGIN_S,
            keepalive_interval=_ALIVE_S, agent_forwarding=False, x11_forwarding=False, allow_scp=False,
            password_auth=False, kbdint_auth=False, host_based_auth=False, gss_host=None, backlog=512,
            server_version="VINI", compression_algs=None, reuse_address=True,
        )  # fmt: skip

    async def guard(self) -> None:
        """Put out whoever may not stay; until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            for connection in list(self._inside):
                if not connection.may_stay():
                    connection.put_out()

    # --- what connections ask -------------------------------------------------------------------

    def come(self, connection: _Connection, source: str) -> str:
        """A stranger; why he is hung up on, "" where he isn't.  Somebody else may have to go for him."""
        if not self._rate.takes(source, time.monotonic()):
            return f"it began {BURST:.0f} connections, and more than {PER_SECOND:.0f} a second from then on"
        loser = self._strangers.come(connection, source)
        if loser is connection:
            return f"{STRANGERS} others have not logged in yet"
        if loser:
            loser.hang_up("newer ones need its place, and most of those that have not logged in are its")
        return ""

    def known(self, connection: _Connection, slice_: str, person: str) -> str:
        """It has logged in; why it may not be in all the same, "" where it may."""
        self._strangers.gone(connection)
        if why := self._census.why_not(slice_, person):
            return why
        self._census.come(slice_, person)
        self._inside[connection] = slice_, person
        return ""

    def noted(self, user: str, person: str, came: Came) -> str:
        """Somebody came to a slice of the central's, and it is noted for that one; "": it isn't, since that is another
        slice, or he came through the central, which knows."""
        slice_ = user.partition(".")[0]
        if self._book.from_central(slice_) is None or is_carried(slice_, came):
            return ""
        return self._journal.note(Login(0, user, person, came.source, time.time()))

    def noted_end(self, user: str, person: str, came: Came, seconds: float, owner: str) -> None:
        """And has gone, of whom that was noted for that central; also where the slice has ended."""
        self._journal.note(Login(0, user, person, came.source, time.time(), seconds), owner)

    def gone(self, connection: _Connection) -> None:
        """It has ended."""
        self._strangers.gone(connection)
        if held := self._inside.pop(connection, None):
            self._census.gone(*held)

    def person(self, user: str, key: str) -> str:
        """Whose key that is; where the book doesn't say, the key stands for him."""
        return self._book.person(user.partition(".")[0], key)

    def place_of(self, user: str) -> tuple[str, str]:
        """The slice and the namespace that a user name means.  Raises NotFound."""
        slice_, dot, sliver = user.partition(".")
        if dot and sliver and "/" not in user and is_sliver(user):
            return slice_, user
        pins = netns.pinned(self._place.run / "netns" / slice_, "") if slice_ and "/" not in user else []
        there = [name for name in pins if is_sliver(f"{slice_}.{name}")]
        if sliver or len(there) != 1:
            raise NotFound(f"Log in as {slice_}.SLIVER; here are: {', '.join(there) or 'none'}.")
        return slice_, f"{slice_}.{there[0]}"

    def opens(self, user: str, key: str) -> bool:
        """Whether this key opens what the user name means, and that is there."""
        try:
            slice_, ns = self.place_of(user)
        except NotFound:
            return False
        return self._book.opens(slice_, ns.partition(".")[2], key) and self._place.netns(ns).exists()

    def may_stay(self, user: str, key: str) -> bool:
        """Whether this key still opens it, though it may be gone."""
        try:
            slice_, ns = self.place_of(user)
        except NotFound:
            slice_, ns = user, ""
        return self._book.opens(slice_, ns.partition(".")[2], key)

    def inside(self, user: str, forwarded: Forwarded, has_room: Callable[[], bool]) -> Inside:
        """The network of the sliver that it means."""
        slice_, ns = self.place_of(user)
        return Inside(self._place.netns(ns), self._book.of(slice_).hosts, forwarded, has_room)

    def session(self, user: str) -> session.Session:
        """A new one in the sliver that it means."""
        slice_, ns = self.place_of(user)
        hosts = "" if has_root(self._place, ns) else self._book.of(slice_).hosts or "\n"

        async def run(command: bus.Run, client: session.Session) -> None:
            await running.run(replace(command, hosts=hosts), client, self._prepare)

        return session.Session(ns, run)


class _Connection(asyncssh.SSHServer):
    """One client."""

    def __init__(self, keeper: Doorkeeper):
        self._keeper = keeper
        self._conn: SSHServerConnection | None = None
        self._user = self._key = self._from = self._person = ""
        self._came = Came("somebody")
        self._since = 0.0  # monotonic, when he was let in; 0: he was not
        self._noted = ""  # for which central it was noted that he came in
        self._tries = self._listened = 0  # keys that he offered, ports that he asked for
        self._connecting = 0  # forwarded connections that nobody has answered yet
        self._sessions: WeakSet[session.Session] = WeakSet()
        self._forwarded: Forwarded = WeakSet()

    def connection_made(self, conn: SSHServerConnection) -> None:
        """Somebody called."""
        self._conn = conn
        self._came = came(conn.get_extra_info("peername"), conn.get_extra_info("sockname"))
        self._from = self._came.source
        if why := self._keeper.come(self, source(self._from)):
            self.hang_up(why)

    def hang_up(self, why: str) -> None:
        """On somebody who has not logged in."""
        log.warning("hung up on %s: %s", self._from, why)
        if self._conn:
            self._conn.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """He has gone."""
        self._keeper.gone(self)
        if self._noted:
            seconds = time.monotonic() - self._since
            self._keeper.noted_end(self._user, self._person, self._came, seconds, self._noted)

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002
        """Always asked for a key."""
        return True

    def public_key_auth_supported(self) -> bool:
        """Nothing but that."""
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Whether it opens what he asks for; that he has the private half is asked afterwards."""
        self._tries += 1
        if self._tries > TRIES:
            self.hang_up(f"it offered {TRIES} keys, of which none opens anything")
            return False
        text = _text(key)
        if not self._keeper.opens(username, text):
            return False
        self._user, self._key = username, text
        return True

    def auth_completed(self) -> None:
        """He has shown that the key is his."""
        person = self._keeper.person(self._user, self._key)
        if why := self._keeper.known(self, self._user.partition(".")[0], person):
            log.warning("%s is not let in as %s from %s: %s", self._key[-12:], self._user, self._from, why)
            self._end(why, asyncssh.DISC_TOO_MANY_CONNECTIONS)
            return
        log.info("%s is in as %s from %s", self._key[-12:], self._user, self._from)
        self._person, self._since = person, time.monotonic()
        self._noted = self._keeper.noted(self._user, person, self._came)

    def may_stay(self) -> bool:
        """Whether his key still opens what he is in."""
        return self._keeper.may_stay(self._user, self._key)

    def put_out(self) -> None:
        """At once, and with all that he runs and forwards."""
        log.info("%s is put out of %s: this key does not open it any more", self._key[-12:], self._user)
        for one in self._sessions:
            one.say(_PUT_OUT)  # the client may end before it reads why it was disconnected
        self._end(_PUT_OUT, asyncssh.DISC_BY_APPLICATION)

    def _end(self, why: str, code: int) -> None:
        if self._conn is None:
            return
        self._conn.disconnect(code, why)
        asyncio.get_running_loop().call_later(_LAST_WORD_S, self._conn.abort)  # one that does not listen to that
        self._conn = None

    def _has_room(self) -> bool:
        """For one more session or forwarded connection."""
        there = sum(one.lives for one in self._sessions) + sum(map(lives, self._forwarded))
        return there + self._connecting < PER_CONNECTION

    def session_requested(self) -> tuple[asyncssh.SSHServerChannel[bytes], session.Session] | bool:
        """A shell, a command or a subsystem follows."""
        if self._conn is None or not self._has_room():
            return False
        made = self._keeper.session(self._user)
        self._sessions.add(made)
        return session.channel(self._conn), made

    # --- forwarding -----------------------------------------------------------------------------

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int  # noqa: ARG002
    ) -> Coroutine[Any, Any, Any] | bool:  # fmt: skip
        """`ssh -L`, `ssh -D`: connections that begin in the sliver."""
        if not self._has_room():
            return False
        self._connecting += 1  # not when it begins: many are asked for before the first does
        return self._connected(dest_host, dest_port)

    async def _connected(self, host: str, port: int) -> SSHForwarder:
        try:
            return await self._keeper.inside(self._user, self._forwarded, self._has_room).connect(host, port)
        finally:
            self._connecting -= 1

    def server_requested(self, listen_host: str, listen_port: int) -> Coroutine[Any, Any, Any] | bool:
        """`ssh -R`: a port in the sliver."""
        self._listened += 1
        if self._conn is None or self._listened > PER_CONNECTION:
            return False
        inside = self._keeper.inside(self._user, self._forwarded, self._has_room)
        return inside.listen(self._conn, listen_host, listen_port)


def _text(key: asyncssh.SSHKey) -> str:
    return " ".join(key.export_public_key("openssh").decode().split()[:2])
