"""lookup: choose the way out by the kernel's forwarding table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from frames import ARP, IP6, TCP, ethernet, ip, ip6, tcp, transport
from live import Line

TEXT = "input -> l :: lookup -> out\nl[kernel] -> kernel"
PEER = bytes.fromhex("020000000909")


@pytest.fixture
def router() -> Iterator[tuple[Line, int]]:
    """A router between two hosts, inside which this thread is, and the interface that packets come in by."""
    with ExitStack() as stack:
        line = Line(stack, 3)
        for version, address in (("-4", "10.2.0.9"), ("-6", "fd02::9")):
            line.ip(
                1, version, "neighbour", "add", address, "lladdr", PEER.hex(":"), "dev", "right", "nud", "permanent"
            )
        line.ip(1, "address", "add", "fd02::2/64", "dev", "right", "nodad")
        line.run(1, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
        line.ip(1, "route", "add", "10.9.0.0/16", "via", "10.2.0.9")
        line.ip(1, "route", "add", "fd09::/16", "via", "fd02::9")
        line.ip(1, "route", "add", "prohibit", "10.66.0.0/16")
        with line.inside(1):
            yield line, line.vif(1, "left").ifindex


def test_the_next_hops_address_and_ours(router, start):
    line, left = router
    program = start(TEXT, vifs=(line.vif(1, "right")._replace(peer=PEER),))
    for frame in (tcp(), ethernet(ip6(transport(TCP), TCP), IP6), ethernet(ip(b"x" * 64, TCP, fragment=0x2003))):
        sent = program.send(frame, ifindex=left)
        assert (sent.went, sent.packet[:12]) == ("right", PEER + line.vif(1, "right").mac)
        assert sent.packet[12:] == frame[12:]
    assert program.packets("l.hits") == 3


@pytest.mark.parametrize(
    "frame",
    [
        tcp(destination="10.1.0.1"),  # the router itself
        tcp(destination="10.2.0.77"),  # nobody knows its Ethernet address
        tcp(destination="10.66.0.1"),
        tcp(destination="11.0.0.1"),
        ethernet(ip(transport(TCP), TCP, options=b"\x01" * 4)),
        ethernet(ip(bytes(1500), TCP)),  # longer than the link takes
        ethernet(bytes(28), ARP),
    ],
)
def test_what_the_kernel_must_see_is_unchanged(router, start, frame):
    program = start(TEXT, vifs=(router[0].vif(1, "right"),))
    sent = program.send(frame, ifindex=router[1])
    assert (sent.went, sent.packet) == ("kernel", frame)
    assert program.packets("l.misses") == 1
