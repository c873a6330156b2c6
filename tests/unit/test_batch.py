"""Lots of questions: who is in a hurry is not asked together with those who are not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from vini.central.batch import Batch


class Desk:
    """Answers when it is let; remembers the lots."""

    def __init__(self) -> None:
        self.lots: list[list[int]] = []
        self.may = threading.Event()
        self.may.set()

    def answer(self, questions: Sequence[int]) -> list[int]:
        self.lots.append(list(questions))
        assert self.may.wait(30)
        return [-q for q in questions]


async def begun(desk: Desk, lots: int) -> None:
    while len(desk.lots) < lots:
        await asyncio.sleep(0.001)


async def test_questions_that_come_while_a_lot_is_out_are_one_lot() -> None:
    desk = Desk()
    batch = Batch(desk.answer)
    desk.may.clear()
    first = asyncio.create_task(batch.ask(1))
    await begun(desk, 1)
    others = [asyncio.create_task(batch.ask(n)) for n in (2, 3, 4)]
    await asyncio.sleep(0)
    desk.may.set()
    assert await asyncio.gather(first, *others) == [-1, -2, -3, -4]
    assert desk.lots == [[1], [2, 3, 4]]


async def test_who_is_in_a_hurry_neither_waits_for_nor_takes_along_who_is_not() -> None:
    desk = Desk()
    batch = Batch(desk.answer)
    calm = [asyncio.create_task(batch.ask(n, within=0.2)) for n in range(100, 220)]
    await asyncio.sleep(0.01)
    assert await batch.ask(1) == -1
    assert desk.lots == [[1]]
    assert await asyncio.gather(*calm) == [-n for n in range(100, 220)]
    assert all(len(lot) <= 50 for lot in desk.lots) and len(desk.lots) == 4


async def test_who_has_waited_for_long_is_asked_although_others_are_in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vini.central.batch._LATE_S", 0.0)
    desk = Desk()
    batch = Batch(desk.answer)
    calm = asyncio.create_task(batch.ask(9, within=0.01))
    number = 0
    while not calm.done():
        number += 1
        await asyncio.gather(*(batch.ask(n) for n in range(3)))
        assert number < 10_000
    assert await calm == -9


async def test_a_lot_that_fails_fails_for_all_who_asked() -> None:
    def broken(questions: Sequence[int]) -> list[int]:
        raise OSError(f"no room for {len(questions)}")

    batch = Batch(broken)
    found = await asyncio.gather(*(batch.ask(n) for n in range(3)), return_exceptions=True)
    assert [str(e)[:11] for e in found] == ["no room for"] * 3
