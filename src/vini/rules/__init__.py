"""Who may do what, and for how long: PlanetLab's rules.  Pure: `now` and who asks are arguments.

`nouns` are the things that rules are about, as the API shows them; `wishes` are what a caller may ask to be changed.
Clients share both with the central.
"""

from __future__ import annotations

from vini.rules.access import ACTIONS, Target, allows, may, of_node, of_person, of_site, of_slice, seen
from vini.rules.caller import EVERYWHERE, SCOPES, Caller
from vini.rules.errors import Invalid, Mismatch, Unauthenticated

__all__ = [
    "ACTIONS", "Caller", "EVERYWHERE", "Invalid", "Mismatch", "SCOPES", "Target", "Unauthenticated", "allows", "may",
    "of_node", "of_person", "of_site", "of_slice", "seen",
]  # fmt: skip
