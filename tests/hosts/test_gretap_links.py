"""Links from node to node by keyed Ethernet over GRE, on two test hosts."""

from __future__ import annotations

import pytest
from own_place import eventually
from two_hosts import UNDERLAYS, learns_mtu, line, pair_over, tcp

from vini.model import Gretap, Interface

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "ping"), pytest.mark.needs_kernel("gretap")]

ROOM = {"IPv4": 1458, "IPv6": 1438}


def test_packets_cross_as_long_as_its_mtu_and_senders_learn_that(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Over both IP versions; and another pass touches nothing."""
    for version in UNDERLAYS:
        with pair_over(version, tmp_path_factory) as pair:
            pair.up(line(tunnel="gretap"))
            assert {type(o) for h in pair.hosts.values() for o in h.tunnels()} == {Gretap}
            room = ROOM[version]
            vifs = {o.mtu for h in pair.hosts.values() for o in h.want if isinstance(o, Interface)}
            assert vifs == {room, 1500, 65536}
            for family, headers in ((4, 28), (6, 48)):
                eventually(lambda f=family: pair.pings("a", "d", family=f))
                assert pair.pings("b", "c", "-M", "do", "-s", str(room - headers), family=family)
                assert not pair.pings("b", "c", "-M", "do", "-s", str(room + 1 - headers), family=family)
            assert version == "IPv6" or tcp(pair, "a", "d", 1 << 20) == 1 << 20
            eventually(lambda to=f"mtu {room}": to in learns_mtu(pair))
            before = [pair.enter(s, "ip", "-d", "link") for s in ("b", "c")]
            pair.up(line(tunnel="gretap"), generation=2)
            assert [pair.enter(s, "ip", "-d", "link") for s in ("b", "c")] == before
