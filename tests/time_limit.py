"""No test hangs forever: its time over, an error is raised where it is, again and again until it ends.

A pytest plugin, registered by conftest.py.  It counts for what makes a test's fixtures, for the test, and for what
takes them down, each anew; and again, since what cleans up after an error may hang, too, on what caused it.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest

LIMIT_S = 400.0  # more than any test takes on a busy machine; `takes(seconds)` marks those with other limits, 0 is none
AGAIN_S = 60.0
STDERR = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[STDERR] = os.dup(2)  # the terminal's: nothing is captured yet
    config.addinivalue_line("markers", "takes(seconds): may take longer than others")


@contextmanager
def _limited(item: pytest.Item) -> Iterator[None]:
    marker = item.get_closest_marker("takes")
    limit = float(marker.args[0]) if marker else LIMIT_S

    def over(*_: object) -> None:
        os.write(item.config.stash[STDERR], f"\n{item.nodeid} has not ended within {limit:g} s:\n".encode())
        faulthandler.dump_traceback(item.config.stash[STDERR])
        pytest.fail(f"has not ended within {limit:g} s; what each thread was at is said on standard error")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, limit, AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    with _limited(item):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    with _limited(item):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    with _limited(item):
        return (yield)
