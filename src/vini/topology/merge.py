"""Defaults and groups: what a sliver or link says, on top of what it inherits.

Mappings (routing, its raw files, files, environment) merge key by key; lists and single values replace.
"""

from __future__ import annotations

from vini.text.mistakes import Mistakes, quote
from vini.text.schema import Fields, Found


def overlay(below: Fields, above: Fields) -> Fields:
    """`above` wins; where both hold mappings, those are merged in the same way."""
    merged = dict(below)
    for key, found in above.items():
        old = merged.get(key)
        if old is not None and isinstance(old.value, dict) and isinstance(found.value, dict):
            found = Found(overlay(old.value, found.value), found.at, found.key_at)
        merged[key] = found
    return merged


def inherit(own: Fields, defaults: Fields, groups: Fields, allowed: frozenset[str], mistakes: Mistakes) -> Fields:
    """`own` over its groups (a later one wins) over `defaults`; `allowed` are the keys it may inherit."""
    merged = defaults
    for reference in own["groups"].value if "groups" in own else ():
        group = groups.get(str(reference.value))
        if group is None:
            what = f"There is no group {quote(reference.value)}."
            mistakes.unknown(reference.at, what, reference.value, groups)
            continue
        if misplaced := sorted(group.value.keys() - allowed):
            what = f"The group {quote(reference.value)} sets '{misplaced[0]}', which this can't have."
            mistakes.add(reference.at, what, "keep one group for slivers and another for links")
        merged = overlay(merged, {k: v for k, v in group.value.items() if k in allowed})
    return overlay(merged, own)


def section(fields: Fields, key: str) -> Fields:
    """The mapping at `key`; empty where there is none."""
    return fields[key].value or {} if key in fields else {}
