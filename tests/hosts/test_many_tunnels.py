"""Two thousand links between two test hosts, each a tunnel of the kernel's: all are there, and stay as they are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from own_place import eventually
from two_hosts import UNDERLAYS, Pair, pair_over

from vini.model import End, Link, Sliver, Topology
from vini.node import vxlan

# Alone: each of thousands of devices waits for all that others ask of the kernel (9 s here, 380 s among other tests).
pytestmark = [pytest.mark.alone, pytest.mark.root, pytest.mark.needs("cgroup2", "vxlan", "ping")]
PAIRS, EACH = 20, 100


@pytest.fixture
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with pair_over("IPv4", tmp_path_factory) as made:
        yield made


def many() -> tuple[Topology, dict[str, str]]:
    """Between each two slivers, one on each host, as many links as some have with a whole site."""
    placed = {f"{side}{i}": host for i in range(PAIRS) for side, host in (("a", "one"), ("b", "two"))}
    links = tuple(
        Link((End(f"a{i}", f"v{k}"), End(f"b{i}", f"v{k}")), name=f"k{i}-{k}")
        for i in range(PAIRS)
        for k in range(EACH)
    )
    return Topology("v", {name: Sliver(name) for name in placed}, links), placed


def test_they_carry_each_its_own_and_follow_a_node_that_moves(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    topology, placed = many()
    pair.up(topology, placed)
    assert len({o.vni for o in pair.hosts["one"].tunnels()}) == PAIRS * EACH
    before = pair.hosts["one"].inside("ip", "-br", "link", ns="v.a0")
    assert before.count("v") >= EACH
    crosses(pair)

    asked: list[None] = []
    dump = vxlan.dump_entries
    monkeypatch.setattr(vxlan, "dump_entries", lambda: asked.append(None) or dump())
    two = pair.hosts["two"]
    moved = UNDERLAYS["IPv4"][1] + "2"
    two.inside("ip", "address", "add", f"{moved}/24", "dev", "eth0")
    two.node = replace(two.node, address=moved)
    pair.up(topology, placed, generation=2)
    assert {o.remote for o in pair.hosts["one"].tunnels()} == {moved}
    assert pair.hosts["one"].inside("ip", "-br", "link", ns="v.a0") == before, "they are changed in place"
    assert 0 < len(asked) < PAIRS * EACH, "it asks for all entries of a sliver again for each of its tunnels"
    crosses(pair)


def crosses(pair: Pair) -> None:
    """By the first link of the first pair and the last of the last: the addresses at their other ends answer."""
    for i, k in ((0, 0), (PAIRS - 1, EACH - 1)):
        address = pair.enter(f"b{i}", "ip", "-4", "-o", "address", "show", "dev", f"v{k}").split()[3].partition("/")[0]
        eventually(
            lambda i=i, k=k, a=address: ", 1 received" in pair.enter(f"a{i}", "ping", "-c1", "-W2", "-I", f"v{k}", a)
        )
