"""A sliver's network namespace and its settings."""

from __future__ import annotations

from typing import ClassVar

from vini.model.objects.base import Object
from vini.model.value import Key


class Netns(Object, frozen=True):
    """A network namespace: `slice.sliver`; on the machine `<mark>.slice.sliver` in /run/netns."""

    in_place: ClassVar[frozenset[str]] = frozenset({"named"})
    falls: ClassVar[bool] = False
    ns: str
    named: bool = True  # whether that name leads to it; always wanted so
    tenant: bool = False  # a user namespace of the sliver's own owns it, so that a container's root rules it

    @property
    def key(self) -> Key:
        return ("netns", self.ns)


class Sysctl(Object, frozen=True):
    """The settings below /proc/sys/net that we care for, of one namespace."""

    in_place: ClassVar[frozenset[str]] = frozenset({"settings", "as_born"})
    ns: str
    settings: tuple[tuple[str, str], ...]  # sorted; names of SYSCTLS
    as_born: bool = True  # the others are as every sliver is born with (drivers/births.py); always wanted so

    @property
    def key(self) -> Key:
        return ("sysctl", self.ns)

    @property
    def on(self) -> tuple[Key, ...]:
        return (("netns", self.ns),)


SYSCTLS = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")
