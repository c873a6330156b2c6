"""How many packets of other nodes our programs at XDP have taken: no socket of the node ever sees them.

Each tunnel's pair counts what was redirected into it as what its end in the node's namespace sent.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Collection

from vini.model import DriverError, Way
from vini.node import netlink as nl
from vini.node.carrier import Carrier
from vini.node.netlink import Socket
from vini.node.place import Place

_GETSTATS, _LINK_64 = 94, 1  # RTM_GETSTATS, IFLA_STATS_LINK_64 (linux/rtnetlink.h, linux/if_link.h)
_BODY = struct.Struct("=BxxxII")  # struct if_stats_msg: family, index, which statistics
_PACKETS = struct.Struct("=QQ")  # the beginning of struct rtnl_link_stats64: received, sent
_LASTS_S = 1.0  # which tunnels there are is looked up anew after that


class Carried:
    """Of a place."""

    def __init__(self, place: Place):
        self._carrier = Carrier(place)
        self._ends: dict[int, Way] = {}  # index of a pair's end in the node's namespace -> the path that it is on
        self._looked = -_LASTS_S

    def packets(self, ways: Collection[Way]) -> dict[Way, int]:
        """Those that arrived on each of these paths, since their tunnels were made; in the node's namespace."""
        try:
            return self._counted(ways) if self._carrier.exists() else {}
        except (OSError, DriverError):  # the last tunnel is just being taken away
            return {}

    def _counted(self, ways: Collection[Way]) -> dict[Way, int]:
        if time.monotonic() - self._looked >= _LASTS_S:
            self._ends = {e.other: (e.local, e.remote) for e in self._carrier.arriving().values()}
            self._looked = time.monotonic()
        if not any(way in ways for way in self._ends.values()):
            return {}
        with Socket() as socket:
            found = socket.dump(nl.message(_GETSTATS, nl.DUMP, _BODY.pack(0, 0, 1 << (_LINK_64 - 1))))
        out: dict[Way, int] = {}
        for message in found:
            _, index, _ = _BODY.unpack_from(message, 16)
            way = self._ends.get(index)
            if way in ways and way is not None:
                _, sent = _PACKETS.unpack_from(nl.attributes(message, 16 + _BODY.size)[_LINK_64])
                out[way] = out.get(way, 0) + sent
        return out
