"""What this machine can do, found out by trying.  The words are those of `Node.capabilities`."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Collection
from importlib.util import find_spec
from pathlib import Path

from vini.model import OutsideGrant, Unsupported, Value
from vini.node import carrier, cgroup
from vini.node.container import crun, filesystems, io_weights, limits, mounts
from vini.node.outside import forwarding, rules
from vini.node.place import from_environment
from vini.node.service import has_systemd
from vini.node.shares import aside, classify


class Feature(Value, frozen=True):
    """One thing a machine may have, what needs it, and how to get it."""

    name: str
    serves: str
    remedy: str  # a command or a sentence
    as_root: bool = False  # it is found out by trying what only root may


FEATURES = (
    Feature("root", "making network namespaces", "run it as root: `sudo ./vini ...`"),
    Feature("cgroup2", "keeping track of processes", "boot with systemd.unified_cgroup_hierarchy=1"),
    Feature(
        "vxlan", "links to other nodes", "`modprobe vxlan` (package linux-modules-extra-$(uname -r))", as_root=True
    ),
    Feature("vxlan-xdp", "links to other nodes at XDP", "`apt-get install clang libbpf-dev libbpf1`", as_root=True),
    Feature("gretap", "links to other nodes by GRE", "`modprobe ip_gre; modprobe ip6_gre`", as_root=True),
    Feature("wireguard", "encrypted links to other nodes", "`modprobe wireguard`", as_root=True),
    Feature(
        "netem",
        "link emulation by the kernel",
        "`modprobe sch_netem` (package linux-modules-extra-$(uname -r))",
        as_root=True,
    ),
    Feature("element", "link emulation without netem", "`apt-get install gcc libc6-dev` (and /dev/net/tun)"),
    Feature("programs", "programs in slivers", "`apt-get install clang libbpf-dev libbpf1`"),
    Feature(
        "containers",
        "slivers with `runtime: container`",
        "`apt-get install crun` (or runc), on Linux 5.19 or newer; before 6.3 with VINI_RUN on a disk (ext4)",
        as_root=True,
    ),
    Feature("disks", "bounded disks of slivers", "`modprobe loop; apt-get install e2fsprogs`"),
    Feature(
        "memory-reserve",
        "memory that is a sliver's own",
        "boot with systemd.unified_cgroup_hierarchy=1 (version 1 has none)",
    ),
    Feature(
        "io-weight",
        "slivers' shares of a busy disk",
        "cgroups version 2, and `echo bfq > /sys/block/DISK/queue/scheduler`",
    ),
    Feature("shares", "rates of slivers (`network:`)", "`modprobe -a ifb sch_htb act_mirred cls_bpf`", as_root=True),
    Feature(
        "shares-wireguard",
        "rates of slivers over encrypted tunnels",
        "what `wireguard` and `shares` need, on Linux 5.10 or newer",
        as_root=True,
    ),
    Feature("outside", "slivers' way to the world", "`apt-get install nftables`, on Linux 5.16 or newer", as_root=True),
    Feature(
        "outside-ipv6",
        "slivers' way to the world by IPv6",
        "Linux 6.17 or newer; on an older one `net.ipv6.conf.all.forwarding=1` in a file in /etc/sysctl.d, after "
        "accept_ra=2 there of interfaces whose routes come from announcements; then `sysctl --system`",
        as_root=True,
    ),
    Feature("frr", "routing by FRR", "`apt-get install frr frr-pythontools`"),
    Feature("bird", "routing by BIRD", "`apt-get install bird2`"),
    Feature("iperf3", "throughput probes", "`apt-get install iperf3`"),
    Feature("tcpdump", "`vini capture` and capture probes", "`apt-get install tcpdump`"),
    Feature("traceroute", "path probes", "`apt-get install traceroute`"),
    Feature("ping", "round-trip probes", "`apt-get install iputils-ping`"),
    Feature("ssh", "logging in to slivers by SSH", "`apt-get install openssh-client` and `pip install asyncssh`"),
    Feature("systemd", "the agent after a reboot", "without it the first command after a reboot starts the agent"),
)


def capabilities() -> frozenset[str]:
    """The names of the features that this machine has."""
    return frozenset(f.name for f in FEATURES if _PROBES[f.name]())


def unknown(have: Collection[str]) -> frozenset[str]:
    """Of those that seem to be missing: whether they are only root finds out."""
    return frozenset(f.name for f in FEATURES if f.as_root and "root" not in have and f.name not in have)


def has_way_by_ipv6() -> bool:
    """Whether this machine has a route to the world by IPv6; nothing is sent."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as some:
            some.connect(("2000::1", 9))
    except OSError:
        return False
    return True


def _root() -> bool:
    return "CapEff:\t0000000000000000" not in Path("/proc/self/status").read_text() and _writes("/run")


def _writes(path: str) -> bool:
    return os.access(path, os.W_OK)


def _cgroup2() -> bool:
    try:
        return cgroup.mount().is_dir()
    except Unsupported:
        return False


def _netem() -> bool:
    """Tries it in a throw-away namespace, with the hook that a Gate needs: a module may be loadable, and only the
    kernel knows."""
    command = "ip link set lo up && tc qdisc add dev lo root netem delay 1ms && tc qdisc add dev lo clsact"
    return subprocess.run(["unshare", "-n", "sh", "-c", command], capture_output=True).returncode == 0


def _vxlan() -> bool:
    """Tries it likewise: a tunnel that leads out of a namespace, and one over IPv6."""
    four = "ip link add v4 type vxlan id 1 local 127.0.0.1 remote 127.0.0.2 dstport 4789"
    six = "ip link add v6 type vxlan id 2 local ::1 remote ::2 dstport 4789"
    return subprocess.run(["unshare", "-n", "sh", "-c", f"{four} && {six}"], capture_output=True).returncode == 0


def _vxlan_xdp() -> bool:
    """A compiler, and a kernel that takes our programs."""
    return _programs() and _root() and carrier.can_load()


def _gretap() -> bool:
    """Likewise, over both IP versions."""
    four = "ip link add v4 type gretap local 127.0.0.1 remote 127.0.0.2 key 1"
    six = "ip link add v6 type ip6gretap local ::1 remote ::2 key 1"
    return subprocess.run(["unshare", "-n", "sh", "-c", f"{four} && {six}"], capture_output=True).returncode == 0


def _wireguard() -> bool:
    command = "ip link add trial type wireguard"
    return subprocess.run(["unshare", "-n", "sh", "-c", command], capture_output=True).returncode == 0


def _element() -> bool:
    return Path("/dev/net/tun").exists() and shutil.which("gcc") is not None


def _programs() -> bool:
    """A compiler, the headers of programs, and the library that loads them; `vini.node.libbpf` wants that version."""
    return bool(shutil.which("clang")) and Path("/usr/include/bpf/bpf_helpers.h").exists() and _library("libbpf.so.1")


def _containers() -> bool:
    """A runtime, all controllers of cgroups, user namespaces, a file system for slivers that maps owners of files."""
    if not crun.program() or not _cgroup2() or not limits.are_there():
        return False
    holder = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "sh", "-c", "echo; read _"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert holder.stdout
        made = bool(holder.stdout.readline())
        run = from_environment().run
        there = next(p for p in (run, *run.parents) if p.exists())
        return made and mounts.can_map(there, Path(f"/proc/{holder.pid}/ns/user"))
    finally:
        holder.kill()
        holder.communicate()


def _outside() -> bool:
    return _takes_rules(4, ("0.0.0.0/0", "192.0.2.0/24"))


def _outside_ipv6() -> bool:
    return forwarding.can(forwarding.FAMILIES[6]) and _takes_rules(6, ("0.0.0.0/0", "::/0", "fd00::/64"))


def _takes_rules(version: int, to: tuple[str, ...]) -> bool:
    """Tries all kinds of rules that it takes, in a throw-away namespace."""
    port = rules.Port("s.a", "lo", "02:00:00:00:00:01", "06:00:00:00:00:01", "198.18.0.1", "198.18.0.0")
    text = rules.tables("trial", "s", [port], OutsideGrant(to), ()) + rules.guard("trial", version)
    command = ["unshare", "-n", "nft", "-f", "-"]
    return (
        shutil.which("nft") is not None
        and subprocess.run(command, input=text.encode(), capture_output=True).returncode == 0
    )


def _shares() -> bool:
    """Tries it likewise: the program that tells packets apart, the classes, and a filter that leads packets to them."""
    try:
        os.close(classify.load({}, ()))
    except OSError:
        return False
    command = (
        "ip link add trial type ifb && tc qdisc add dev trial root handle 1: htb && ip link set lo up && "
        "tc class add dev trial parent 1: classid 1:1 htb rate 1mbit && tc qdisc add dev trial parent 1:1 bfifo && "
        "tc qdisc add dev lo clsact && tc filter add dev lo egress bpf bytecode '1,6 0 0 4294967295,' "
        "action mirred egress redirect dev trial"
    )
    return subprocess.run(["unshare", "-n", "sh", "-c", command], capture_output=True).returncode == 0


def _library(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _program(*names: str) -> Callable[[], bool]:
    return lambda: any(shutil.which(n) or Path(n).exists() for n in names)


_PROBES: dict[str, Callable[[], bool]] = {
    "root": _root,
    "cgroup2": _cgroup2,
    "vxlan": _vxlan,
    "vxlan-xdp": _vxlan_xdp,
    "gretap": _gretap,
    "wireguard": _wireguard,
    "netem": _netem,
    "element": _element,
    "programs": _programs,
    "containers": _containers,
    "disks": filesystems.are_there,
    "memory-reserve": limits.can_reserve_memory,
    "io-weight": lambda: bool(io_weights.file(from_environment().state)),
    "shares": _shares,
    "shares-wireguard": lambda: _wireguard() and _shares() and aside.can_load(),
    "outside": _outside,
    "outside-ipv6": _outside_ipv6,
    "frr": _program("/usr/lib/frr/zebra"),
    "bird": _program("bird", "/usr/sbin/bird"),
    "iperf3": _program("iperf3"),
    "tcpdump": _program("tcpdump", "/usr/bin/tcpdump"),
    "traceroute": _program("traceroute"),
    "ping": _program("ping"),
    "ssh": lambda: shutil.which("ssh") is not None and find_spec("asyncssh") is not None,
    "systemd": has_systemd,
}
