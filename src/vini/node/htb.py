"""The messages of tc-htb(8): classes with a rate of their own and a most that they may borrow up to.

Functions from values to bytes and back; nothing here touches a socket.
"""

from __future__ import annotations

import struct

from vini.model import Value
from vini.node import netlink as nl
from vini.node import tc

_BODY = struct.Struct("=BxxxiIII")  # struct tcmsg: family, interface, handle, parent, info
_KIND, _OPTIONS, _STATS = 1, 2, 7
_PARMS, _INIT, _RATE64, _CEIL64 = 1, 2, 6, 7
_SPEC = struct.Struct("=BBHhHI")  # struct tc_ratespec: cell_log, linklayer, overhead, cell_align, mpu, bytes/s
_OPT = struct.Struct("=12s12sIIIII")  # struct tc_htb_opt: rate, ceil, their buffers, quantum, level, prio
_GLOBAL = struct.Struct("=IIIII")  # struct tc_htb_glob: version, rate2quantum, default class, debug, direct packets
_ETHERNET, _VERSION, _LARGEST = 1, 3, 0xFFFFFFFF
_NS_PER_TICK = 64  # PSCHED_SHIFT 6
_BASIC, _QUEUE = 1, 3


class Wish(Value, frozen=True):
    """What a class may send, in bytes per second: of its own, and at most."""

    rate: int
    ceil: int
    quantum: int = 60_000  # bytes that it sends in its turn, of what is left

    @property
    def burst(self) -> int:
        """Bytes that may come at once: what it sends in 20 ms, so that a clock that is late takes nothing away."""
        return max(16_000, self.ceil // 50)


class SeenClass(Value, frozen=True):
    """A class as the kernel reports it."""

    index: int
    handle: int
    parent: int
    wish: Wish
    sent: int  # bytes of frames that left it
    dropped: int  # packets that its queue had no room for


def set_root(index: int, handle: int) -> bytes:
    """Make it an interface's root qdisc; what has no class there passes."""
    options = nl.attribute(_INIT, _GLOBAL.pack(_VERSION, 10, 0, 0, 0))
    return tc.set_qdisc(index, handle, tc.ROOT, "htb", options)


def set_class(index: int, handle: int, parent: int, wish: Wish) -> bytes:
    """Make a class, or change the one with this handle; packets in it stay."""
    buffers = (_ticks(wish.burst, wish.rate), _ticks(wish.burst, wish.ceil))
    parms = _OPT.pack(_spec(wish.rate), _spec(wish.ceil), *buffers, wish.quantum, 0, 0)
    rates = (nl.attribute(a, struct.pack("=Q", r)) for a, r in ((_RATE64, wish.rate), (_CEIL64, wish.ceil)))
    options = nl.nest(_OPTIONS, nl.attribute(_PARMS, parms), *rates)
    return nl.message(
        nl.NEWTCLASS, nl.CREATE, _BODY.pack(0, index, handle, parent, 0) + nl.text(_KIND, "htb") + options
    )


def _spec(rate: int) -> bytes:
    return _SPEC.pack(0, _ETHERNET, 0, 0, 0, min(rate, _LARGEST))


def _ticks(size: int, rate: int) -> int:
    """How long so many bytes take at that rate."""
    return min(size * 1_000_000_000 // (rate * _NS_PER_TICK), _LARGEST)


def delete_class(index: int, handle: int) -> bytes:
    """Take a class away, with what waits in it."""
    return nl.message(nl.DELTCLASS, 0, _BODY.pack(0, index, handle, 0, 0))


def dump_classes(index: int) -> bytes:
    """Ask for the classes of an interface."""
    return nl.message(nl.GETTCLASS, nl.DUMP, _BODY.pack(0, index, 0, 0, 0))


def seen_class(message: bytes) -> SeenClass:
    """Decode one answer to `dump_classes`."""
    _, index, handle, parent, _ = _BODY.unpack_from(message, 16)
    a = nl.attributes(message, 16 + _BODY.size)
    options = nl.attributes(a.get(_OPTIONS, b""), 0)
    rate, ceil, _, _, quantum, _, _ = _OPT.unpack_from(options[_PARMS])
    wish = Wish(_rate(rate, options.get(_RATE64)), _rate(ceil, options.get(_CEIL64)), quantum)
    stats = nl.attributes(a.get(_STATS, b""), 0)
    (sent,) = struct.unpack_from("=Q", stats.get(_BASIC, bytes(8)))
    (dropped,) = struct.unpack_from("=8xI", stats.get(_QUEUE, bytes(12)))
    return SeenClass(index, handle, parent, wish, sent, dropped)


def _rate(spec: bytes, large: bytes | None) -> int:
    """The kernel tells 64 bits only where 32 are too few."""
    return int(struct.unpack("=Q", large)[0]) if large else int(_SPEC.unpack(spec)[5])
