"""Rings of packet sockets: memory that the kernel counts for no group, so the agent looks how much of it there is.

By PACKET_RX_RING and PACKET_TX_RING (packet(7)) root in a sliver has the kernel set pages apart; no limit of any kind
binds him there.  What tcpdump needs is 2 MiB.  Who holds more than his sliver's memory is ended at the next look.
"""

from __future__ import annotations

import os
import signal
import struct
from contextlib import suppress
from pathlib import Path

from vini.model import Container
from vini.node import cgroup, netlink, netns, sliver_log
from vini.node.place import Place

_AF_PACKET, _HEADER = 17, 16  # the second: bytes of nlmsghdr
_SOCK_DIAG, _BY_FAMILY = 4, 20  # NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY
_ROOT_OR_MATCH = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_SHOW_RINGS = 1 << 2  # PACKET_SHOW_RING_CFG, linux/packet_diag.h
_RINGS = (2, 3)  # PACKET_DIAG_RX_RING, PACKET_DIAG_TX_RING
_REQUEST, _ANSWER, _RING = struct.Struct("=BBHIIII"), struct.Struct("=BBHIII"), struct.Struct("=II")


def bound(place: Place, o: Container, first: int) -> None:
    """End whoever holds more by rings than the sliver may have of memory; `first` is one of its processes."""
    with suppress(OSError):  # it ends this moment, or the kernel can't tell (CONFIG_PACKET_DIAG)
        if len(Path(f"/proc/{first}/net/packet").read_text().splitlines()) < 2:  # its heading
            return
        sizes = held(place.pin(o.ns))
        if (total := sum(sizes.values())) > o.memory_mb * 10**6:
            _end(place, o, {f"socket:[{inode}]" for inode, size in sizes.items() if size}, total)


def held(network: Path) -> dict[int, int]:
    """Bytes of the rings of each packet socket of a network namespace, by the socket's inode."""
    body = _REQUEST.pack(_AF_PACKET, 0, 0, 0, _SHOW_RINGS, 0, 0)
    with netns.inside(network), netlink.Socket(_SOCK_DIAG) as asked:
        answers = asked.dump(netlink.message(_BY_FAMILY, _ROOT_OR_MATCH, body))
    return dict(map(_seen, answers))


def _seen(answer: bytes) -> tuple[int, int]:
    _, _, _, inode, _, _ = _ANSWER.unpack_from(answer, _HEADER)
    told = netlink.attributes(answer, _HEADER + _ANSWER.size)
    rings = (_RING.unpack_from(told[kind]) for kind in _RINGS if kind in told)
    return inode, sum(size * number for size, number in rings)


def _end(place: Place, o: Container, sockets: set[str], total: int) -> None:
    """Those who have one of them open; where nobody has, since they are on their way from one to another, everybody."""
    group = cgroup.of(place, o.ns)
    everybody = [pid for at in (group, *group.rglob("*/")) for pid in cgroup.pids(at)]
    holders = [pid for pid in everybody if _opened(pid) & sockets]
    for pid in holders or everybody:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    who = f"processes {', '.join(map(str, holders))} were" if holders else "all processes were"
    what = f"{who} ended: rings of packet sockets held {total // 10**6} MB, and it may have {o.memory_mb} MB of memory"
    sliver_log.append(place, o.ns, sliver_log.BOOT, what)


def _opened(pid: int) -> set[str]:
    found = set()
    with suppress(OSError), os.scandir(f"/proc/{pid}/fd") as files:
        for file in files:
            with suppress(OSError):
                found.add(str(Path(file.path).readlink()))
    return found
