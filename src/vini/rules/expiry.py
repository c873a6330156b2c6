"""How long a slice lives: two weeks at first, then as long as somebody renews it and says what it is for."""

from __future__ import annotations

from vini.model import Denied
from vini.rules.errors import Invalid

DAY_S = 86_400.0
FIRST_S = 14 * DAY_S
AHEAD_S = 56 * DAY_S
REMIND_S = (7 * DAY_S, 2 * DAY_S)  # before its end; each once


def first(now: float) -> float:
    """When a new slice ends."""
    return now + FIRST_S


def renewed(
    slice_: str, now: float, expires: float, until: float, *, description: str, url: str, max_slices: int,
    enabled: bool = True,
) -> float:  # fmt: skip
    """When it ends from now on.  Raises Denied where its site is blocked, Invalid where the wish can't be met."""
    if not enabled:
        raise Denied(f"Slice {slice_!r} can't be renewed: its site is disabled. Ask an admin why.")
    if max_slices == 0:
        raise Denied(
            f"Slice {slice_!r} can't be renewed: its site may have no slices (max_slices is 0). Ask an admin why."
        )
    if not description or not url:
        missing = " and ".join(w for w, given in (("a description", description), ("a URL", url)) if not given)
        raise Invalid(
            f"Slice {slice_!r} needs {missing} before it is renewed, since others want to know what it is for: "
            f"`vini slice describe {slice_} --description TEXT --url URL`."
        )
    if until > now + AHEAD_S:
        raise Invalid(f"A slice may be renewed up to {AHEAD_S / DAY_S:.0f} days ahead; ask for less.")
    if until < max(now, expires):
        raise Invalid("Renewing makes a slice end later, not earlier; ask for a later time, or delete it.")
    return until


def may_add(site: str, has: int, max_slices: int) -> None:
    """Raises Denied where a site has all the slices that it may have."""
    if max_slices == 0:
        raise Denied(f"Site {site!r} may have no slices (max_slices is 0). Ask an admin why.")
    if has >= max_slices:
        raise Denied(
            f"Site {site!r} may have {max_slices} slice{'s' * (max_slices != 1)}, and has {has}; delete one, or ask an "
            "admin for more."
        )


def reminder(now: float, expires: float) -> float:
    """Which of REMIND_S is due, the nearest to the end; 0: none yet."""
    left = expires - now
    return min((r for r in REMIND_S if 0 < left <= r), default=0.0)
