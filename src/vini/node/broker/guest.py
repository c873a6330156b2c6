"""One connection to a broker: a process that asks, line by line.  Nothing that it does costs the node more than little.

What it sends besides bytes, descriptors say, the kernel closes: nobody receives them here.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from vini.model import CapacityError, Value, ViniError
from vini.node.broker import requests
from vini.node.rate import Rate
from vini.rules.errors import Invalid

log = logging.getLogger("vini.broker")
BURST, PER_SECOND = 20.0, 5.0  # requests of one sliver
_CHUNK = 4096
_IDLE_S = 300.0  # a connection that asks nothing for so long ends
_PATIENCE_S = 5.0  # for a process that does not read what it is told
_REFUSALS = 100  # of requests that come too fast; then the connection ends
_EVENTS = 100  # that wait for a process that watches


class Given(Value, frozen=True):
    """What is replied to a request: a value, and perhaps a socket whose descriptor comes with it."""

    value: object
    socket: socket.socket | None = None


Answer = Callable[[requests.Request, int], Awaitable[Given]]  # to which request of which process; raises ViniError


class Guest:
    """From its connecting to its end."""

    def __init__(self, ns: str, pid: int, sock: socket.socket, answer: Answer, rate: Rate, note: Callable[[str], None]):
        self.ns, self.pid = ns, pid
        self._sock, self._answer, self._rate, self._note = sock, answer, rate, note
        self._rest = b""
        self._refused = 0
        self._events: asyncio.Queue[bytes] | None = None  # of one that watches

    @property
    def watches(self) -> bool:
        """Whether it wants to hear of what happens."""
        return self._events is not None

    def tell(self, event: bytes) -> None:
        """One that watches; who does not keep up misses some."""
        if self._events is not None and self._events.qsize() < _EVENTS:
            self._events.put_nowait(event)

    async def serve(self) -> None:
        """Until it has gone, or must go."""
        telling: asyncio.Task[None] | None = None
        try:
            while line := await self._line():
                reply = await self._reply(line)
                if reply is None:
                    return
                if self.watches and telling is None:
                    telling = asyncio.create_task(self._tell())
        except (OSError, TimeoutError):
            pass
        finally:
            if telling:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)
            self._sock.close()

    async def _line(self) -> bytes:
        """The next request; b"": there is none any more.  A watching process may be silent for ever."""
        loop = asyncio.get_running_loop()
        while b"\n" not in self._rest:
            if len(self._rest) >= requests.LONGEST:
                self._note(f"process {self.pid} sent a request of more than {requests.LONGEST} bytes; hung up on it")
                await self._send(requests.error(Invalid(f"A request has {requests.LONGEST} bytes at most.")))
                return b""
            async with asyncio.timeout(None if self.watches else _IDLE_S):
                data = await loop.sock_recv(self._sock, _CHUNK)
            if not data:
                return b""
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line or b" "

    async def _reply(self, line: bytes) -> bool | None:
        """None where it has to go."""
        if not self._rate.takes(self.ns, time.monotonic()):
            self._refused += 1
            if self._refused == 1:
                self._note(f"process {self.pid} asks too fast; it is refused for a while")
            if self._refused > _REFUSALS:
                return None
            await self._send(requests.error(_TOO_FAST))
            return True
        try:
            request = requests.read(line)
            given = await self._answer(request, self.pid)
        except ViniError as e:
            await self._send(requests.error(e))
            return True
        except Exception:  # the request boundary; whoever asked gets a sentence, the log the traceback
            log.exception("a request from %s failed", self.ns)
            await self._send(requests.error(_FAILED))
            return True
        if isinstance(request, requests.Watch) and self._events is None:
            self._events = asyncio.Queue()
        await self._send(requests.ok(given.value), given.socket)
        return True

    async def _tell(self) -> None:
        assert self._events is not None
        with suppress(OSError, TimeoutError):
            while True:
                await self._send(await self._events.get())
        with suppress(OSError):  # it does not read: the connection is over
            self._sock.shutdown(socket.SHUT_RDWR)

    async def _send(self, data: bytes, passed: socket.socket | None = None) -> None:
        """Raises TimeoutError where it does not read.  `passed` is closed here, whatever happens."""
        loop = asyncio.get_running_loop()
        if passed:
            with passed:
                sent = socket.send_fds(self._sock, [data], [passed.fileno()])
            data = data[sent:]
        async with asyncio.timeout(_PATIENCE_S):
            await loop.sock_sendall(self._sock, data)


_FAILED = ViniError("The agent failed at this; its log on the node says where. Tell whoever runs the node.")
_TOO_FAST = CapacityError(
    f"This sliver asks too fast: {BURST:.0f} requests at once, and {PER_SECOND:.0f} a second from then on; ask slower."
)
