"""Vifs and lo: what one is now, and the requests that make it what it is to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from vini.model import AnyObject, Interface, Key, is_sliver
from vini.node import connected, ethtool, rtnl
from vini.node.drivers import bridge, clamp, crossing, tunnel
from vini.node.drivers.births import mend_vif, vif_is_right
from vini.node.drivers.look import Settings, forwarding, indexes, look
from vini.node.listeners import Patience
from vini.node.netlink import Socket
from vini.node.procfs import NetSettings

_PAIR_TO_NODE = ("vxlanxdp",)  # a vif of such a tunnel is one end of a pair, whose other end is in no sliver


def ensuring(
    socket: Socket, batch: Sequence[Interface], settings: NetSettings, clamps: clamp.Clamp, patience: Patience
) -> Iterator[tuple[AnyObject, bytes]]:
    """What is due of them in one namespace; ports are policed, and offloads set, on the way."""
    seen = look(socket) if any(o.master for o in batch) or not _is_new(socket) else None
    links = {link.dev: link for link in seen.links.values()} if seen else {}
    if seen:
        if any(o.dev in links and o.dev != "lo" and not links[o.dev].alias for o in batch):  # made, and no more yet
            patience.wait(batch[0].ns)
        _bridge_ports(socket, batch, links, seen.links)
        _mend_settings([links[o.dev] for o in batch if o.dev in links], forwarding(socket)[0], settings)
    leading = [o for o in batch if _is_of_tunnel(o) or o.wire[:1] == _PAIR_TO_NODE]
    index = indexes(leading)
    clamps.ensure(socket, {index[o.dev]: o.mtu for o in leading if index[o.dev]})
    for o in batch:
        old = links.get(o.dev)
        if o.dev != "lo" and (old is not None or seen is None):
            _set_offloads(socket.fileno(), o, is_new=old is None)
        alias, master = "vini " + "/".join(o.wire), links[o.master].index if o.master in links else None
        yield o, rtnl.set_link(o.dev, mtu=o.mtu, up=o.up, alias=alias, master=master, gso_max=_gso_max(o, old))
        if seen and o.up and o.dev in links:
            yield from ((o, request) for request in connected.mend_link(links[o.dev], seen))


def taking_in(socket: Socket, batch: Sequence[AnyObject]) -> Iterator[tuple[AnyObject, bytes]]:
    """Let vifs take the frames that XDP redirects to them.

    That makes the *other* end a target of redirects (veth_set_features in the kernel's veth.c), but only while both
    ends are up: an end that comes up afterwards forgets it.  So it is done anew, once all ends are up.
    """
    for o in batch:
        if isinstance(o, Interface) and o.gro:
            ethtool.set_gro(socket.fileno(), o.dev, False)
            ethtool.set_gro(socket.fileno(), o.dev, True)
    yield from ()


def _set_offloads(socket: int, o: Interface, is_new: bool) -> None:
    """What of ethtool's settings differs; a new veth has neither.  GRO is turned on later, once all is up.  A tunnel
    always has it."""
    if not is_new and not o.gro and not _is_of_tunnel(o) and ethtool.has_gro(socket, o.dev):
        ethtool.set_gro(socket, o.dev, False)
    if o.finished != (not is_new and ethtool.finishes_checksums(socket, o.dev)):
        ethtool.set_finishing_checksums(socket, o.dev, o.finished)


def _is_of_tunnel(o: Interface) -> bool:
    return o.wire[:1] in (("vxlan",), ("gretap",))


def _bridge_ports(
    socket: Socket, batch: Sequence[Interface], links: Mapping[str, rtnl.SeenLink], seen: bridge.Links
) -> None:
    """Police those that are to be ports, before; take those off that are not."""
    for master in {o.master for o in batch} & links.keys():
        joining = [links[o.dev].index for o in batch if o.master == master and o.dev in links]
        bridge.police_ports(socket, links[master], seen, joining)
    bridge.leave(socket, [links[o.dev] for o in batch if not o.master and o.dev in links and links[o.dev].master])


def _mend_settings(links: Sequence[rtnl.SeenLink], forwards: Settings, settings: NetSettings) -> None:
    """Have each vif forward as its sliver does, and what it was born with."""
    settings.entered()
    for link in links:
        own = rtnl.family_settings(link)
        for family, has, (_, due) in zip(("ipv4", "ipv6"), own[:2], forwards, strict=True):
            if has not in ("", due):
                settings.write(f"{family}/conf/{link.dev}/forwarding", due)
        if link.index != 1 and not vif_is_right(own):
            mend_vif(link.dev, settings)


def _forwards(own: rtnl.FamilySettings, forwards: Settings) -> bool:
    return all(has in ("", due) for has, (_, due) in zip(own[:2], forwards, strict=True))


def _splits(link: rtnl.SeenLink) -> bool:
    return link.gso_max == rtnl.SPLIT


def _gso_max(o: Interface, old: rtnl.SeenLink | None) -> int | None:
    """What is to be set; None where it is so."""
    if o.split == (old is not None and _splits(old)):
        return None
    return rtnl.SPLIT if o.split else rtnl.WHOLE


def observed(ns: str, link: rtnl.SeenLink, seen: connected.Seen, socket: Socket, forwards: Settings) -> Interface:
    """That interface, of all that the namespace has; `forwards`: whether it forwards.  OSError where it vanished."""
    master = seen.links.get(link.master)
    own = rtnl.family_settings(link)
    is_tunnel = tunnel.is_ours(link)
    clamps = is_tunnel or _wire(ns, link)[:1] == _PAIR_TO_NODE
    return Interface(
        ns,
        link.dev,
        _wire(ns, link),
        link.mtu,
        link.up,
        connected.is_complete(link, seen) and (not clamps or clamp.is_right(socket, link.index, link.mtu)),
        master.dev if master else f"#{link.master}" if link.master else "",
        link.index != 1 and not is_tunnel and ethtool.has_gro(socket.fileno(), link.dev),
        _splits(link),
        link.index != 1 and ethtool.finishes_checksums(socket.fileno(), link.dev),
        link.index == 1 or link.arp,
        link.index == 1 or link.multicast,
        _forwards(own, forwards),
        link.index == 1 or vif_is_right(own),  # lo is older than what vifs inherit
        link.index != 1 and not is_sliver(ns) and crossing.is_there(socket, link),
    )


def _is_new(socket: Socket) -> bool:
    """Whether lo is down: so a namespace is born, and nothing in it can lack what the kernel gives.  One look at
    all would cost more than all the rest."""
    return not rtnl.is_up(socket.ask(rtnl.get_link(1)))


def _wire(ns: str, link: rtnl.SeenLink) -> Key:
    if link.index == 1:
        return ("netns", ns)
    kind, _, rest = link.alias.partition(" ")
    return tuple(rest.split("/")) if kind == "vini" else ()
