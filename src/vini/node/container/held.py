"""Rings of packet sockets: memory that the kernel counts for no group, so the agent looks how much of it there is.

By PACKET_RX_RING and PACKET_TX_RING (packet(7)) root in a sliver has the kernel set pages apart; no limit of any kind
binds him there.  What tcpdump needs is 2 MiB.  A sliver that holds more than its memory is ended at the next look, then
starts again as after any crash.
"""

from __future__ import annotations

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
    """End a sliver that holds more by rings than it may have of memory; `first` is one of its processes."""
    with suppress(OSError):  # it ends this moment, or the kernel can't tell (CONFIG_PACKET_DIAG)
        if len(Path(f"/proc/{first}/net/packet").read_text().splitlines()) < 2:  # its heading
            return
        if (total := held(place.pin(o.ns))) > o.memory_mb * 10**6:
            _end(place, o, total)


def held(network: Path) -> int:
    """Bytes of the rings of all packet sockets of a network namespace."""
    body = _REQUEST.pack(_AF_PACKET, 0, 0, 0, _SHOW_RINGS, 0, 0)
    with netns.inside(network), netlink.Socket(_SOCK_DIAG) as asked:
        answers = asked.dump(netlink.message(_BY_FAMILY, _ROOT_OR_MATCH, body))
    return sum(map(_size, answers))


def _size(answer: bytes) -> int:
    told = netlink.attributes(answer, _HEADER + _ANSWER.size)
    rings = (_RING.unpack_from(told[kind]) for kind in _RINGS if kind in told)
    return sum(size * number for size, number in rings)


def _end(place: Place, o: Container, total: int) -> None:
    """Everybody in it: who holds a ring need not have its socket open, as where it is mapped, or sent and not taken."""
    cgroup.kill(cgroup.of(place, o.ns))
    held_mb = f"rings of packet sockets held {total // 10**6} MB, and it may have {o.memory_mb} MB of memory"
    sliver_log.append(place, o.ns, sliver_log.BOOT, f"all processes were ended: {held_mb}")
