"""One connection to a NATS server, over TLS: made once, and over when it breaks.

Whoever holds one dials again himself.  A client that reconnects by itself for ever would hide credentials that are not
good any more, and what was lost meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from vini.bus import subjects
from vini.bus.nkeys import Key
from vini.model import Denied, ViniError

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

_PENDING = 64 << 20  # bytes that may wait to be heard, of one subscription; whoever falls behind further hangs up
_CLOSE_S = 1.0
_FLUSH_S = 30  # a server that takes nothing for so long is gone
_PING_S = 10.0  # after two that are not answered the server is taken to be gone
_REFUSED = ("authorization violation", "authentication revoked", "authentication expired")

Heard = Callable[[str, bytes, bool], None]  # subject, body, and whether it only says that nobody heard us


class Line:
    """A connection that the server has accepted."""

    def __init__(self, client: Client, gone: asyncio.Future[str], url: str):
        self._client, self._gone, self.url = client, gone, url
        self._heard: list[Subscription] = []

    async def hear(self, subject: str, heard: Heard, queue: str = "") -> None:
        """Call it with each message, in the order in which they come.  Raises ConnectionError."""

        async def take(message: Msg) -> None:
            heard(message.subject, message.data, (message.headers or {}).get("Status") == "503")

        with _broken():
            self._heard.append(await self._client.subscribe(
                subject, queue, cb=take, pending_bytes_limit=_PENDING, pending_msgs_limit=1 << 17
            ))  # fmt: skip

    async def say(self, subject: str, body: bytes, unheard: str = "") -> None:
        """Returns when the network takes it; where nobody hears it, that is said on the subject `unheard`.

        Raises ConnectionError.
        """
        with _broken():
            await self._client.publish(subject, body, reply=unheard)
        if self._client.pending_data_size > 1 << 17:
            await self.settle()

    async def ask(self, subject: str, body: bytes, patience_s: float) -> bytes:
        """The server's own answer.  Raises TimeoutError, or ConnectionError."""
        with _broken():
            return (await self._client.request(subject, body, timeout=patience_s)).data

    async def settle(self) -> None:
        """Until the server has taken all that was said, subscriptions among it.  Raises ConnectionError."""
        with _broken():
            flushing = asyncio.create_task(self._client.flush(_FLUSH_S))
            try:
                await asyncio.wait((flushing, self._gone), return_when=asyncio.FIRST_COMPLETED)
                if self._gone.done():  # the library's flush would return as if all had gone out
                    raise ConnectionError(str(await self.over()))
                await flushing
            finally:
                flushing.cancel()

    async def over(self) -> ViniError:
        """Why, once it is."""
        return _error(await asyncio.shield(self._gone))

    async def close(self) -> None:
        """What was said goes out first."""
        await _close(self._client)
        for heard in self._heard:  # the library leaves them where a write failed
            if heard._wait_for_msgs_task:
                heard._wait_for_msgs_task.cancel()


async def dial(
    urls: Sequence[str], trusted: ssl.SSLContext, key: Key, jwt: str, name: str, patience_s: float,
    first: Collection[str] = (),
) -> Line:  # fmt: skip
    """To any of these servers of one cluster, in an order of chance, so that all have as many; those in `first` before
    the others.

    Raises Denied where all refuse who we are; OSError, TimeoutError or ViniError where they are away: the first's.
    """
    errors: list[Exception] = []
    for url in sorted(random.sample(urls, len(urls)), key=lambda url: url not in first):
        try:
            return await _dial(url, trusted, key, jwt, name, patience_s)
        except (OSError, TimeoutError, ViniError) as e:  # also Denied: a new server may not know us yet
            errors.append(e)
    raise next((e for e in errors if not isinstance(e, Denied)), errors[0])


async def _dial(url: str, trusted: ssl.SSLContext, key: Key, jwt: str, name: str, patience_s: float) -> Line:
    try:
        from nats.aio.client import Client
        from nats.errors import Error, NoServersError
    except ImportError as e:
        raise ViniError("this machine lacks a library for NATS; `pip install nats-py`.") from e
    logging.getLogger("asyncio").addFilter(_is_news)
    client, gone = Client(), asyncio.get_running_loop().create_future()
    causes: list[Exception] = []

    def signed(nonce: str) -> bytes:
        _insist(client)
        return key.signed(nonce.encode())

    async def failed(error: Exception) -> None:
        causes.append(error)
        if "SlowConsumer" in type(error).__name__ and not gone.done():
            gone.set_result("we fell behind in hearing what it says.")

    def ended(reading: asyncio.Task[None]) -> None:
        if not reading.cancelled():
            reading.exception()  # is the cause, or of what the library did about it; asyncio would log it
        if not gone.done():
            gone.set_result(str(client.last_error or "") or "the engine hung up.")

    try:
        async with asyncio.timeout(patience_s):
            await client.connect(
                url, tls=trusted, user_jwt_cb=jwt.encode, signature_cb=signed, name=name, error_cb=failed,
                allow_reconnect=False, max_reconnect_attempts=1, reconnect_time_wait=0,
                connect_timeout=max(1, int(patience_s)), ping_interval=int(_PING_S), max_outstanding_pings=2,
            )  # fmt: skip
        _insist(client)
        # not `closed_cb`: where a write fails while more waits, the library ends its tasks and calls nobody
        assert client._reading_task
        client._reading_task.add_done_callback(ended)
    except BaseException as e:  # also of who is cancelled no connection stays; it is raised again
        await _close(client)
        if isinstance(e, NoServersError) and causes:
            raise causes[0] from None
        if isinstance(e, Error) and not isinstance(e, TimeoutError):
            raise _error(str(e)) from e
        raise
    return Line(client, gone, url)


def _is_news(record: logging.LogRecord) -> bool:
    """What asyncio warns of whenever a TLS connection of the library's ends, is none."""
    return "eof_received() has no effect" not in record.getMessage()


async def _close(client: Client) -> None:
    """However it is: after a TLS handshake that failed, the library would wait for ever."""
    with suppress(Exception):  # the library's, of whatever kind: what is closed is of no use any more
        async with asyncio.timeout(_CLOSE_S):
            await client.close()


def _insist(client: Any) -> None:
    """On TLS: the server asks for it in the clear, so whoever is in between could leave that out.  And that it is one
    over which all that is to be said can be said."""
    said = client._server_info
    if not said.get("tls_required"):
        raise ViniError("what answers there does not speak TLS as the engine does.")
    if not said.get("headers"):  # by these it says that nobody hears a message
        raise ViniError(f"nats-server {said.get('version', '')} there is too old; 2.11 or newer is needed.")
    if said.get("max_payload", 0) < subjects.LARGEST:
        raise ViniError(
            f"nats-server there takes no messages of more than {said.get('max_payload', 0)} bytes; set `max_payload: "
            f"{subjects.LARGEST}` in its configuration, as the files have it that `vini central engine server` writes."
        )


def _error(said: str) -> ViniError:
    words = said.lower()
    if any(refusal in words for refusal in _REFUSED):
        return Denied("the engine refuses this identity.")
    if "maximum" in words and "connections exceeded" in words:
        return ViniError("nats-server there has as many connections as it takes; raise its `max_connections`.")
    return ViniError(f"the connection to the engine broke ({said.removeprefix('nats: ')}).")


class _broken:
    """Errors of the library's are a ConnectionError."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        from nats.errors import Error, FlushTimeoutError

        if isinstance(error, FlushTimeoutError) or (isinstance(error, Error) and not isinstance(error, TimeoutError)):
            raise ConnectionError(f"the engine can't be spoken to: {error}") from error
