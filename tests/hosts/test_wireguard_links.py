"""Links from node to node that are encrypted on their way, on two test hosts."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from own_place import eventually
from two_hosts import PORT, UNDERLAYS, Host, learns_mtu, line, pair_over, tcp

from vini.model import Interface, Vxlan, Wireguard
from vini.node import netns

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan", "ping"), pytest.mark.needs_kernel("wireguard")]

ROOM = {"IPv4": 1390, "IPv6": 1370}
SECRET = b"secret!!"
ETHERNET, ETH_P_ALL = 14, 3


def heard(host: Host, doing: Callable[[], object]) -> list[bytes]:
    """The frames between the hosts meanwhile."""
    with netns.inside(host.path):
        ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    with ear:
        ear.bind(("eth0", ETH_P_ALL))
        doing()
        ear.setblocking(False)
        frames = []
        while True:
            try:
                frames.append(ear.recv(1 << 16))
            except BlockingIOError:
                return frames


def test_packets_cross_encrypted_and_as_long_as_the_mtu_allows(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Over both IP versions.  The longest make frames between the hosts that are full, and whole."""
    for version in UNDERLAYS:
        with pair_over(version, tmp_path_factory) as pair:
            pair.up(line(tunnel="wireguard"))
            one, room = pair.hosts["one"], ROOM[version]
            assert {(type(o), o.through) for o in one.tunnels()} == {(Vxlan, "v._wireguard")}
            assert len([o for o in one.want if isinstance(o, Wireguard)]) == 1
            vifs = {o.mtu for h in pair.hosts.values() for o in h.want if isinstance(o, Interface)}
            assert vifs == {room, 1500, 65536}
            for family, headers in ((4, 28), (6, 48)):
                eventually(lambda f=family: pair.pings("a", "d", family=f))
                assert not pair.pings("b", "c", "-M", "do", "-s", str(room + 1 - headers), family=family)
            longest = ("-M", "do", "-s", str(room - 28), "-p", SECRET.hex())
            frames = heard(one, lambda how=longest: eventually(lambda: pair.pings("b", "c", *how)))
            carried = [f for f in frames if PORT.to_bytes(2, "big") * 2 in f[:58]]  # the UDP port of both
            assert max(map(len, carried)) == 1500 + ETHERNET
            assert len([f for f in carried if len(f) == 1500 + ETHERNET]) >= 2
            assert not [f for f in frames if SECRET in f]
            if version == "IPv6":  # all else is the same above WireGuard, and takes seconds on an emulated machine
                continue
            assert tcp(pair, "a", "d", 1 << 18) == 1 << 18
            eventually(lambda to=f"mtu {room}": to in learns_mtu(pair))
