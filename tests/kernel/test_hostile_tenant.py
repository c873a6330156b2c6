"""A tenant who wants out, or wants more: what he tries inside his container, and what stops him."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from own_place import OwnPlace, eventually, place_below

from vini.cli import execute
from vini.model import Process
from vini.node import cgroup
from vini.node.container import disks, limits, slices
from vini.topology import parse

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "containers", "disks")]
FILE = """
name: two
defaults: {sliver: {runtime: container}}
slivers:
  hostile:
    resources: {memory: 64MB, pids: 64, cores: 0.5, disk: 48MB, inodes: 2000}
    files: {/etc/given/own: "first"}
    commands:
      - run: "while :; do if [ -e /tmp/flood ]; then timeout 1 yes flood; else sleep 0.1; fi; done"
        service: true
  victim: {resources: {reserve: 0.2, disk: 16MB}, commands: [{run: "sleep 100000", service: true}]}
links: [hostile -- victim]
"""
HOSTILE, VICTIM = "two.hostile", "two.victim"
CALL = """
import ctypes, os
n = ctypes.CDLL(None, use_errno=True).syscall({})
print(os.strerror(ctypes.get_errno()) if n < 0 else n)
"""


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPlace]:
    with place_below(tmp_path_factory.mktemp("own")) as own:
        asyncio.run(own.client().up(parse(FILE)))
        yield own


def inside(own: OwnPlace, command: str, sliver: str = "hostile") -> str:
    """What it says, both channels."""
    argv = own.client().enter("two", sliver, ["sh", "-c", command])
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    return done.stdout.decode(errors="replace")


def python(own: OwnPlace, text: str) -> str:
    return inside(own, f"/usr/bin/python3 -c '{text}'")


def neighbour_answers(own: OwnPlace) -> bool:
    return "1 received" in inside(own, "ping -c 1 -W 5 hostile", "victim")


# --- what his neighbour has reserved ------------------------------------------------------------------------


@pytest.mark.skipif(not slices.can_be_short(), reason="this kernel (before Linux 6.12) lets no thread choose its slice")
def test_who_has_a_reservation_has_short_time_slices_and_gets_them_back(there):
    groups = {ns: cgroup.of(there.place, ns) for ns in (VICTIM, HOSTILE)}
    told = {ns: {slices.of(t) == slices.SHORT_NS for t in slices.threads(group)} for ns, group in groups.items()}
    assert told == {VICTIM: {True}, HOSTILE: {False}}
    seen = "sleep 3 & sleep 0.5; echo up; wait"
    argv = there.client().enter("two", "victim", ["sh", "-c", seen])
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert b"up\n" in iter(run.stdout.readline, b"")  # also where the kernel has complained of something before
        assert {slices.of(t) for t in slices.threads(groups[VICTIM])} == {slices.SHORT_NS}, "what is run there, too"
    slices.ensure(groups[VICTIM], short=False)
    eventually(lambda: {slices.of(t) for t in slices.threads(groups[VICTIM])} == {slices.SHORT_NS})


# --- what stops him: seccomp ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("mount -t tmpfs x /mnt", "permission denied|Operation not permitted"),
        ("mount -o remount,rw,bind /usr", "permission denied|Operation not permitted"),
        ("umount /proc", "Operation not permitted|must be superuser|Invalid"),
        ("unshare --user true", "not permitted|not implemented"),
        ("unshare --net true", "not permitted|not implemented"),
        ("nsenter --target 1 --net true", "not permitted"),
        ("dmesg", "not permitted|not implemented"),
        ("swapoff -a -v; swapon /etc/passwd", "not permitted|denied|failed"),
    ],
)
def test_programs_that_need_the_forbidden_are_refused(there, what, said):
    output = inside(there, f"{what} && echo DONE")
    assert "DONE" not in output
    assert any(words in output for words in said.split("|")), output


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("321,0,0,0", "Operation not permitted"),  # bpf
        ('248,b"user",b"k",b"x",1,-3', "Operation not permitted"),  # add_key
        ("250,0,-3,1", "Operation not permitted"),  # keyctl
        ("298,0,0,-1,-1,0", "Operation not permitted"),  # perf_event_open
        ("425,1,0", "Operation not permitted"),  # io_uring_setup
        ("435,0,0", "Function not implemented"),  # clone3, whose flags can't be looked at
        ("56,0x10000000,0,0,0,0", "Function not implemented"),  # clone with CLONE_NEWUSER
        ("304,0,0,0", "Operation not permitted"),  # open_by_handle_at
        ("41,40,1,0", "Function not implemented"),  # socket of AF_VSOCK
        ("41,38,5,0", "Function not implemented"),  # and of AF_ALG
        ('16,0,0x5412,b"x"', "Function not implemented"),  # ioctl TIOCSTI
        ('16,0,ctypes.c_ulong(0x100005412),b"x"', "Function not implemented"),  # the kernel looks at half of it
        ('175,0,0,b""', "Operation not permitted"),  # init_module
        ("314,0,0,0", "Operation not permitted"),  # sched_setattr, by which slices get short
        ("162", "Operation not permitted"),  # sync, of all that others have written
        ("306,1", "Operation not permitted"),  # and syncfs
        ("1000", "Function not implemented"),  # what no kernel has yet
    ],
)
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of x86-64")
def test_system_calls_that_are_not_on_the_list_are_refused(there, call, said):
    assert python(there, CALL.format(call)).strip() == said


# --- what stops him: namespaces, masks, and owning nothing ---------------------------------------------------


def test_root_inside_is_nobody_outside(there):
    assert inside(there, "id -u").strip() == "0"
    pids = cgroup.pids(cgroup.of(there.place, HOSTILE, "container"))
    assert pids
    for pid in pids:
        assert Path(f"/proc/{pid}").stat().st_uid >= 0x80000


def test_he_sees_no_process_and_no_file_of_the_node_or_of_a_neighbour(there, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("s")
    assert "No such file" in inside(there, f"cat {secret}; cat {there.place.run}/agent.socket")
    assert "sleep 100000" not in inside(there, "ps axww")
    assert inside(there, "ls /home /root /mnt /opt").count("\n") <= 8  # their names, and nothing in them


@pytest.mark.parametrize(
    "what",
    [
        "echo b > /proc/sysrq-trigger",
        "echo 1 > /proc/sys/kernel/panic",
        "echo x > /proc/sys/kernel/core_pattern",
        "echo 1 > /sys/class/net/lo/mtu",
        "cat /proc/kcore | head -c 1 | grep -q .",
        "grep -q . /proc/kallsyms",
        "find /proc/fs /proc/bus /proc/irq /proc/pressure -mindepth 1 | grep -q .",
        "grep -q . /proc/buddyinfo || grep -q . /proc/zoneinfo || grep -q . /proc/iomem",
        "find /sys/devices -mindepth 2 -not -path '/sys/devices/virtual*' | grep -q .",
        "find /sys/devices/virtual -mindepth 2 -not -path '/sys/devices/virtual/net/*' | grep -q .",
        "ls /sys/kernel/security | grep -q . && false",
        "touch /usr/x",
        "mknod /tmp/disk b 254 0",
        "mknod /dev/mem c 1 1",
        "cat /etc/ssh/ssh_host_ed25519_key",
        "kill -9 1 2>/dev/null && kill -0 1 && false",
        "chown 70000 /tmp",
        "echo 0 > /proc/1/oom_score_adj; echo -1000 > /proc/self/oom_score_adj",
    ],
)
def test_he_writes_and_reads_nothing_of_the_kernels(there, what):
    assert "DONE" not in inside(there, f"{{ {what}; }} && echo DONE")


def test_he_can_not_trace_or_enter_what_is_outside(there):
    outside = max(os.getpid(), 1000)  # no more than some dozens have been inside
    assert "No such process" in inside(there, f"kill -0 {outside}")
    assert python(there, CALL.format(f"101,16,{outside},0,0")).strip() == "No such process"  # ptrace, PTRACE_ATTACH
    assert python(there, CALL.format('308,os.open("/proc/1/ns/net",0),0')).strip() == "Operation not permitted"  # setns


def test_his_raw_sockets_reach_his_own_network_only(there):
    text = "import socket as s; s.socket(s.AF_PACKET, s.SOCK_RAW, 3); print(*(n for _, n in s.if_nameindex()))"
    names = set(python(there, text).split())
    assert "to-victim" in names
    assert not names & ({p.name for p in Path("/sys/class/net").iterdir()} - {"lo"})


def test_a_link_that_he_lays_in_the_agents_way_is_not_followed(there, tmp_path):
    """The agent writes the slice's files below what is his root."""
    target = tmp_path / "target"
    target.mkdir()
    inside(there, f"rm -rf /etc/given && ln -s {target} /etc/given")
    own = there.place.sliver(HOSTILE) / "root/etc/given/own"
    eventually(lambda: not own.parent.is_symlink() and own.read_text() == "first")
    assert not list(target.iterdir())


def test_a_file_of_the_slice_that_he_makes_endless_is_not_read_whole(there):
    """It takes no room, and would fill the agent's memory, who compares it with what is asked."""
    inside(there, "truncate -s 1T /etc/given/own")
    own = there.place.sliver(HOSTILE) / "root/etc/given/own"
    eventually(lambda: own.stat().st_size == 5 and own.read_text() == "first")
    eventually(lambda: there.is_as_asked("two"))


# --- what stops him: limits ---------------------------------------------------------------------------------


FORKS = """
import os, time
try:
    for n in range(1000):
        if os.fork() == 0:
            time.sleep(5)
            os._exit(0)
except OSError as e:
    print(n, e.strerror)
"""


def test_a_fork_bomb_goes_off_in_his_sliver_only(there):
    number, _, why = python(there, FORKS).strip().partition(" ")
    assert int(number) < 64
    assert why == "Resource temporarily unavailable"
    assert neighbour_answers(there)


def test_a_memory_bomb_goes_off_in_his_sliver_only(there):
    before = cgroup.pids(cgroup.of(there.place, VICTIM, "container"))
    bomb = "/usr/bin/python3 -c 'x = bytearray(300_000_000)'; [ $? = 137 ] && echo Killed"
    eventually(lambda: "Killed" in inside(there, bomb))  # first the fork bomb's sparks go out
    assert cgroup.pids(cgroup.of(there.place, VICTIM, "container")) == before
    assert neighbour_answers(there)
    eventually(lambda: inside(there, "echo lives").strip() == "lives")


SOCKETS = """
import socket
there, held = [], 0
for _ in range(1000):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", 0))
    s.setblocking(False)
    there.append(s)
    for _ in range(6):
        try:
            s.sendto(bytes(30000), s.getsockname())
        except OSError:
            pass
for s in there:
    try:
        while True:
            held += len(s.recv(65536))
    except OSError:
        pass
print(held)
"""


def test_what_his_sockets_hold_is_bounded_as_his_memory_is(there):
    held = int(python(there, SOCKETS))
    assert 1_000_000 < held < 64_000_000, "of 180 MB that he sent to himself"
    assert neighbour_answers(there)


RINGS = """
import array, ctypes, os, socket, struct, time

def ring(blocks):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    s.setsockopt(263, 5, struct.pack("IIII", 1 << 16, blocks, 2048, blocks * 32))
    return s

how = "{how}"
s = ring({blocks})
if how == "sent":  # where nobody has it open: it is on its way to him, and he does not take it
    one, two = socket.socketpair()
    one.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [s.fileno()]))])
    s.close()
if how == "mapped":  # nor here, and others have a little one open, time and again
    mmap = ctypes.CDLL(None).mmap
    mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    mmap.restype = ctypes.c_void_p
    if mmap(None, {blocks} << 16, 3, 1, s.fileno(), 0) % 4096:
        raise SystemExit("not mapped")
    s.close()
    if os.fork() == 0:
        os.closerange(0, 3)
        while os.fork():
            os.wait()
        s = ring(1)
        time.sleep({seconds})
        os._exit(0)
print("HELD", flush=True)
time.sleep({seconds})
print("STILL")
"""


@pytest.mark.parametrize("how", ["open", "sent", "mapped"])
def test_a_sliver_that_holds_more_by_rings_of_packet_sockets_than_its_memory_is_ended(there, how):
    """The kernel counts them for no group.  The sliver starts again, in the network that it had."""
    boot, network = there.place.sliver(HOSTILE) / "boot.log", there.place.pin(HOSTILE).stat().st_ino
    told = "all processes were ended: rings of packet sockets held 104 MB, and it may have 64 MB of memory"
    before = boot.read_text().count(told)

    def held() -> str:  # the agent may look before it is said
        said = python(there, RINGS.format(blocks=1600, how=how, seconds=50))
        return said if "HELD" in said else ""

    assert "STILL" not in eventually(held)
    eventually(lambda: boot.read_text().count(told) > before)
    eventually(lambda: inside(there, "echo lives").strip() == "lives")
    eventually(lambda: neighbour_answers(there))
    assert there.place.pin(HOSTILE).stat().st_ino == network


def test_rings_that_tcpdump_needs_are_left_alone(there):
    """Twice its 2 MiB, for longer than the agent's next look."""
    assert python(there, RINGS.format(blocks=64, how="open", seconds=2.5)).split() == ["HELD", "STILL"]


TUN = """
import fcntl, os, socket, struct, subprocess, time
tun = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"long", 0x1001))
def length():
    return int(open("/sys/class/net/long/tx_queue_len").read())
subprocess.run("ip link set long txqueuelen {length} up; ip addr add 198.51.100.1/24 dev long", shell=True)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range({packets}):
    s.sendto(bytes(1400), ("198.51.100.2", 9))
until = time.monotonic() + {seconds}
while length() == {length} and time.monotonic() < until:
    time.sleep(0.1)
os.set_blocking(tun, False)
waited = 0
try:
    while os.read(tun, 2000):
        waited += 1
except BlockingIOError:
    pass
print(length(), waited)
"""


def test_queues_of_tun_devices_are_made_as_short_as_his_memory_is(there):
    """What waits in one is told by nobody; 60,000 of these packets take 138 MB."""
    length, waited = map(int, python(there, TUN.format(length=100000, packets=60000, seconds=50)).split())
    assert 0 < length < 1000
    assert waited <= length
    boot = there.place.sliver(HOSTILE) / "boot.log"
    assert "they had room for 100000 packets" in boot.read_text()
    assert neighbour_answers(there)


def test_a_queue_that_openvpn_needs_is_left_alone(there):
    assert python(there, TUN.format(length=500, packets=600, seconds=3)).split() == ["500", "500"]


QDISC = """
import socket, subprocess, time
subprocess.run("for i in q d; do ip link add ${i}0 type veth peer name ${i}1; done; ip link add br0 type bridge;"
    "for i in q1 d0; do ip link set $i master br0; done; for i in q0 q1 br0 d0 d1; do ip link set $i up; done;"
    "tc qdisc add dev d0 root tbf rate 8bit burst 2000 limit 2000000000", shell=True)
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("q0", 0))
for _ in range(60000):
    try:
        s.send(bytes.fromhex("ffffffffffff02deadbeef0188b5") + bytes(1400))
    except OSError:
        pass
print("HELD", flush=True)
time.sleep(50)
print("STILL")
"""
NEIGHBOURS = """
import subprocess, time
subprocess.run("ip link add n0 type veth peer name n1; ip link set n0 up; ip link set n1 up;"
    "ip ntable change name arp_cache dev n0 queue 100000", shell=True)
print("HELD", flush=True)
time.sleep(50)
print("STILL")
"""
TABLE = """
import subprocess, time
subprocess.run("ip link add n0 type veth peer name n1", shell=True)
for high in range(40):  # of one process of ip(8) more would take too much of his own memory
    lines = (f"neigh add 10.{high}.{n >> 8}.{n & 255} lladdr 02:00:00:00:00:01 dev n0" for n in range(4000))
    subprocess.run(["ip", "-batch", "-"], input="\\n".join(lines), text=True)
print("HELD", flush=True)
time.sleep(50)
print("STILL")
"""
NETLINK = """
import socket, time
to = [socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 2) for _ in range(500)]
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 2)
s.setblocking(False)
for one in to:
    one.bind((0, 0))
    try:
        while True:
            s.sendto(bytes(200000), (one.getsockname()[0], 0))
    except OSError:
        pass
print("HELD", flush=True)
time.sleep(50)
print("STILL")
"""
_NONE = "".join(f'Device "{dev}" does not exist.\n' for dev in ("d0", "n0"))
FANOUT = """
import socket, struct, time
there = [socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3) for _ in range(150)]
for number, s in enumerate(there):
    s.bind(("lo", 0))
    s.setsockopt(263, 18, struct.pack("=HHI", number, 0, 65536))
print("HELD", flush=True)
time.sleep(50)
print("STILL")
"""
RAW = """
import socket, time
to = [socket.socket(socket.AF_INET, socket.SOCK_RAW, 253) for _ in range(500)]
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 253)
for _ in range(4):
    s.sendto(bytes(60000), ("127.0.0.1", 0))
print("HELD", flush=True)
time.sleep(50)
print("STILL")
"""


@pytest.mark.parametrize(
    ("attack", "told"),
    [
        (QDISC, "queues of interfaces held"),
        (NEIGHBOURS, "queues for neighbours had room for"),
        (TABLE, "tables of neighbours took"),
        (FANOUT, "rings of packet sockets held"),
        (NETLINK, "packets that waited in sockets of netlink held"),
        (RAW, "packets that waited in sockets held"),
    ],
    ids=["qdisc", "neighbours", "table", "fanout", "netlink", "raw"],
)
def test_a_sliver_that_holds_more_by_packets_that_wait_than_its_memory_is_ended(there, attack, told):
    """Nor are these anybody's.  What outlives its processes, the queue of an interface, goes with them."""
    boot = there.place.sliver(HOSTILE) / "boot.log"
    before = boot.read_text().count(told)
    eventually(lambda: inside(there, "echo lives").strip() == "lives")
    assert "STILL" not in python(there, attack)
    eventually(lambda: boot.read_text().count(told) > before)
    eventually(lambda: inside(there, "echo lives; ip -br link show d0; ip -br link show n0") == "lives\n" + _NONE)
    eventually(lambda: neighbour_answers(there))
    eventually(lambda: there.is_as_asked("two"))


def test_a_disk_filler_fills_his_own_disk_and_takes_no_room_that_was_not_set_apart(there):
    images = [disks.image(there.place, ns) for ns in (HOSTILE, VICTIM)]
    before = [image.stat().st_blocks for image in images]
    assert [512 * n >= 10**6 * mb for n, mb in zip(before, (47.9, 15.9), strict=True)] == [True, True]
    assert "No space left on device" in inside(there, "cat /dev/zero > /root/full; sync /root/full")
    assert inside(there, "echo x > /root/x && cat /root/x", "victim") == "x\n"
    assert [image.stat().st_blocks for image in images] == before
    assert "No space left" in inside(there, "head -c 5000000 /dev/zero > /var/lib/x")
    assert there.is_as_asked("two"), "the node keeps its own records of him"
    assert "GONE" in inside(
        there, "rm /root/full /var/lib/x; head -c 1000000 /dev/zero > /root/y && rm /root/y; echo GONE"
    )
    assert neighbour_answers(there)


def test_an_inode_filler_takes_his_own_files_only(there):
    fill = "cd /root; i=0; while true > f$i; do i=$((i+1)); done; echo; echo made $i; rm -f f*"
    said = inside(there, fill)
    assert "No space left on device" in said
    assert 1000 < int(said.rpartition("made ")[2]) < 2000
    assert inside(there, "echo x > /root/x && cat /root/x", "victim") == "x\n"


def test_a_log_flood_is_cut_and_what_it_needs_is_of_his_own_disk(there):
    """Of what his service prints the node keeps the end."""
    (log,) = there.place.sliver(HOSTILE).glob("cmd-*.log")
    try:
        inside(there, "touch /tmp/flood")
        eventually(lambda: log.with_suffix(".log.1").exists() and log.with_suffix(".log.1").stat().st_size > 0)
        assert log.with_suffix(".log.1").stat().st_size <= 1 << 20
        assert log.stat().st_dev == there.place.sliver(HOSTILE).stat().st_dev != there.place.run.stat().st_dev
        assert neighbour_answers(there)
    finally:
        inside(there, "rm -f /tmp/flood")
    eventually(lambda: log.stat().st_size < 1 << 21)
    eventually(lambda: there.is_as_asked("two"))


def test_a_log_that_he_makes_endless_is_not_read_whole(there):
    """He has its descriptor, and may make it as long as he likes without writing anything."""
    (log,) = there.place.sliver(HOSTILE).glob("cmd-*.log")
    os.truncate(log, 1 << 40)
    eventually(lambda: log.stat().st_size < 1 << 21)
    assert log.with_suffix(".log.1").stat().st_size <= 1 << 20


def test_what_a_command_prints_without_end_is_cut(there):
    topology = parse(FILE)
    (said,) = asyncio.run(
        execute.everywhere(there.client(), topology, ["hostile"], ["sh", "-c", "head -c 200000000 /dev/zero"])
    )
    assert (said.said.code, said.said.cut, len(said.said.stdout)) == (0, True, 1 << 20)


CONNECTIONS = """
import socket
for n in range(20000):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.sendto(b"x", (f"127.0.{n % 200}.1", 1 + n // 200))
    s.close()
print("DONE")
"""


@pytest.mark.skipif(not shutil.which("nft"), reason="needs the package nftables")
def test_connections_that_he_has_the_kernel_track_are_counted_in_his_own_network(there):
    rules = (
        "add table ip t; add chain ip t o { type filter hook output priority 0; }; add rule ip t o ct state new counter"
    )
    assert not inside(there, f"nft '{rules}'")
    assert python(there, CONNECTIONS).strip() == "DONE"
    count = "cat /proc/sys/net/netfilter/nf_conntrack_count"
    assert int(inside(there, count)) > 10000
    assert int(inside(there, count, "victim")) < 100
    assert "DONE" not in inside(there, "echo 1000000000 > /proc/sys/net/netfilter/nf_conntrack_max && echo DONE")
    assert neighbour_answers(there)


# --- and what he may do all the same -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "what",
    [
        "ip link add d0 type dummy || ip tuntap add t0 mode tap; ip -br link | grep -q '[dt]0'",
        "ip addr add 203.0.113.1/32 dev lo",
        "ping -i 0.2 -w 50 127.0.0.1 >/dev/null & timeout 45 tcpdump -c 1 -i lo 2>/dev/null | grep -q ICMP && kill $!",
        "echo x > /root/x && grep -q x /root/x",
        "python3 -c 'import os; os.chown(\"/root\", 100, 100)'",
        "su -s /bin/sh nobody -c true || setpriv --reuid 100 true",
    ],
)
def test_root_is_root_inside(there, what):
    assert inside(there, f"{{ {what}; }} && echo DONE").strip().endswith("DONE")


@pytest.mark.skipif(not shutil.which("nft"), reason="needs the package nftables")
def test_he_has_nftables_of_his_own(there):
    assert "table ip x" in inside(there, "nft add table ip x && nft list tables")


# --- lives, and ends -----------------------------------------------------------------------------------------


def test_a_container_that_is_killed_starts_again_with_its_links_files_and_processes(there):
    inside(there, "echo mine > /root/kept", "victim")
    old = cgroup.pids(cgroup.of(there.place, VICTIM, "container"))
    network = there.place.pin(VICTIM).stat().st_ino
    assert old
    for pid in old:
        with suppress(ProcessLookupError):  # its first process took the others along
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: (new := cgroup.pids(cgroup.of(there.place, VICTIM, "container"))) and not set(new) & set(old))
    eventually(lambda: neighbour_answers(there))
    assert there.place.pin(VICTIM).stat().st_ino == network
    assert inside(there, "cat /root/kept", "victim") == "mine\n"
    eventually(lambda: "sleep 100000" in inside(there, "ps axww", "victim"))
    eventually(lambda: there.is_as_asked("two"))


def test_an_agent_that_is_killed_leaves_containers_running(there):
    eventually(lambda: there.is_as_asked("two"))
    groups = [cgroup.of(there.place, ns, "container") for ns in (HOSTILE, VICTIM)]
    before = [cgroup.pids(g) for g in groups]
    there.kill_agent()
    assert all(before)
    assert [cgroup.pids(g) for g in groups] == before
    asyncio.run(there.client().up(parse(FILE)))
    assert [cgroup.pids(g) for g in groups] == before


def test_limits_that_somebody_lifts_are_set_again(there):
    file, text = next((f, t) for f, t in limits.files(there.place, _container(there)) if f.name == "pids.max")
    file.write_text("max")
    eventually(lambda: file.read_text().strip() == text)


def _container(own: OwnPlace):
    return next(o for o in own.spec("two").objects if o.key == ("container", HOSTILE))


def test_all_that_runs_inside_is_asked_to(there):
    assert all(o.contained for o in there.spec("two").objects if isinstance(o, Process))
