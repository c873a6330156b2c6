"""Whether a central's clock can be right, by what is known of its nodes; and what to say where nobody can tell.  Pure.

A slice that is ended and an event that is forgotten are gone, so that is not done by a clock that jumped ahead.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from statistics import median_high, median_low

from vini.rules.leases import moment

BEHIND_S = 3600.0  # so much nodes' clocks may be behind the central's


def middle(site_of: Mapping[str, int], ahead: Mapping[str, float], least: bool = False) -> float:
    """By how many seconds the clocks of all nodes together are ahead of the central's; 0 where none was measured.

    `site_of`: of each node that there is.  `ahead`: of those that were measured.  The nodes of a site have one voice
    together, so that no site alone decides for all, where there are three.  `least`: of two in the middle the one that
    is behind counts, as where more speaks against the central's clock.
    """
    voices: defaultdict[int, list[float]] = defaultdict(list)
    for node, site in site_of.items():
        if node in ahead:
            voices[site].append(ahead[node])
    of_all = median_low if least else median_high
    return of_all([of_all(voice) for voice in voices.values()]) if voices else 0.0


def behind(middle: float) -> str:
    """Why the central's clock can't be right, for who can set the clock; "": nothing speaks against it."""
    if middle >= -BEHIND_S:
        return ""
    return (
        f"nodes' clocks are behind this machine's, by {-middle / 3600:.0f} hours; set the clock "
        "that is wrong (`vini nodes`, `timedatectl`)"
    )


def unknown(now: float, jumped: float, kernel: str, alone: bool) -> str:
    """The same where it shows `now` and nobody can tell; `jumped`: by so much (s) it is ahead of what was known to be
    right; `kernel`: why that does not vouch for it; `alone`: no node is on another machine."""
    if jumped:
        found = (
            f"this machine's clock shows {moment(now)}, {_long(jumped)} ahead of what nodes or an NTP daemon showed to "
            "be right before; set it back where it is wrong (`timedatectl`), else "
        )
        return found + (
            f"start the machine anew; an NTP daemon could tell, too, but {kernel}"
            if alone
            else "let a node on another machine connect"
        )
    return (
        f"nothing shows that this machine's clock is right, which says {moment(now)}: since the machine started no "
        f"node on another machine has come by which to judge it, and {kernel}"
    )


def _long(seconds: float) -> str:
    """In words."""
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.0f} hours"
