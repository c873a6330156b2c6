"""Who measures the way to whom: a mesh of all nodes that is gone round little by little.  Pure.

Of each two nodes one asks the other, a few each minute: so a node's probes are as few with a thousand nodes as with
twenty, and only how old measurements become grows with the testbed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address

from msgspec import Struct

from vini.bandwidth import Pair
from vini.model import Value

AT_ONCE = 16  # other nodes that one asks in a round; in a large ring more, and the next round is later by as much
_PARTS, _MOST_AT_ONCE = 8, 64  # of a large ring so many at once: each time is some work for the database
ROUND_S = 60.0  # from one round to the next
BELIEVED_S = 6 * 3600.0  # how long a measurement is; a thousand nodes have gone round in half an hour
_NOTHING_US = 200  # round trip; what takes less is taken to take nothing: shaping is no more exact than that
_LONGEST_MS, _NEVER = 1e5, 1 << 62


class Member(Value, frozen=True):
    """A node that can be asked, and ask."""

    name: str
    address: str


class Measured(Struct, frozen=True, array_like=True, gc=False):
    """What one node last learned of the way to another one.  A thousand nodes know half a million of these."""

    rtt_us: int = 0  # the least of several round trips; 0: it never answered
    at: int = 0  # when it answered, Unix time, s
    asked: int = 0  # when it was asked last


def members(nodes: Iterable[tuple[str, str]]) -> list[Member]:
    """Of names and addresses, those that others can reach, by name."""
    found = (Member(name, str(ip_address(address))) for name, address in nodes if address)
    return sorted((m for m in found if not ip_address(m.address).is_loopback), key=lambda m: m.name)


def turn(me: Member, among: Sequence[Member], known: Mapping[str, Measured]) -> list[Member]:
    """Whom a node asks next: those whose turn was longest ago; nearest in the ring of names first.

    All are in a ring, and each asks the half that follows it: so of each two one asks.
    """
    ring = [m for m in among if _version(m) == _version(me)]
    here = next((i for i, m in enumerate(ring) if m.name == me.name), None)
    if here is None:
        return []
    half = len(ring) // 2
    mine = [ring[(here + step) % len(ring)] for step in range(1, half + 1)]
    if mine and len(ring) % 2 == 0 and here >= half:  # the one opposite asks us
        mine.pop()
    most = min(_MOST_AT_ONCE, max(AT_ONCE, half // _PARTS))
    return sorted(mine, key=lambda m: known[m.name].asked if m.name in known else 0)[:most]


def pause(asked: int) -> float:
    """How many rounds later the next one is, when so many were asked."""
    return max(1.0, asked / AT_ONCE)


def _version(member: Member) -> bool:
    return ":" in member.address


def after(known: Mapping[str, Measured], ms: Mapping[str, float | None], now: float) -> dict[str, Measured]:
    """What a node knows when it has asked these (ms, or None: nothing came back); what is too old is forgotten."""
    out = {name: m for name, m in known.items() if now - m.asked <= BELIEVED_S}
    for name, rtt in ms.items():
        before = out.get(name, Measured())
        good = rtt is not None and 0.0 < rtt < _LONGEST_MS
        us, at = (max(1, round(1e3 * rtt)), int(now)) if rtt is not None and good else (before.rtt_us, before.at)
        out[name] = Measured(us, at, int(now))
    return out


def believed(
    known: Mapping[str, Mapping[str, Measured]], since: Mapping[str, float], now: float
) -> dict[Pair, Measured]:
    """All that is believed, the newest of each two nodes.

    `since`: when each node joined: what was measured of one before is of another machine, or of one that is gone.
    """
    found: dict[Pair, Measured] = {}
    least = {name: int(max(at, now - BELIEVED_S, 1.0)) for name, at in since.items()}
    for node, of in known.items():
        own = least.get(node)
        if own is None:
            continue
        for peer, m in of.items():
            if m.at < own or m.at < least.get(peer, _NEVER):
                continue
            pair = (node, peer) if node < peer else (peer, node)
            before = found.get(pair)
            if before is None or before.at < m.at:
                found[pair] = m
    return found


def one_way(found: Mapping[Pair, Measured]) -> dict[Pair, float]:
    """In ms: half of the round trip, as if both directions took as long; which one takes more can't be told from it."""
    return {pair: m.rtt_us / 2000 if m.rtt_us >= _NOTHING_US else 0.0 for pair, m in found.items()}
