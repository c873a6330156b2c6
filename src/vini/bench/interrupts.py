"""Ctrl-C and SIGTERM while a benchmark runs: the first ends it, and no other cuts its clean-up short.

timeout(1) sends SIGTERM twice, to the process and to its group; people press Ctrl-C again.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_NOTE = b"Interrupted: what the benchmark made is taken away; that takes some seconds, and no second Ctrl-C ends it.\n"


@contextmanager
def tidily() -> Iterator[Callable[[], None]]:
    """Of this block, clean-up included; what it gives is called when the clean-up begins, for nothing ends that then.

    Within asyncio.run it is to be begun in the task: what asyncio does on Ctrl-C is what the first one does here.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    on_interrupt = before[signal.SIGINT]

    def listen_no_more() -> None:
        for number in before:
            signal.signal(number, lambda *_: None)

    def end(_: int, frame: FrameType | None) -> None:
        listen_no_more()
        os.write(2, _NOTE)
        if not callable(on_interrupt):  # a script's job in the background, which only SIGTERM reaches
            raise KeyboardInterrupt
        on_interrupt(signal.SIGINT, frame)

    for number, old in before.items():
        if number == signal.SIGTERM or old is not signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield listen_no_more
    finally:
        for number, old in before.items():
            signal.signal(number, old)
