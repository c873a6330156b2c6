"""One central's requests of this node: many under way at once, each with its number."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from vini import bus
from vini.bus import frames
from vini.bus.streams import Inbox
from vini.node.answers import Answers

_BUSY = 256  # requests under way at once; more are refused
Say = Callable[[bytes], Awaitable[None]]  # sends a frame; raises ConnectionError where the central has gone


class Talk:
    """What one central asks, and the answers.  Whoever has the connection hands in what comes, and closes this."""

    def __init__(self, say: Say, answers: Answers, told: Callable[[bus.Report], None]):
        self._say, self._answers, self._told = say, answers, told
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._inboxes: dict[int, Inbox] = {}

    async def close(self) -> None:
        """The central has gone: what is under way for it ends."""
        for inbox in self._inboxes.values():
            inbox.put(None)
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def busy(self) -> bool:
        """Whether anything is under way."""
        return bool(self._tasks)

    def take(self, body: bytes) -> None:
        """A frame that came.  Raises Foreign for what is none."""
        number, raw = frames.decode(body)
        try:
            message: bus.ToNode = frames.understood(raw, bus.ToNode)
        except bus.Foreign as e:
            sentence = f"Node {self._answers.node} is of another version: {e}  Upgrade the older side."
            self._spawn(number, self.send(number, bus.Refusal("Unsupported", sentence)))
            return
        match message:
            case bus.Cancel():
                self._cancel(number)
            case bus.Input() | bus.Resize() | bus.Signal() | bus.Credit():
                if inbox := self._inboxes.get(number):
                    inbox.put(message)
            case bus.Challenge() | bus.Welcome() | bus.Elsewhere() | bus.Over() | bus.Refusal():
                pass
            case _:
                self._ask(number, message)

    def _ask(self, number: int, request: bus.Request) -> None:
        if len(self._tasks) >= _BUSY:
            busy = bus.Refusal("ViniError", f"Node {self._answers.node} has {_BUSY} requests under way; try again.")
            self._spawn(number, self.send(number, busy))
        elif isinstance(request, bus.Stream):
            inbox = self._inboxes[number] = Inbox()
            self._spawn(number, self._answers.run(request, "central", _Stream(self, number, inbox)))
        else:
            self._spawn(number, self._answer(number, request))

    def _cancel(self, number: int) -> None:
        if inbox := self._inboxes.get(number):
            inbox.put(bus.Cancel())  # the command ends in its own way
        elif task := self._tasks.get(number):
            task.cancel()

    def _spawn(self, number: int, work: Awaitable[None]) -> None:
        async def quietly() -> None:
            try:
                with suppress(OSError, bus.Foreign):  # that it has gone is handled by whoever reads
                    await work
            finally:
                if self._tasks.get(number) is asyncio.current_task():
                    self._tasks.pop(number, None)
                    self._inboxes.pop(number, None)

        self._tasks[number] = asyncio.create_task(quietly())

    async def _answer(self, number: int, request: bus.Request) -> None:
        reply = await self._answers.to(request, "central", self._progress(number))
        try:
            await self.send(number, reply)
        except bus.Foreign as e:  # too large
            await self.send(number, bus.refusal(e))
        if isinstance(request, bus.Accept) and isinstance(reply, bus.Report):
            self._told(reply)

    def _progress(self, number: int) -> Callable[[int, int, str], None]:
        """From the worker thread; who falls behind misses some steps."""
        loop = asyncio.get_running_loop()

        async def tell(step: bus.Progress) -> None:
            with suppress(OSError):
                await self.send(number, step)

        def said(done: int, total: int, what: str) -> None:
            with suppress(RuntimeError):
                step = bus.Progress(done, total, what)
                loop.call_soon_threadsafe(lambda: asyncio.ensure_future(tell(step)))

        return said

    async def send(self, number: int, message: bus.Message) -> None:
        """Raises ConnectionError where the central has gone."""
        await self._say(frames.encode(number, message))


class _Stream:
    """One command's messages."""

    def __init__(self, talk: Talk, number: int, inbox: Inbox):
        self._talk, self._number, self._inbox = talk, number, inbox

    async def send(self, message: bus.Message) -> None:
        await self._talk.send(self._number, message)

    async def receive(self) -> bus.Message | None:
        return await self._inbox.get()

    def close(self) -> None:
        """The last message said it."""
