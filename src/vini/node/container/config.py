"""The configuration of one container (OCI runtime specification 1.0, config.json).  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vini.node.container import seccomp

# Of the sliver's own user namespace: over its own network, files and processes.
_CAPABILITIES = [
    "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
    "CAP_SYS_NICE", "CAP_SYS_PTRACE",
    "CAP_SYS_ADMIN",  # zebra refuses to start without
]  # fmt: skip
# What tells of the node, or costs its kernel: reading /proc/fs/ext4 holds locks of the node's file system.
_MASKED = [
    "/proc/acpi", "/proc/asound", "/proc/buddyinfo", "/proc/bus", "/proc/cmdline", "/proc/diskstats", "/proc/driver",
    "/proc/fs", "/proc/interrupts", "/proc/iomem", "/proc/ioports", "/proc/irq", "/proc/kallsyms", "/proc/kcore",
    "/proc/keys", "/proc/kmsg", "/proc/latency_stats", "/proc/mdstat", "/proc/modules", "/proc/pagetypeinfo",
    "/proc/partitions", "/proc/pressure", "/proc/sched_debug", "/proc/scsi", "/proc/slabinfo", "/proc/softirqs",
    "/proc/swaps", "/proc/timer_list", "/proc/timer_stats", "/proc/vmallocinfo", "/proc/zoneinfo",
    "/sys/block", "/sys/bus", "/sys/dev", "/sys/firmware", "/sys/fs", "/sys/hypervisor", "/sys/kernel", "/sys/module",
    "/sys/power",
]  # fmt: skip
# What there is was chosen, and in a user namespace nobody makes more; a filter would have to be kept like that choice.
_ANY_DEVICE = [{"allow": True, "access": "rwm"}]
_READ_ONLY = ["/proc/sys", "/proc/sysrq-trigger"]
# As process 1 it reaps whatever its descendants leave behind; sleep(1) is what keeps it.
_INIT = ["/bin/sh", "-c", "trap : HUP INT QUIT TERM; while :; do sleep 2000000000 & wait; done"]
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/vini"
BROKER = "/run/vini"  # where the broker's socket is
RUN = "/run"  # what "{run}" stands for inside: FRR and BIRD have their sockets there by default


def environment(ns: str) -> list[str]:
    """Of all its processes."""
    sliver = ns.partition(".")[2]
    return [
        f"PATH={_PATH}", "HOME=/root", "LANG=C.UTF-8", "TERM=xterm-256color", f"PS1={sliver}# ",
        f"VINI_SLIVER={ns}", f"VINI_NAME={sliver}", f"VINI_SLIVER_DIR={RUN}",
    ]  # fmt: skip


def config(
    ns: str,
    root: str,
    users: tuple[str, int, int],
    network: str,
    binds: Sequence[str],
    tun: str,
    broker: str,
    *,
    volumes: Sequence[tuple[str, str]] = (),
    group: str = "",
    devices: Sequence[str] = (),
) -> dict[str, Any]:
    """`users`: path of the user namespace, its root's id on the node, how many ids it has; `binds`: directories of the
    node that are seen read-only; `tun`: the node's file that is /dev/net/tun inside, "" where it has none; `broker`:
    the directory of the broker's socket; `volumes`: directories of the node, and where they are inside; `group`: of
    cgroups, below their mounts, for a runtime that insists on one; `devices`: the node's own, in /sys."""
    path, first, count = users
    ids = [{"containerID": 0, "hostID": first, "size": count}]
    return {
        "ociVersion": "1.0.2",
        "hostname": ns.partition(".")[2],
        "root": {"path": root},
        "process": {
            "args": _INIT,
            "env": environment(ns),
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
            "noNewPrivileges": True,
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted", "inheritable"), _CAPABILITIES),
        },
        "mounts": [
            *_MOUNTS,
            *map(_bind, binds),
            *map(_volume, volumes),
            *([_tun(tun)] if tun else []),
            _bind(broker, BROKER),
        ],
        "linux": {
            "namespaces": [
                {"type": "user", "path": path},
                {"type": "network", "path": network},
                *({"type": kind} for kind in ("pid", "mount", "uts", "ipc", "cgroup")),
            ],
            **({"cgroupsPath": group, "resources": {"devices": _ANY_DEVICE}} if group else {}),
            "uidMappings": ids,
            "gidMappings": ids,
            "maskedPaths": [*_MASKED, *devices],
            "readonlyPaths": _READ_ONLY,
            "seccomp": seccomp.profile(),
        },
    }


def _mount(kind: str, where: str, *options: str) -> dict[str, Any]:
    return {"destination": where, "type": kind, "source": kind, "options": list(options)}


_MOUNTS = [
    _mount("proc", "/proc", "nosuid", "noexec", "nodev"),
    _mount("sysfs", "/sys", "nosuid", "noexec", "nodev", "ro"),
    _mount("tmpfs", "/dev", "nosuid", "noexec", "strictatime", "mode=755", "size=64k"),
    _mount("devpts", "/dev/pts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
    _mount("tmpfs", "/dev/shm", "nosuid", "noexec", "nodev", "mode=1777", "size=64m"),
    _mount("mqueue", "/dev/mqueue", "nosuid", "noexec", "nodev"),
]


def _bind(directory: str, where: str = "") -> dict[str, Any]:
    options = ["rbind", "ro", "nosuid", "nodev"]
    return {"destination": where or directory, "type": "none", "source": directory, "options": options}


def _volume(volume: tuple[str, str]) -> dict[str, Any]:
    source, inside = volume
    return {"destination": inside, "type": "none", "source": source, "options": ["rbind", "nosuid", "nodev"]}


def _tun(source: str) -> dict[str, Any]:
    return {"destination": "/dev/net/tun", "type": "none", "source": source, "options": ["bind", "nosuid", "noexec"]}
