"""A log says the same once a minute, and how often it would have been."""

from __future__ import annotations

import logging

from vini.central.repeats import QUIET_S, Repeats


def test_what_was_just_said_is_said_again_later_with_a_count() -> None:
    now = 0.0
    repeats = Repeats(lambda: now)

    def said(text: str, *args: object) -> str:
        record = logging.LogRecord("x", logging.WARNING, "", 0, text, args, None)
        return record.getMessage() if repeats.filter(record) else ""

    assert said("node %s is away", "n1") == "node n1 is away"
    assert said("node %s is away", "n1") == said("node %s is away", "n1") == ""
    assert said("node %s is away", "n2") == "node n2 is away"
    now += QUIET_S
    assert said("node %s is away", "n1") == "node n1 is away (2 times more in the 60 s since that was said)"
    now += QUIET_S
    assert said("node %s is away", "n1") == "node n1 is away"
    for number in range(10_000):
        assert said("%d", number)
        now += 1
    assert len(repeats._said) <= 1000


def test_another_exception_is_another_thing_to_say() -> None:
    repeats = Repeats(lambda: 0.0)

    def said(error: Exception) -> bool:
        how = (type(error), error, None)
        return repeats.filter(logging.LogRecord("x", logging.ERROR, "", 0, "a mistake in VINI", (), how))

    assert said(KeyError("a")) and said(KeyError("b")) and said(ValueError("a"))
    assert not said(KeyError("a"))
