"""What every object of a node has in common."""

from __future__ import annotations

from typing import ClassVar

from vini.model.value import Key, Value


class Object(Value, frozen=True, tag_field="kind", tag=str.lower):
    """One thing in a kernel or a process table.

    `key` says which one, `on` names the keys it stands on, `in_place` the fields that may change
    under a living object; another difference means that it is rebuilt.  An object that `falls`
    vanishes by itself when all that it stands on is removed.
    """

    in_place: ClassVar[frozenset[str]] = frozenset()
    falls: ClassVar[bool] = True

    @property
    def key(self) -> Key:
        raise NotImplementedError

    @property
    def on(self) -> tuple[Key, ...]:
        return ()

    @property
    def changeable(self) -> frozenset[str]:
        """The fields that may differ without a rebuild; by default the kind's `in_place`."""
        return self.in_place

    @property
    def slivers(self) -> tuple[str, ...]:
        """The namespaces (`slice.sliver`) whose users notice when this object is unwell."""
        return (self.ns,)  # type: ignore[attr-defined]
