"""Kernel features that tunnels between machines will stand on: each does what we will rely on.

Most kernels of small machines lack some: then user-mode Linux or QEMU runs the test (tests/kernel_machine.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest
from own_place import eventually, run

pytestmark = pytest.mark.root
ETHERNET, IPV4, ICMP, GRE, GRE_KEY, WIREGUARD = 14, 20, 8, 4, 4, 60  # bytes of headers
OUTER_MTU = 1500
Shell = Callable[[str, str], str]


@pytest.fixture
def sh() -> Iterator[Shell]:
    """`sh(namespace, commands)`: their output; the namespace is made at its first use."""
    made: list[str] = []

    def inside(name: str, commands: str) -> str:
        full = f"tk{os.getpid()}.{name}"
        if full not in made:
            run("ip", "netns", "add", full)
            made.append(full)
            run("ip", "-n", full, "link", "set", "lo", "up")
        return run("ip", "netns", "exec", full, "sh", "-ec", commands)

    yield inside
    for full in made:
        run("ip", "netns", "del", full)


def joined(sh: Shell, a: str, b: str, vif_a: str, vif_b: str) -> None:
    """A veth pair between two namespaces."""
    sh(b, "true")
    sh(a, f"ip link add {vif_a} type veth peer name {vif_b} netns tk{os.getpid()}.{b}; ip link set {vif_a} up")
    sh(b, f"ip link set {vif_b} up")


def underlay(sh: Shell) -> None:
    joined(sh, "a", "b", "to-b", "to-a")
    sh("a", "ip addr add 192.0.2.1/30 dev to-b")
    sh("b", "ip addr add 192.0.2.2/30 dev to-a")


def answers(sh: Shell, name: str, target: str, size: int = 56, *options: str) -> bool:
    """Whether a ping that may not be fragmented is answered."""
    try:
        sh(name, f"ping -n -c 1 -W 2 -M do -s {size} {' '.join(options)} {target}")
    except AssertionError as e:
        assert any(sign in str(e) for sign in ("0 received", "too long", "unreachable")), e
        return False
    return True


def public_key(private: str) -> str:
    return subprocess.run(["wg", "pubkey"], input=private, capture_output=True, text=True, check=True).stdout.strip()


def mtu(sh: Shell, name: str, dev: str) -> int:
    return int(sh(name, f"cat /sys/class/net/{dev}/mtu"))


@pytest.mark.needs_kernel("gretap")
def test_a_gretap_tunnel_carries_frames_up_to_its_mtu(sh: Shell) -> None:
    underlay(sh)
    for name, local, remote in (("a", 1, 2), ("b", 2, 1)):
        sh(
            name,
            f"ip link add tap type gretap local 192.0.2.{local} remote 192.0.2.{remote} key 7;"
            f"ip addr add 10.0.0.{local}/24 dev tap; ip link set tap up",
        )
    room = OUTER_MTU - IPV4 - GRE - GRE_KEY - ETHERNET
    assert room == mtu(sh, "a", "tap") == mtu(sh, "b", "tap") == 1458
    eventually(lambda: answers(sh, "a", "10.0.0.2", room - IPV4 - ICMP))
    assert not answers(sh, "a", "10.0.0.2", room - IPV4 - ICMP + 1)


@pytest.mark.needs_kernel("gretap")
def test_gretap_tunnels_between_the_same_two_are_told_apart_by_their_keys(sh: Shell) -> None:
    underlay(sh)
    for key in (1, 2):
        for name, local, remote in (("a", 1, 2), ("b", 2, 1)):
            sh(
                name,
                f"ip link add tap{key} type gretap local 192.0.2.{local} remote 192.0.2.{remote} key {key};"
                f"ip addr add 10.0.{key}.{local}/24 dev tap{key}; ip link set tap{key} up",
            )
    eventually(lambda: answers(sh, "a", "10.0.1.2") and answers(sh, "a", "10.0.2.2"))
    sh("b", "ip link set tap1 down")
    assert not answers(sh, "a", "10.0.1.2")
    assert answers(sh, "a", "10.0.2.2")


@pytest.mark.needs_kernel("vrf")
def test_vrfs_route_the_same_addresses_apart(sh: Shell) -> None:
    """Two networks of the same addresses through one router; an address that only one has is in only one."""
    for table, vrf in ((10, "red"), (20, "blue")):
        sh("r", f"ip link add {vrf} type vrf table {table}; ip link set {vrf} up")
        sh("r", f"ip route add unreachable default metric 4278198272 vrf {vrf}")
        for n in (1, 2):
            host = f"{vrf}{n}"
            joined(sh, "r", host, host, "router")
            sh("r", f"ip link set {host} vrf {vrf}; ip addr add 10.0.{n}.1/24 dev {host}")
            sh(host, f"ip addr add 10.0.{n}.2/24 dev router; ip route add default via 10.0.{n}.1")
    sh("r", "echo 1 >/proc/sys/net/ipv4/ip_forward; ip route add 10.9.0.1/32 via 10.0.2.2 vrf red")
    sh("red2", "ip addr add 10.9.0.1/32 dev lo")
    for host in ("red1", "blue1"):
        eventually(lambda host=host: answers(sh, host, "10.0.2.2"))
    assert answers(sh, "red1", "10.9.0.1")
    assert not answers(sh, "blue1", "10.9.0.1")


@pytest.mark.needs_kernel("wireguard")
@pytest.mark.skipif(shutil.which("wg") is None, reason="needs wg (`apt-get install wireguard-tools`)")
def test_a_wireguard_tunnel_carries_packets_of_those_who_have_the_keys(sh: Shell) -> None:
    underlay(sh)
    private = {name: run("wg", "genkey").strip() for name in "abx"}
    public = {name: public_key(key) for name, key in private.items()}
    for name, peer, local, remote in (("a", "b", 1, 2), ("b", "a", 2, 1)):
        sh(
            name,
            f"ip link add wg type wireguard; echo {private[name]} | wg set wg listen-port 51820 private-key /dev/stdin"
            f" peer {public[peer]} allowed-ips 10.0.0.{remote}/32 endpoint 192.0.2.{remote}:51820;"
            f"ip addr add 10.0.0.{local}/24 dev wg; ip link set wg up",
        )
    eventually(lambda: answers(sh, "a", "10.0.0.2", mtu(sh, "a", "wg") - IPV4 - ICMP))
    assert mtu(sh, "a", "wg") <= OUTER_MTU - WIREGUARD
    sh("a", f"echo {private['x']} | wg set wg private-key /dev/stdin")
    assert not answers(sh, "a", "10.0.0.2")


@pytest.mark.needs_kernel("nft_inet")
def test_one_nft_table_is_for_ipv4_and_ipv6(sh: Shell) -> None:
    both = ("127.0.0.1", "::1")
    assert all(answers(sh, "a", address) for address in both)
    sh(
        "a",
        "nft 'table inet t { chain c { type filter hook input priority 0;"
        " icmp type echo-request counter drop; icmpv6 type echo-request counter drop; }; }'",
    )
    assert not any(answers(sh, "a", address) for address in both)
    assert sh("a", "nft list table inet t").count("packets 1 ") == len(both)
