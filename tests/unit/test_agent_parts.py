"""Parts of the agent that fail: begun again after pauses that grow, and told of in a sentence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from vini.node import parts
from vini.node.parts import Parts


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What is waited, in place of waiting; for ever after the eighth time."""
    out: list[float] = []

    async def sleep(seconds: float) -> None:
        out.append(seconds)
        if len(out) >= 8:
            await asyncio.Event().wait()

    real = {name: getattr(asyncio, name) for name in ("create_task", "gather")}
    monkeypatch.setattr(parts, "asyncio", SimpleNamespace(sleep=sleep, **real))
    return out


async def _until(made: Parts, condition: Callable[[], bool]) -> None:
    running = asyncio.create_task(made.run())
    for _ in range(10_000):
        if condition():
            break
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    assert condition()


async def test_what_fails_is_begun_again_after_growing_pauses_and_told_of(waited: list[float]) -> None:
    begun = []

    async def fails() -> None:
        begun.append(1)
        raise OSError("no room")

    one = Parts({"The broker": fails}, clock=lambda: 7.0)
    await _until(one, lambda: len(waited) == 8)
    assert len(begun) == 8 and waited == [1, 2, 4, 8, 16, 32, 60, 60]
    (sentence,) = one.failing()
    assert sentence.startswith("The broker failed 8 times, last 0 s ago (OSError: no room); the agent begins it again")
    (same,) = one.ailing()
    assert same.startswith("The broker fails (OSError: no room). Its agent begins that again by itself")


@pytest.mark.usefixtures("waited")
async def test_the_others_go_on_and_what_is_well_for_long_is_not_told_of() -> None:
    now, ran = [0.0], []

    async def once() -> None:
        if not ran:
            ran.append("failed")
            raise ZeroDivisionError
        ran.append("well")
        await asyncio.Event().wait()

    async def steady() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ran.append("cleared up")

    two = Parts({"A": once, "B": steady}, clock=lambda: now[0])
    await _until(two, lambda: "well" in ran)
    assert ran == ["failed", "well", "cleared up"] and "A failed, last 0 s ago (ZeroDivisionError)" in two.failing()[0]
    now[0] = 1000.0
    assert two.failing() == two.ailing() == ()
