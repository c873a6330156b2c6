"""Whether a central's clock can be right, by what is known of its nodes.  Pure.

A slice that is ended and an event that is forgotten are gone, so that is not done by a clock that jumped ahead.
"""

from __future__ import annotations

from collections.abc import Collection
from statistics import median_high

from vini.model import Value
from vini.rules.leases import moment

BEHIND_S = 3600.0  # so much nodes' clocks may be behind the central's
_RECENT_S = 300.0  # each node that is connected is heard of once a minute
_SILENT_S = 7 * 86400.0  # no node of any was heard of for so long: it is as likely that the clock jumped


class Heard(Value, frozen=True):
    """Of a node: when something was heard of it last, and by how much its clock was ahead of the central's then."""

    at: float
    ahead_s: float


def doubt(nodes: Collection[Heard], now: float) -> str:
    """Why the time can't be `now`, for who can set the clock; "": nothing speaks against it."""
    nodes = [node for node in nodes if node.at < now + _RECENT_S]  # else it was this clock that was wrong then
    recent = [node.ahead_s for node in nodes if node.at > now - _RECENT_S]
    if recent and median_high(recent) < -BEHIND_S:
        return (
            f"most nodes' clocks are behind this machine's, by {-median_high(recent) / 3600:.0f} hours; set the clock "
            "that is wrong (`timedatectl`)"
        )
    newest = max((node.at for node in nodes), default=now)
    if newest < now - _SILENT_S:
        return (
            f"no node was heard of since {moment(newest)}, and this machine's clock shows {moment(now)}; set it where "
            "it is wrong (`timedatectl`), or delete the nodes that are no more (`vini node delete`)"
        )
    return ""
