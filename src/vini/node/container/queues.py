"""Packets that wait in the kernel, in queues whose length root in a sliver chooses, and that no group is charged for.

All is told of the namespace that a socket is of.  What waits for the reader of a tun device is not told by the kernel,
so such queues are kept as short as what a sliver may have of memory, whatever waits in them.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from socket import AF_BRIDGE

from vini.model import Value
from vini.node import netem, tc
from vini.node import netlink as nl
from vini.node.bpf import TAP_BIT
from vini.node.place import GROUP
from vini.node.port import QUEUE
from vini.node.rtnl import IFF_UP, dump_links

_LINK_BODY = struct.Struct("=BxHiII")
_NAME, _TXQLEN, _LINKINFO, _GROUP, _TX_QUEUES, _KIND, _DATA = 3, 13, 18, 27, 31, 1, 2  # linux/if_link.h
_TUN_QUEUES = 8  # IFLA_TUN_NUM_QUEUES
_GETNEIGHTBL, _PARMS, _IFINDEX, _PROXIED, _WAITING = 66, 6, 1, 14, 16  # RTM_, NDTA_, NDTPA_* of linux/neighbour.h
_RAISED, _NEIGHBOURS = 1 << 20, 1024  # bytes for a neighbour, five times the usual; so many there may be (gc_thresh3)
_RAISED_PROXIED = 1024  # packets: the usual are 64
_LARGEST, _OVERHEAD = 1 << 16, 768  # bytes of the largest packet; of each beyond its own (struct sk_buff and its head)
_POINTER, _BANDS = 8, 3  # bytes for each packet that a queue has room for; of pfifo_fast that are three queues
_USUAL_QUEUED = 1024  # packets that wait for a program (NFQUEUE), where nothing else was asked for
_USUAL_QUEUES = 16  # so many such queues have room for usual ones, as where a program has one for each processor
_BEYOND = 4096  # bytes that a packet beyond counts as, at least
USUAL_PACKET = 2304  # bytes that one of 1500 takes
# Tables of neighbours: family, flags (NTF_PROXY), and how much more memory an entry takes than its message is long.
_TABLES = ((0, 0, 7), (0, 8, 2), (AF_BRIDGE, 0, 2))
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # struct ndmsg: family, interface, state, flags, type
_LO = 1
_FEWEST = 1 << 20  # bytes of an interface's that are worth an end of it
_LOGGED = 1 << 17  # bytes of what is gathered for a program that reads logs (NFULNL_NLBUFSIZ_MAX)
_NETFILTER = Path("/proc/thread-self/net/netfilter")


class Link(Value, frozen=True):
    """What of an interface says how much may wait there."""

    index: int
    length: int  # txqueuelen
    queues: int
    tun: bool
    ours: bool  # one of the link element's, which empties it; such as are not wanted go with the look at shapes
    name: str = ""


def links(socket: nl.Socket) -> list[Link]:
    """All of them."""
    messages = socket.dump(dump_links())
    indexes = {_LINK_BODY.unpack_from(message, 16)[2] for message in messages}
    return [_link(message, indexes) for message in messages]


def _link(message: bytes, indexes: Collection[int]) -> Link:
    index = _LINK_BODY.unpack_from(message, 16)[2]
    a = nl.attributes(message, 32)
    name = a.get(_NAME, b"").rstrip(b"\0").decode(errors="replace")
    info = nl.attributes(a.get(_LINKINFO, b""), 0)
    tun = info.get(_KIND) == b"tun\0"
    queues = nl.number(a.get(_TX_QUEUES), 1)
    if tun:
        queues = max(1, nl.number(nl.attributes(info.get(_DATA, b""), 0).get(_TUN_QUEUES), 1))
    ours = tun and index & TAP_BIT and index ^ TAP_BIT in indexes and nl.number(a.get(_GROUP)) == GROUP
    return Link(index, nl.number(a.get(_TXQLEN)), queues, tun, bool(ours), name)


def held(socket: nl.Socket, there: list[Link], wires: Mapping[str, int] | None = None) -> Mapping[int, int]:
    """Index of each interface -> bytes that wait in its queueing disciplines, and that long queues take when empty.

    `wires`: name of each interface at which VINI's own wire is wanted -> bytes that may wait in it for nothing.
    """
    out = Counter({link.index: _POINTER * link.length * link.queues for link in there if link.tun})
    by_index = {link.index: link for link in there}
    for message in socket.dump(tc.dump_qdiscs()):
        seen = tc.seen_waiting(message)
        size, link = seen.bytes + _OVERHEAD * seen.packets, by_index.get(seen.index)
        if wires and link and seen.handle == netem.WIRE and seen.kind == "netem":
            size = max(0, size - wires.get(link.name, 0))
        out[seen.index] += size
        if seen.kind == "pfifo_fast" and link:
            out[seen.index] += _BANDS * _POINTER * link.length
    return out


def for_neighbours(socket: nl.Socket) -> Mapping[int, int]:
    """Index of each interface -> bytes that may wait for its neighbours to be found, where somebody made that a lot."""
    out: Counter[int] = Counter()
    for index, size in _for_neighbours(socket):
        out[index] += size
    return out


def _for_neighbours(socket: nl.Socket) -> Iterator[tuple[int, int]]:
    usual, usual_proxied = _RAISED, _RAISED_PROXIED
    for message in socket.dump(nl.message(_GETNEIGHTBL, nl.DUMP, bytes(4))):  # of each protocol first what new ones get
        parms = nl.attributes(nl.attributes(message, 20).get(_PARMS, b""), 0)
        index, waiting, proxied = (nl.number(parms.get(kind)) for kind in (_IFINDEX, _WAITING, _PROXIED))
        if not index:
            usual, usual_proxied = max(_RAISED, waiting), max(_RAISED_PROXIED, proxied)
        elif index == _LO:  # whose neighbours need not be found
            continue
        elif waiting > usual:
            yield index, waiting * _NEIGHBOURS
        elif proxied > usual_proxied:
            yield index, proxied * _LARGEST


def of_neighbours(most: int) -> int:
    """Bytes of the tables of neighbours, which root in a sliver may fill without a bound, and of bridges; where it is
    more than `most`, only that."""
    return sum(_of_table(*table, most) for table in _TABLES)


def _of_table(family: int, flags: int, times: int, most: int) -> int:
    with nl.Socket() as socket:
        return times * socket.measure(_dump_table(family, flags), most // times)


def _dump_table(family: int, flags: int) -> bytes:
    return nl.message(nl.GETNEIGH, nl.DUMP, _NEIGHBOUR.pack(family, 0, 0, flags, 0))


def neighbours(socket: nl.Socket) -> Mapping[int, int]:
    """Index of each interface -> bytes of the tables of its neighbours."""
    out: Counter[int] = Counter()
    for family, flags, times in _TABLES:
        for message in socket.dump(_dump_table(family, flags)):
            out[_NEIGHBOUR.unpack_from(message, 16)[1]] += times * len(message)
    return out


class ForPrograms(Value, frozen=True):
    """Bytes that may wait for programs.  Of packets only the number is told: each may be a usual one, or as large as
    any is."""

    least: int = 0
    most: int = 0

    def counted(self, grown: int) -> int:
        """What of it counts, where the kernel's own memory has grown by so much since the queues were as usual."""
        return min(max(self.least, grown), self.most)


def for_programs() -> ForPrograms:
    """For their verdict (NFQUEUE), or to be read by them (NFLOG), of the thread's namespace."""
    queued = sorted(_waiting("nfnetlink_queue"), reverse=True)
    logs = _LOGGED * sum(waiting > 0 for waiting in _waiting("nfnetlink_log"))
    usual = sum(min(waiting, _USUAL_QUEUED) for waiting in queued[:_USUAL_QUEUES])
    least = usual * USUAL_PACKET + (sum(queued) - usual) * _BEYOND
    sure = min(sum(queued), _USUAL_QUEUED)
    return ForPrograms(logs + least, logs + sure * USUAL_PACKET + (sum(queued) - sure) * _LARGEST)


def _waiting(file: str) -> list[int]:
    try:
        return [int(row.split()[2]) for row in (_NETFILTER / file).read_text().splitlines()]
    except OSError:  # a kernel without
        return []


def shorten(socket: nl.Socket, there: list[Link], most: int) -> int:
    """Have queues of tun devices hold no more than so many bytes together; how many packets they had room for where
    that was too long, else 0.  What waits in a queue beyond its new length is freed at once."""
    tuns = [link for link in there if link.tun]
    raised = [link for link in tuns if link.ours and link.length > QUEUE]
    theirs = [link for link in tuns if not link.ours]
    each = 0
    room, slots = sum(link.length * link.queues for link in theirs), most // _LARGEST
    if room > slots:
        each = max(1, slots // sum(link.queues for link in theirs))
        raised += [link for link in theirs if link.length > each]
    if not raised:
        return 0
    socket.transact([_set_length(link.index, QUEUE if link.ours else each) for link in raised])
    return room if room > slots else 0


def _set_length(index: int, packets: int) -> bytes:
    return nl.message(nl.SETLINK, 0, _LINK_BODY.pack(0, 0, index, 0, 0) + nl.u32(_TXQLEN, packets))


def end(socket: nl.Socket, found: Mapping[int, int]) -> None:
    """Take away each interface that holds much, with its queues and neighbours; the sliver's own are made anew at the
    next look."""
    socket.transact([r for index, size in found.items() if index and size >= _FEWEST for r in _end(index)])


def _end(index: int) -> Iterator[bytes]:
    if index == _LO:  # nothing takes it away
        yield tc.delete_qdisc(index, 0)
        yield nl.message(nl.SETLINK, 0, _LINK_BODY.pack(0, 0, index, 0, IFF_UP))
        yield nl.message(nl.SETLINK, 0, _LINK_BODY.pack(0, 0, index, IFF_UP, IFF_UP))
    else:
        yield nl.message(nl.DELLINK, 0, _LINK_BODY.pack(0, 0, index, 0, 0))
