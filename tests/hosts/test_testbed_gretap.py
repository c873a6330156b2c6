"""A real central and two real agents with links of Ethernet over GRE between them: from the first token to packets."""

from __future__ import annotations

import subprocess

import pytest
from own_place import eventually
from testbed import testbed

from vini.layout import address, layout
from vini.model import Gretap, Topology
from vini.topology import parse

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "ping"), pytest.mark.needs_kernel("gretap")]

SLICE = "home_gre"
LINE = parse(f"""
name: {SLICE}
tunnel: gretap
routing: static
slivers: {{a: {{node: n1}}, b: {{node: n2}}, c: {{node: n1}}}}
links: [a -- b, b -- c]
""")


def test_a_slice_over_gre_comes_carries_packets_and_goes(tmp_path_factory: pytest.TempPathFactory) -> None:
    with testbed(("n1", "n2"), tmp_path_factory.mktemp) as bed:
        bed.vini("slice", "create", SLICE)
        bed.put(LINE)
        eventually(lambda: bed.settled(SLICE))
        n1, n2 = bed.hosts.values()
        assert [len([o for o in h.observe() if isinstance(o, Gretap)]) for h in (n1, n2)] == [2, 2]
        source, to = (address(layout(LINE), sliver, 4) for sliver in "ac")

        def answered() -> bool:
            """From n1 over n2 and back to n1."""
            ping = n1.enter(f"{SLICE}.a", "ping", "-n", "-c", "1", "-W", "2", "-I", source, to)
            return subprocess.run(ping, capture_output=True).returncode == 0

        eventually(answered)
        bed.put(Topology(SLICE), "down")
        eventually(lambda: not any(h.held() or h.observe() for h in bed.hosts.values()))
