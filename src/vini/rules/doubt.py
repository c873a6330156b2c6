"""Whether a central's clock can be right, by what is known of its nodes; and what to say where nobody can tell.  Pure.

A slice that is ended and an event that is forgotten are gone, so that is not done by a clock that jumped ahead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from statistics import median_high

from vini.rules.leases import moment

BEHIND_S = 3600.0  # so much nodes' clocks may be behind the central's


def middle(site_of: Mapping[str, int], ahead: Mapping[str, float]) -> float:
    """By how many seconds the clocks of all nodes together are ahead of the central's; 0 where none was measured.

    `site_of`: of each node that there is.  `ahead`: of those that were measured.  The nodes of a site have one voice
    together, so that no site alone decides for all, where there are three.
    """
    voices: defaultdict[int, list[float]] = defaultdict(list)
    for node, site in site_of.items():
        if node in ahead:
            voices[site].append(ahead[node])
    return median_high(median_high(voice) for voice in voices.values()) if voices else 0.0


def behind(middle: float) -> str:
    """Why the central's clock can't be right, for who can set the clock; "": nothing speaks against it."""
    if middle >= -BEHIND_S:
        return ""
    return (
        f"most nodes' clocks are behind this machine's, by {-middle / 3600:.0f} hours; set the clock "
        "that is wrong (`timedatectl`)"
    )


def unknown(now: float, jumped: float) -> str:
    """The same where it shows `now` and nobody can tell; `jumped`: by so much it was set ahead since somebody could."""
    if jumped:
        return (
            f"this machine's clock was set ahead by {jumped / 3600:.1f} hours, to {moment(now)}, and no node has come "
            "since that could tell which is right; set it back where it is wrong (`timedatectl`), else let one connect"
        )
    return (
        f"nothing shows that this machine's clock is right, which says {moment(now)}: since the machine started no "
        "node has come by which to judge it, and no NTP daemon has told its kernel that it is; let a node connect, "
        "or start such a daemon (`timedatectl set-ntp true`)"
    )
