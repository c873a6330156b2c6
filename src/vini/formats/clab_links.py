"""Containerlab links (https://containerlab.dev/manual/topo-def-file/#links): short and extended form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice

from vini import names
from vini.formats.clab_yaml import Fields, fields, items, text, whole
from vini.formats.imported import MOST_COMPARED, several, tally
from vini.formats.naming import settle
from vini.model import End, Link, Value
from vini.text.mistakes import Mark, Mistakes, Wrong, quote
from vini.text.yamlplaces import Mapping as YamlMapping
from vini.text.yamlplaces import Node
from vini.topology import LEAST_MTU_V6
from vini.topology.scalars import ADDRESS, RESERVED_VIFS

_SPECIAL = ("host", "mgmt-net", "macvlan", "vxlan", "vxlan-stitch", "veth-stitch", "dummy")
_READ = {"type", "endpoints", "mtu", "ipv4", "ipv6"}
_READ_OF_END = {"node", "interface", "ipv4", "ipv6"}


class _Endpoint(Value, frozen=True):
    node: str
    interface: str
    addresses: tuple[str, ...]
    at: Mark
    unread: tuple[str, ...] = ()


class Wiring:
    """Reads links between known nodes; `name_of` maps nodes to slivers, `outside` are known but no slivers."""

    def __init__(self, name_of: Mapping[str, str], outside: frozenset[str], mistakes: Mistakes):
        self.name_of, self.outside, self.mistakes = name_of, outside, mistakes
        self.vifs: dict[tuple[str, str], str] = {}  # (sliver, vif) -> interface as the file calls it
        self.dropped: list[str] = []  # why, one a link
        self.unread: list[str] = []
        self.renamed: dict[str, str] = {}
        self.without_mtu = 0
        self.raised_mtus = 0
        self.loops = 0

    def links(self, nodes: tuple[Node, ...]) -> tuple[Link, ...]:
        """The links that join two slivers."""
        return settle(link for node in nodes if (link := self._link(node)) is not None)

    def notes(self) -> list[str]:
        """What was not carried over."""
        notes = []
        if self.dropped:
            count = several(len(self.dropped), "link")
            notes.append(f"{count} dropped, leading out of the lab: {tally(self.dropped)}.")
        if self.loops:
            notes.append(f"{several(self.loops, 'link')} dropped: a link joins two different slivers.")
        if self.unread:
            notes.append(f"Settings of links not carried over: {tally(self.unread)}.")
        if self.renamed:
            pairs = ", ".join(f"{old} is now {new}" for old, new in self.renamed.items())
            notes.append(f"Interfaces renamed, since Linux can't call them so: {pairs}.")
        if self.raised_mtus:
            raised = several(self.raised_mtus, "link")
            notes.append(f"The MTU of {raised} was raised to {LEAST_MTU_V6}, the least that IPv6 can do with.")
        if self.without_mtu:
            notes.append(f"The MTU of {several(self.without_mtu, 'link')} is 1500; containerlab's default is 9500.")
        return notes

    def _link(self, node: Node) -> Link | None:
        own = fields(node, "A link", self.mistakes)
        kind = text(own.get("type"), "type", self.mistakes) or "veth"
        if kind in _SPECIAL:
            self.dropped.append(kind)
            return None
        if kind != "veth":
            self.mistakes.unknown(node.at, f"{quote(kind)} is no type of link.", kind, ("veth", *_SPECIAL))
            return None
        ends = self._endpoints(own, node)
        if ends is None or not self._joins_slivers(ends):
            return None
        self.unread += [key for key in own if key not in _READ] + [key for e in ends for key in e.unread]
        mtu = whole(own.get("mtu"), "mtu", 68, 65535, self.mistakes)
        self.without_mtu += mtu is None
        a, b = (self._end(e, i, own) for i, e in enumerate(ends))
        if mtu is not None and mtu < LEAST_MTU_V6:
            self.raised_mtus += 1
            mtu = LEAST_MTU_V6
        return Link((a, b)) if mtu is None else Link((a, b), mtu=mtu)

    def _endpoints(self, own: Fields, node: Node) -> tuple[_Endpoint, _Endpoint] | None:
        found = [self._endpoint(e) for e in items(own.get("endpoints"), "endpoints", self.mistakes)]
        if len(found) != 2:
            hint = 'endpoints: ["a:eth1", "b:eth1"]'
            self.mistakes.add(node.at, f"This link has {several(len(found), 'endpoint')}; it must have two.", hint)
            return None
        a, b = found
        return (a, b) if a is not None and b is not None else None

    def _endpoint(self, node: Node) -> _Endpoint | None:
        if isinstance(node, YamlMapping):
            own = fields(node, "An endpoint", self.mistakes)
            name, interface = (text(own.get(k), k, self.mistakes) for k in ("node", "interface"))
            addresses = tuple(a for k in ("ipv4", "ipv6") if (a := self._address(own.get(k))))
            unread = tuple(key for key in own if key not in _READ_OF_END)
        else:
            name, _, interface = text(node, "An endpoint", self.mistakes).partition(":")
            addresses, unread = (), ()
        if not name or (not interface and name not in _SPECIAL):
            self.mistakes.add(node.at, "This endpoint lacks a node or an interface.", 'write "node:interface"')
            return None
        return _Endpoint(name, interface, addresses, node.at, unread)

    def _address(self, node: Node | None) -> str:
        if node is None or not (cidr := text(node, "An address", self.mistakes)):
            return ""
        try:
            address: str = ADDRESS.read(cidr)
        except Wrong as wrong:
            self.mistakes.add(node.at, str(wrong), wrong.hint)
            return ""
        return address

    def _joins_slivers(self, ends: tuple[_Endpoint, _Endpoint]) -> bool:
        """False, and noted, for links that lead to the machine, to nowhere, or back."""
        for end in ends:
            if end.node not in self.name_of:
                if end.node in self.outside or end.node in _SPECIAL:
                    self.dropped.append(end.node)
                else:
                    what = f"This link ends at {quote(end.node)}, but there is no such node."
                    self.mistakes.unknown(end.at, what, end.node, islice(self.name_of, MOST_COMPARED))
                return False
        if ends[0].node == ends[1].node:
            self.loops += 1
            return False
        return True

    def _end(self, end: _Endpoint, i: int, own: Fields) -> End:
        sliver = self.name_of[end.node]
        addresses = list(end.addresses)
        for key in ("ipv4", "ipv6"):
            of_link = items(own.get(key), key, self.mistakes)
            if i < len(of_link) and (address := self._address(of_link[i])):
                addresses.append(address)
        return End(sliver, self._vif(sliver, end), tuple(addresses))

    def _vif(self, sliver: str, end: _Endpoint) -> str:
        vif = re.sub(r"[^A-Za-z0-9_.-]", "-", end.interface)
        good = names.VIF_NAME.match(vif) and vif not in RESERVED_VIFS
        vif = vif if good else f"vif{names.digest('vif', end.interface) % 16**8:08x}"
        if (sliver, vif) in self.vifs:
            hint = "give each link its own interface"
            self.mistakes.add(end.at, f"The interface {quote(f'{end.node}:{end.interface}')} is used twice.", hint)
        self.vifs[sliver, vif] = end.interface
        if vif != end.interface:
            self.renamed[f"{end.node}:{end.interface}"] = vif
        return vif
