"""Commands that are asked several at a time: each gets its answer or its end, and nobody waits for those that hang."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_place import eventually

from vini.node.drivers.questions import _AT_ONCE, _KEPT, Questions

LONG_S = 60.0


@pytest.fixture
def asked() -> Iterator[tuple[Questions, list[int]]]:
    pids: list[int] = []
    questions = Questions(lambda _, pid: pids.append(pid))
    yield questions, pids
    questions.close()


def key(name: str, ns: str = "s.a") -> tuple[str, ...]:
    return ("ready", "process", ns, name)


def answer(questions: Questions, name: str, *argv: str, limit_s: float = LONG_S):
    questions.ask(key(name), name, argv, limit_s)
    questions.wait([key(name)], LONG_S)
    return questions.answer(key(name), name)


def test_an_answer_has_all_that_was_said_and_is_given_once(asked):
    questions, _ = asked
    got = answer(questions, "x", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (got.status, got.out, got.err, got.late) == (3, "out\n", "err\n", False)
    assert questions.answer(key("x"), "x") is None
    assert questions.without_answer() == set()


def test_a_command_that_is_not_there_is_an_answer_too(asked):
    got = answer(asked[0], "x", "/no/such/program")
    assert (got.status, got.err) == (127, "No such file or directory")


def test_one_that_takes_too_long_is_ended_with_all_that_it_started(asked, tmp_path: Path):
    """Both sleepers hold a lock, which falls with the last of them."""
    with (tmp_path / "lock").open("w") as lock:
        script = f"exec 9>{lock.name}; flock 9; echo begun; sleep 1000 & sleep 1000"
        got = answer(asked[0], "x", "sh", "-c", script, limit_s=1.0)
        assert got.late and got.out == "begun\n"
        eventually(lambda: fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB) is None)


def test_one_that_never_stops_to_talk_fills_no_memory(asked):
    got = answer(asked[0], "x", "yes", limit_s=0.3)
    assert got.late and len(got.out) <= _KEPT


def test_those_that_hang_leave_room_for_the_others_once_half_their_time_is_over(asked):
    questions, pids = asked
    for i in range(2 * _AT_ONCE):
        questions.ask(key(f"hangs{i}"), 0, ("sleep", "1000"), 1.0)
    assert len(pids) == _AT_ONCE
    assert answer(questions, "quick", "echo", "yes").out == "yes\n"


def test_they_run_at_the_same_time(asked, tmp_path: Path):
    """Each ends only when all have begun."""
    questions, _ = asked
    keys = [key(str(i)) for i in range(4)]
    for i, k in enumerate(keys):
        together = f"touch {tmp_path}/{i}; until [ $(ls {tmp_path} | wc -l) = 4 ]; do :; done"
        questions.ask(k, i, ("sh", "-c", together), LONG_S)
    questions.wait(keys, LONG_S)
    assert [questions.answer(k, i).status for i, k in enumerate(keys)] == [0, 0, 0, 0]


def test_asked_about_something_else_the_old_question_is_dropped(asked):
    questions, pids = asked
    questions.ask(key("x"), "old", ("sleep", "1000"), LONG_S)
    questions.ask(key("x"), "old", ("sleep", "1000"), LONG_S)
    assert len(pids) == 1
    questions.ask(key("x"), "new", ("echo", "new"), LONG_S)
    questions.wait([key("x")], LONG_S)
    assert questions.answer(key("x"), "old") is None
    assert questions.answer(key("x"), "new").out == "new\n"


def test_only_those_of_these_slivers_that_are_not_known_to_hang_are_waited_for(asked):
    questions, _ = asked
    questions.ask(key("x"), 0, ("sleep", "1000"), LONG_S, again=True)
    questions.ask(key("y", "s.b"), 0, ("sleep", "1000"), LONG_S)
    questions.wait([key("x")], LONG_S)
    assert not questions.awaited({"s.a"})
    assert questions.awaited({"s.a", "s.b"})
    questions.drop_where(lambda k: k[2] == "s.b")
    assert not questions.awaited({"s.b"})
    assert questions.without_answer() == {key("x")}


def test_nothing_is_left_open(asked):
    questions, _ = asked
    before = len(list(Path("/proc/self/fd").iterdir()))
    for i in range(20):
        answer(questions, str(i), "true")
        answer(questions, str(i), "sleep", "1000", limit_s=0.01)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
