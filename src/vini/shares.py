"""What slivers may send by the uplinks of their nodes: wishes -> Shares.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from vini.model import Gretap, Node, Outside, Share, Sliver, Traffic, Unsupported, Vxlan, VxlanXdp

Exit = Vxlan | VxlanXdp | Gretap | Outside


def share(slice_: str, node: Node, sliver: Sliver, mine: Collection[Exit]) -> Iterator[Share]:
    """The sliver's Share, where it has a way out of its node; `mine` are all that it has.

    Without a wish it has one too where the node's operator has said what the uplink carries: else it could take what
    is others' own.  Raises Unsupported where a wish can't be kept.
    """
    ns, wish = f"{slice_}.{sliver.name}", sliver.network
    asks = wish != Traffic()
    if not mine or not (asks or (node.rate_mbit and "shares" in node.capabilities)):
        return
    if asks:
        _check(node, sliver, mine)
    numbers = sorted(number for o in mine if (number := _number(o)))
    outside = any(isinstance(o, Outside) for o in mine)
    if numbers or outside:
        own, most = round(wish.min_mbit * 1000), round(wish.max_mbit * 1000)
        yield Share(ns, own, most, wish.weight, wish.daily_mb, tuple(numbers), outside)


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
    if any(not _number(o) and not isinstance(o, Outside) for o in mine):
        raise Unsupported(
            f"{what}, but it has links to other nodes by a tunnel that the node can't count by sliver; choose "
            "`tunnel: vxlan` or `tunnel: gretap`, or leave `network` out."
        )


def _number(o: Exit) -> tuple[int, int] | None:
    """By which the tunnel's packets are told; None where none is seen as it leaves."""
    if isinstance(o, Vxlan) and not o.through:
        return o.port, o.vni
    return (0, o.gre_key) if isinstance(o, Gretap) else None
