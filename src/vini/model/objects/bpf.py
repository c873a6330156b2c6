"""A sliver's eBPF programs."""

from __future__ import annotations

from typing import ClassVar, Literal

from vini.model.asked import BUDGET_KPPS
from vini.model.objects.base import Object
from vini.model.value import Key, Value


class BpfVif(Value, frozen=True):
    """One vif of a sliver as its programs know it, by its place in the list."""

    dev: str
    index: int
    mac: str
    peer: str  # the MAC address of the link's other end


class BpfRow(Value, frozen=True):
    """What a map holds from the start; hexadecimal."""

    map: str
    key: str
    value: str


class Bpf(Object, frozen=True):
    """The eBPF programs and maps of a sliver, compiled on the node if need be, checked against the policy, loaded.

    Maps of the same name and shape outlive a change of `source`.
    """

    in_place: ClassVar[frozenset[str]] = frozenset({"source", "vifs", "rows", "budget_kpps"})
    falls: ClassVar[bool] = False
    ns: str
    source: str  # path of a File of the sliver: C, or an object file in base64
    hook: Literal["tc", "xdp"]  # where its inputs run
    vifs: tuple[BpfVif, ...]
    rows: tuple[BpfRow, ...] = ()
    budget_kpps: int = BUDGET_KPPS  # of all its vifs together

    @property
    def key(self) -> Key:
        return ("bpf", self.ns)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns), ("file", self.ns, self.source))


class Hook(Object, frozen=True):
    """One program of a sliver's Bpf at work on what enters or leaves by a vif."""

    in_place: ClassVar[frozenset[str]] = frozenset({"function"})
    ns: str
    dev: str
    direction: Literal["input", "output"]
    hook: Literal["tc", "xdp"]
    function: str

    @property
    def key(self) -> Key:
        return ("hook", self.ns, self.dev, self.direction)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("bpf", self.ns), ("interface", self.ns, self.dev))
