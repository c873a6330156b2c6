"""Tests that need some kernel find one that has what they need."""

from __future__ import annotations

import re

import pytest
from kernel_machine import FEATURES, MACHINES, TESTS, machine_for, needs, own
from kernel_modules import in_order


def test_a_test_runs_in_the_quickest_machine_that_has_all_it_needs() -> None:
    assert machine_for(frozenset({"netem"})) == "user-mode-linux"
    assert machine_for(frozenset({"wireguard"})) == machine_for(frozenset({"netem", "nft_inet"})) == "qemu"


@pytest.mark.parametrize("machine", MACHINES)
def test_whatever_a_test_for_a_machine_needs_names_one_of_its_own_features(machine: str) -> None:
    assert own(machine)
    assert not any(own(machine) & own(other) for other in MACHINES if other != machine)


@pytest.mark.parametrize("feature", FEATURES)
def test_some_test_needs_it(feature: str) -> None:
    mark = re.compile(rf'needs_kernel\([^)]*"{feature}"')
    assert any(mark.search(p.read_text()) for p in TESTS.rglob("test_*.py"))


def test_a_feature_that_nobody_knows_is_refused(request: pytest.FixtureRequest) -> None:
    request.node.add_marker(pytest.mark.needs_kernel("nettem"))
    with pytest.raises(pytest.UsageError, match=r"needs_kernel\(nettem\); known are: netem, "):
        needs(request.node)


def test_modules_follow_what_they_need(tmp_path) -> None:
    depends = {"net/ip_gre.ko": "gre,ip-tunnel", "lib/gre.ko": "", "net/ip_tunnel.ko": "gre", "net/other.ko": "ip_gre"}
    for name, needed in depends.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"\x7fELF..\0license=GPL\0depends=" + needed.encode() + b"\0retpoline=Y\0")
    assert [p.name for p in in_order(tmp_path, ["ip_gre", "built_in", "gre"])] == [
        "gre.ko",
        "ip_tunnel.ko",
        "ip_gre.ko",
    ]
