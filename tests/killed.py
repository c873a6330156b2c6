"""An agent that is killed between two of the things that it tells the kernel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vini.node.netlink import Socket


class Crash(BaseException):
    """The agent is gone at this step."""


@contextmanager
def dying_after(last: int) -> Iterator[None]:
    """Of what it tells the kernel only so many requests are made."""
    made, transact = 0, Socket.transact

    def counted(self: Socket, requests: list[bytes]) -> list[int]:
        nonlocal made
        if made + len(requests) > last:
            transact(self, requests[: last - made])
            raise Crash
        made += len(requests)
        return transact(self, requests)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Socket, "transact", counted)
        yield
