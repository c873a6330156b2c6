"""The agent of this machine: started where it is gone, and replaced where it is not the one that we want."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from msgspec.structs import replace

from vini import bus
from vini.client.slices import OnProgress, Say
from vini.model import ViniError
from vini.node import service
from vini.node.place import Place
from vini.node.version import digest

_START_TIMEOUT_S = 20.0


class OwnAgent:
    """Whoever asks it need not know whether it runs."""

    def __init__(self, place: Place, say: Say):
        self._place, self._say = place, say
        self._log = place.state / "agent.log"
        self._line = bus.Line(place.run / "agent.socket", self._log)

    async def ask(self, request: bus.Request, progress: OnProgress = None) -> bus.Reply:
        """The reply; where the agent is gone, it is started and asked again: every request may be repeated."""
        for attempt in range(3):
            try:
                return await self._line.ask(request, progress or (lambda _: None))
            except bus.AgentGone:
                if attempt == 2:
                    raise
                await self._start()
        raise AssertionError("unreachable")

    async def greeting(self) -> bus.Greeting:
        """Who it is; one of another version, or from another place, is replaced."""
        reply = await self.ask(bus.Hello())
        assert isinstance(reply, bus.Greeting)
        if reply.version != digest() or not service.is_current(self._place):
            self._say("The agent is of another version or from another place; it is replaced, slices run on.")
            await self.end(reply.pid)
            reply = await self.ask(bus.Hello())
            assert isinstance(reply, bus.Greeting)
        return reply

    async def end(self, pid: int) -> None:
        """That process ends; the next request starts another."""
        await self.ask(bus.Stop(pid))
        deadline = time.monotonic() + _START_TIMEOUT_S
        while _runs(pid) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

    async def _start(self) -> None:
        self._say("starting the agent")
        child = service.start(self._place)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                await self._line.ask(bus.Hello())
                return
            except bus.AgentGone as e:
                if (child and child.poll()) or time.monotonic() > deadline:
                    raise ViniError(f"The agent does not start; its log {self._log} ends: {_tail(self._log)}") from e
                await asyncio.sleep(0.02)


async def by_now(greeting: bus.Greeting) -> bus.Greeting:
    """With what this machine can do now, which may be more than when the agent looked."""
    from vini.node import probe  # it has much to import, and few need it

    return replace(greeting, capabilities=greeting.capabilities | await asyncio.to_thread(probe.capabilities))


def _runs(pid: int) -> bool:
    """Not so a zombie, which our own ended child is until we ask for it; it has no command line (proc(5))."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def _tail(path: Path) -> str:
    return " / ".join(path.read_text(errors="replace").strip().splitlines()[-3:]) or "(empty)"
