"""Whether a central's clock can be right, by what is known of its nodes.  Pure.

A slice that is ended and an event that is forgotten are gone, so that is not done by a clock that jumped ahead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from statistics import median_high

from vini.model import Value
from vini.rules.leases import moment

BEHIND_S = 3600.0  # so much nodes' clocks may be behind the central's
_RECENT_S = 300.0  # each node that is connected is heard of once a minute
_SILENT_S = 7 * 86400.0  # no node of any was heard of for so long: it is as likely that the clock jumped


class Heard(Value, frozen=True):
    """Of a node: its name, its site, and when something was heard of it last, by the clock of a central."""

    node: str
    site: int
    at: float


def doubt(heard: Collection[Heard], ahead: Mapping[str, float], now: float) -> str:
    """Why the time can't be `now`, for who can set the clock; "": nothing speaks against it.

    `ahead`: by how many seconds the clocks of nodes are ahead of this one, as measured just now.  The nodes of a site
    have one voice together, so that no site alone decides for all, where there are three.
    """
    voices: defaultdict[int, list[float]] = defaultdict(list)
    for node in heard:
        if node.node in ahead:
            voices[node.site].append(ahead[node.node])
    middle = median_high(median_high(voice) for voice in voices.values()) if voices else 0.0
    if middle < -BEHIND_S:
        return (
            f"most nodes' clocks are behind this machine's, by {-middle / 3600:.0f} hours; set the clock "
            "that is wrong (`timedatectl`)"
        )
    past = [node.at for node in heard if node.at < now + _RECENT_S]  # else it was this clock that was wrong then
    newest = max(past, default=now)
    if newest < now - _SILENT_S:
        return (
            f"no node was heard of since {moment(newest)}, and this machine's clock shows {moment(now)}; set it where "
            "it is wrong (`timedatectl`), or delete the nodes that are no more (`vini node delete`)"
        )
    return ""
