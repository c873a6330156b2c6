"""pop-id: take the identifiers off."""

import pytest
from frames import ARP, ID, IP, IP6, ethernet, ip6, tcp

TEXT = """
input -> i :: pop-id -> kernel
i[other] -> drop
"""


@pytest.mark.parametrize(("payload", "protocol"), [(tcp()[14:], IP), (ip6(bytes(20), 59), IP6), (bytes(28), ARP)])
def test_what_is_under_it_is_as_it_was(start, payload, protocol):
    program = start(TEXT)
    sent = program.send(ethernet(protocol.to_bytes(2, "big") + b"\x40\0" + bytes(8) + payload, ID))
    assert (sent.went, sent.packet) == ("kernel", ethernet(payload, protocol))
    assert program.packets("i.popped") == 1


def test_others(start):
    for frame in (tcp(), ethernet(bytes(8), ID)):
        assert start(TEXT).send(frame).went == "drop"
