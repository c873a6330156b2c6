"""What all nouns are: frozen values that survive the wire."""

from __future__ import annotations

from msgspec import Struct

Key = tuple[str, ...]


class Value(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An immutable value, compared by its contents, that survives the wire (JSON) unchanged."""
