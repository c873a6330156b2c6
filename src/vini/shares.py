"""What slivers may send by the uplinks of their nodes: wishes -> Shares.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from vini.model import Gretap, Node, Outside, Share, Sliver, Topology, Traffic, Unsupported, Vxlan, VxlanXdp

Exit = Vxlan | VxlanXdp | Gretap | Outside


def shares(
    topology: Topology, where: Mapping[str, Node], ways_out: Mapping[str, Collection[Exit]]
) -> Iterator[tuple[str, Share]]:
    """Each with its node, of slivers that have a way out of theirs.

    Without a wish one has it too where the node's operator has said what the uplink carries: else it could take what
    is others' own.  And where another of its slice on the node has a wish and both send by one encrypted way: there
    nothing passes that has no class.  Raises Unsupported where a wish can't be kept.
    """
    asking = {name for name, sliver in topology.slivers.items() if sliver.network != Traffic()}
    encrypting = {where[name].name for name in asking if _through(ways_out[name])}
    for name, sliver in topology.slivers.items():
        node, mine = where[name], ways_out[name]
        if name in asking and mine:
            _check(node, sliver, mine)
        elif not (node.rate_mbit and "shares" in node.capabilities or node.name in encrypting and _through(mine)):
            continue
        yield from ((node.name, made) for made in _share(f"{topology.name}.{name}", node, sliver, mine))


def _share(ns: str, node: Node, sliver: Sliver, mine: Iterable[Exit]) -> Iterator[Share]:
    seen = [o for o in mine if _is_seen(o, node)]
    numbers = sorted(number for o in seen if (number := _number(o)))
    if seen:
        wish = sliver.network
        own, most = round(wish.min_mbit * 1000), round(wish.max_mbit * 1000)
        outside = len(numbers) < len(seen)
        yield Share(ns, own, most, wish.weight, wish.daily_mb, tuple(numbers), outside, _through(seen))


def _check(node: Node, sliver: Sliver, mine: Iterable[Exit]) -> None:
    what = f"Sliver {sliver.name!r} says what it may send (`network:`)"
    if "shares" not in node.capabilities:
        raise Unsupported(
            f"{what}, which node {node.name!r} can't keep it to; `modprobe -a ifb sch_htb act_mirred cls_bpf` "
            "there, and look at `vini doctor`."
        )
    if sliver.network.min_mbit and not node.rate_mbit:
        raise Unsupported(
            f"Sliver {sliver.name!r} asks for {sliver.network.min_mbit:g} Mbit/s of its own, but nobody has said what "
            f"the uplink of node {node.name!r} carries; there: `vini node uplink --rate 1gbit`, or leave `min` out."
        )
    if not all(_is_seen(o, node) for o in mine):
        encrypted = f"Upgrade node {node.name!r} (`vini doctor` there, line `shares-wireguard`), or c"
        raise Unsupported(
            f"{what}, but it has links to other nodes by a tunnel that node {node.name!r} can't count by sliver. "
            f"{encrypted if _through(mine) else 'C'}hoose `tunnel: vxlan` or `tunnel: gretap`, or leave `network` out."
        )


def _is_seen(o: Exit, node: Node) -> bool:
    """Whether the node can tell whose packets are that leave so."""
    return not isinstance(o, VxlanXdp) and (not _through([o]) or "shares-wireguard" in node.capabilities)


def _number(o: Exit) -> tuple[int, int] | None:
    """By which a tunnel's packets are told."""
    if isinstance(o, Vxlan):
        return o.port, o.vni
    return (0, o.gre_key) if isinstance(o, Gretap) else None


def _through(mine: Iterable[Exit]) -> str:
    """The namespace of the slice's encrypted way, where it goes by one."""
    return next((o.through for o in mine if isinstance(o, Vxlan)), "")
