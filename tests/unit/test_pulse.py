"""A central that has gone is noticed, and one that speaks is not pinged."""

from __future__ import annotations

import asyncio

import pytest
from websockets.exceptions import ConnectionClosedError

from vini.node.pulse import Pulse


class _Socket:
    """Counts pings; each is answered, or never, or the connection is found closed."""

    def __init__(self, answer: asyncio.Future[None]):
        self.pings, self._answer = 0, answer

    async def ping(self) -> asyncio.Future[None]:
        self.pings += 1
        return self._answer


async def test_a_central_that_says_nothing_and_answers_no_ping_has_gone() -> None:
    socket = _Socket(asyncio.get_running_loop().create_future())
    with pytest.raises(TimeoutError):
        await Pulse(socket, 0.02).watch()  # type: ignore[arg-type]
    assert socket.pings == 1


async def test_one_that_is_quiet_and_answers_is_asked_again_and_again() -> None:
    answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    answered.set_result(None)
    socket = _Socket(answered)
    watching = asyncio.create_task(Pulse(socket, 0.01).watch())  # type: ignore[arg-type]
    while socket.pings < 3:
        assert not watching.done()
        await asyncio.sleep(0)
    watching.cancel()


async def test_one_that_spoke_is_not_pinged(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock of ours: it speaks each 10 s, as a central does that asks for the clock."""
    now, socket = 0.0, _Socket(asyncio.get_running_loop().create_future())
    monkeypatch.setattr("vini.node.pulse.time.monotonic", lambda: now)
    pulse = Pulse(socket, 20.0)  # type: ignore[arg-type]

    async def sleep(seconds: float) -> None:
        nonlocal now
        end = now + seconds
        while (word := 10.0 * (now // 10 + 1)) <= end:
            now = word
            pulse.heard()
        now = end
        if now > 1000:
            raise asyncio.CancelledError

    monkeypatch.setattr("vini.node.pulse.asyncio.sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await pulse.watch()
    assert socket.pings == 0


async def test_a_connection_that_is_closed_is_left_to_who_reads() -> None:
    closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    closed.set_exception(ConnectionClosedError(None, None))
    watching = asyncio.create_task(Pulse(_Socket(closed), 0.01).watch())  # type: ignore[arg-type]
    done, _ = await asyncio.wait([watching], timeout=0.2)
    assert not done
    watching.cancel()
