"""Links from node to node by keyed Ethernet over GRE, on two test hosts."""

from __future__ import annotations

import pytest
from two_hosts import UNDERLAYS, carries_up_to, pair_over

from vini.model import Gretap

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "ping"), pytest.mark.needs_kernel("gretap")]

ROOM = {"IPv4": 1458, "IPv6": 1438}


def test_packets_cross_as_long_as_its_mtu_and_senders_learn_that(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Over both IP versions; and another pass touches nothing."""
    for version in UNDERLAYS:
        with pair_over(version, tmp_path_factory) as pair:
            carries_up_to(pair, "gretap", ROOM[version])
            assert {type(o) for h in pair.hosts.values() for o in h.tunnels()} == {Gretap}
