"""The contract of drivers for shares of the uplink: of the machine in a dict, and of one that a namespace plays."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from errno import ENOMEM

import pytest
from killed import Crash, dying_after
from msgspec.structs import replace
from own_place import eventually, run
from world import World, holding

from vini.model import AnyObject, Interface, Netns, Share, Sysctl
from vini.node.drivers.share import ShareDriver
from vini.node.outside import rules
from vini.node.shares.detour import Detours
from vini.plan import plan

A, B = "t.a", "t.b"
THERE, THERE_V6 = "192.0.2.2", "2001:db8::2"
FORWARDING = (("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1"))
OF_A = Share(A, 5000, 100_000, 20, 10_000, ((0, 9), (4789, 7)))
OF_B = Share(B, tunnels=((4789, 8),), outside=True)
WHOLE: frozenset[AnyObject] = frozenset(
    {*(o for ns in (A, B) for o in (Netns(ns), Sysctl(ns, FORWARDING), Interface(ns, "lo", ("netns", ns), mtu=65536)))}
) | {OF_A, OF_B}
CHANGES = [
    replace(OF_A, min_kbit=0),
    replace(OF_A, max_kbit=0),
    replace(OF_A, max_kbit=20_000_000, weight=1000, daily_mb=0),
    replace(OF_A, tunnels=()),
    replace(OF_B, outside=False, tunnels=((4789, 9), (4790, 9))),
]
REAL = pytest.param("real", marks=[pytest.mark.root, pytest.mark.needs("cgroup2", "shares")])


@pytest.fixture(params=["fake", REAL])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """With everything of WHOLE in it; the real one is in a namespace that plays the machine."""
    with ExitStack() as stack:
        own = request.getfixturevalue("own") if request.param == "real" else None
        if own:
            stack.enter_context(own.played_machine())
            run("ip", "address", "add", "192.0.2.1/24", "dev", "eth0")
            run("ip", "address", "add", "2001:db8::1/64", "dev", "eth0", "nodad")
            for there in (THERE, THERE_V6):
                run("ip", "neighbour", "add", there, "lladdr", "02:00:00:00:00:02", "dev", "eth0")
        with holding(own, {A, B}, WHOLE) as world:
            yield world
        if own:
            assert "vini" not in run("ip", "link") + run("tc", "filter", "show", "dev", "eth0", "egress")
            assert "clsact" not in run("tc", "qdisc", "show", "dev", "eth0")


def test_shares_keep_the_contract_of_drivers(world: World) -> None:
    assert world.see() == world.see_anew() == WHOLE
    assert world.ensure(OF_A, OF_B) == {}
    assert world.see() == WHOLE
    for new in CHANGES:
        old = next(o for o in (OF_A, OF_B) if o.key == new.key)
        assert world.one_pass(WHOLE - {old} | {new}) == {}
        assert world.see_anew() == WHOLE - {old} | {new}
        assert world.one_pass(WHOLE) == {}
        assert world.see_anew() == WHOLE
    for _ in range(2):  # what is gone already is no error
        assert world.remove(OF_A) == {}
        assert world.see() == WHOLE - {OF_A}
    assert world.one_pass(WHOLE) == {}
    assert world.see_anew() == WHOLE


@pytest.mark.parametrize("world", [REAL], indirect=True)
def test_whatever_step_is_the_agents_last_the_next_one_goes_on_from_there(world: World) -> None:
    """Its steps are what it tells the kernel: the n-th of them is never made."""
    without = WHOLE - {OF_A, OF_B}
    for want in (WHOLE - {OF_A} | {CHANGES[2]}, without, WHOLE, without | {OF_B}, WHOLE):
        for step in range(100):
            begin = WHOLE if want != WHOLE else without
            assert world.one_pass(begin) == {}
            over = False
            machine = world.own.machine()
            with dying_after(step), suppress(Crash):
                machine.apply(plan(want, machine.observe({A, B}).objects))
                over = True
            machine = world.own.machine()
            assert machine.apply(plan(want, machine.observe({A, B}).objects)) == {}
            assert world.see_anew() == want, step
            if over:
                break
        else:
            raise AssertionError("it never comes to an end")


@pytest.mark.parametrize("world", [REAL], indirect=True)
def test_a_detour_that_cant_be_made_is_only_its_own_slices(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    of_b = replace(OF_B, through="u._wireguard")

    def is_whole(_self: Detours, ns: str, *_: object) -> bool:
        return ns != of_b.through

    def refused(*_: object) -> None:
        raise OSError(ENOMEM, "no")

    driver = ShareDriver(world.own.place)
    with monkeypatch.context() as patch:
        patch.setattr(Detours, "is_whole", is_whole)
        patch.setattr(Detours, "make", refused)
        assert driver.ensure([OF_A, of_b]).keys() == {of_b.key}
        assert driver.learn().keys() == {of_b.through}
        assert driver.observe({A, B}) == {OF_A, replace(of_b, whole=False)}
    assert driver.observe({A, B}) == {OF_A, of_b}
    assert world.one_pass(WHOLE) == {}


# --- what is counted --------------------------------------------------------------------------


def send(vni: int, size: int, to: str = THERE, inner: bytes = b"", times: int = 1) -> None:
    """VXLAN packets from this machine, as its kernel sends them: in fragments where they are large."""
    header = b"\x08\0\0\0" + vni.to_bytes(3, "big") + b"\0"
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        if family == socket.AF_INET:
            s.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER, IP_PMTUDISC_DONT
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        for _ in range(times):
            s.sendto(header + (inner * size)[: size - 8].ljust(size - 8, b"\0"), (to, 4789))


def today(world: World) -> dict[str, int]:
    """Bytes of each sliver, as a new agent tells it."""
    assert world.own
    return {ns: load.today for ns, load in ShareDriver(world.own.place).loads().items()}


def left() -> int:
    """Bytes that left by eth0."""
    (row,) = json.loads(run("ip", "-s", "-j", "link", "show", "eth0"))
    return int(row["stats64"]["tx"]["bytes"])


@pytest.mark.parametrize("world", [REAL], indirect=True)
@pytest.mark.parametrize("to", [THERE, THERE_V6])
def test_every_fragment_of_a_packet_counts_and_none_for_another_sliver(world: World, to: str) -> None:
    """What is in a later fragment its sender chose: here what would be the header of a packet of b's."""
    send(7, 1000, to)
    eventually(lambda: 1000 <= today(world)[A] <= 1100, within=20)
    forged = b"\x12\xb5" * 2 + b"\0" * 4 + b"\x08\0\0\0" + (8).to_bytes(3, "big") + b"\0"
    for _ in range(10):
        for at in range(0, 16, 2):  # wherever a fragment begins
            send(7, 9000, to, forged[at:] + forged[:at])
    eventually(lambda: today(world)[A] >= 80 * 9000, within=20)
    assert today(world)[B] == 0


@pytest.mark.parametrize("world", [REAL], indirect=True)
def test_a_packet_that_is_nobodys_has_nobodys_fragments_though_its_number_was_anothers(world: World) -> None:
    """Of A's packet only the first fragment left; the node's own next one to the same place has the same number."""
    vxlan = struct.pack(">HHHH", 9, 4789, 2016, 0) + b"\x08\0\0\0" + (7).to_bytes(3, "big") + bytes(993)
    plain = struct.pack(">HHHH", 9, 9, 2016, 0) + bytes(1000)
    fragments(vxlan)
    eventually(lambda: today(world)[A] >= 1000, within=20)
    counted, before = today(world)[A], left()
    fragments(plain, *[bytes(1008)] * 20)
    eventually(lambda: left() > before + 20_000, within=20)
    assert today(world)[A] == counted


def fragments(*parts: bytes) -> None:
    """Of one packet from here, which the kernel takes as they are; the last ones begin at the same place."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
        for part in parts:
            where = 0x2000 if part is parts[0] else 1008 >> 3
            ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(part), 77, where, 64, 17, 0,
                             socket.inet_aton("192.0.2.1"), socket.inet_aton(THERE))  # fmt: skip
            s.sendto(ip + part, (THERE, 0))


@pytest.mark.parametrize("world", [REAL], indirect=True)
@pytest.mark.parametrize("version", [4, 6])
def test_what_the_node_forwards_counts_for_nobody_whose_number_it_has_inside(world: World, version: int) -> None:
    """A sliver without a Share, with a way to the world, sends what looks like another one's tunnel."""
    assert world.own
    dev = f"{rules.PREFIX}0"  # the name of any such way
    run("ip", "link", "add", dev, "address", "02:00:00:00:00:09", "type", "veth", "peer", "name", "in1")
    for end in (dev, "in1"):
        run("ip", "link", "set", end, "up")
    run("ip", "address", "add", "198.51.100.1/24", "dev", dev)
    run("ip", "address", "add", "2001:db8:1::1/64", "dev", dev, "nodad")
    for switch in ("ip_forward=1", f"conf.{dev}.rp_filter=0", "conf.all.rp_filter=0"):
        run("sysctl", "-qw", f"net.ipv4.{switch}")
    run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    ShareDriver(world.own.place).learn()  # as when one is made
    payload = b"\x08\0\0\0" + (7).to_bytes(3, "big") + bytes(1001)
    udp = struct.pack(">HHHH", 9, 4789, 8 + len(payload), 0) + payload
    before = left()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
        s.bind(("in1", 0))
        for _ in range(100):
            s.send(b"\x02\0\0\0\0\x09" + bytes(6) + (from_v4(udp) if version == 4 else from_v6(udp)))
    eventually(lambda: left() > before + 90_000, within=20)
    assert today(world)[A] == 0
    run("ip", "link", "delete", dev)


def from_v4(udp: bytes) -> bytes:
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0,
                     socket.inet_aton("198.51.100.5"), socket.inet_aton(THERE))  # fmt: skip
    check = sum(struct.unpack(">10H", ip))
    return b"\x08\0" + ip[:10] + struct.pack(">H", ~(check + (check >> 16)) & 0xFFFF) + ip[12:] + udp


def from_v6(udp: bytes) -> bytes:
    source, to = (socket.inet_pton(socket.AF_INET6, a) for a in ("2001:db8:1::5", THERE_V6))
    return b"\x86\xdd" + struct.pack(">IHBB", 6 << 28, len(udp), 17, 64) + source + to + udp


@pytest.mark.parametrize("world", [REAL], indirect=True)
def test_a_full_disk_keeps_nobody_from_looking_or_changing_and_forgets_nothing(world: World) -> None:
    assert world.own
    state = world.own.place.state
    send(7, 1000)
    eventually(lambda: today(world)[A] >= 1000, within=20)
    state.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "size=4k", "full", str(state))
    try:
        (state / "filler").write_bytes(bytes(4096))  # all of it
        assert world.see_anew() == WHOLE
        assert world.one_pass(WHOLE - {OF_A} | {CHANGES[0]}) == {}
        assert world.see_anew() == WHOLE - {OF_A} | {CHANGES[0]}
        send(7, 1000)
        eventually(lambda: today(world)[A] >= 2000, within=20)
        (why,) = world.remove(OF_B).values()  # what it sent would be forgotten
        assert "No space left" in why
    finally:
        run("umount", str(state))
    assert world.remove(OF_B) == {}
    assert today(world)[A] >= 2000


@pytest.mark.parametrize("world", [REAL], indirect=True)
def test_what_was_sent_is_counted_once_whatever_step_of_its_removal_is_the_agents_last(world: World) -> None:
    total = 0
    for step in range(20):
        send(7, 1000)
        total += 1000 + 14 + 20 + 8
        eventually(lambda so_far=total: today(world)[A] == so_far, within=20)
        over = False
        with dying_after(step), suppress(Crash):
            over = not world.own.machine().apply(plan(WHOLE - {OF_A}, WHOLE))
        assert world.one_pass(WHOLE) == {}
        assert today(world)[A] == total, step
        if over:
            return
    raise AssertionError("it never comes to an end")
