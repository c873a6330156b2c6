"""mark: set the packet's mark."""

import pytest
from frames import tcp


@pytest.mark.parametrize("hook", ["tc"])
def test_the_mark_is_set(start):
    sent = start("input -> mark(0x2a) -> kernel").send(tcp())
    assert (sent.mark, sent.packet) == (42, tcp())
