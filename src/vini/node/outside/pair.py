"""The veth pair between a sliver and its node: the sliver's end is `outside`, the node's end is in its own namespace.

Its interface group is another than that of links, whose driver would take it for half a pair.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from vini.model import OUTSIDE, CapacityError, DriverError, Outside, OutsideGrant
from vini.names import digest
from vini.node import netns, rtnl, rtnl_addresses, rtnl_routes
from vini.node.netlink import Socket
from vini.node.outside import rules
from vini.node.outside.record import Attached
from vini.node.place import OUTSIDE_GROUP

_PATIENCE_S = 30.0  # for ip(8)
_PROTOCOL = 87  # of the route: the topology's own are 86
_METRIC = 4096  # every route of the slice's own comes first
_WAYS = {4: "0.0.0.0/0", 6: "::/0"}
_PLACES = rules.RANGE.num_addresses // 2
_SETTINGS = {  # of the node's end
    "ipv4/conf/{dev}/forwarding": "1",
    "ipv4/conf/{dev}/arp_ignore": "1",  # no word of the node's other addresses
    "ipv4/conf/{dev}/rp_filter": "1",
    "ipv4/conf/{dev}/accept_redirects": "0",
    "ipv4/conf/{dev}/send_redirects": "0",
}
_SETTINGS6 = {  # where IPv6 passes, too
    "ipv6/conf/{dev}/addr_gen_mode": "1",  # none: one address, and no word of another
    "ipv6/conf/{dev}/accept_ra": "0",
    "ipv6/conf/{dev}/accept_redirects": "0",
    "ipv6/conf/{dev}/force_forwarding": "1",
    "ipv6/conf/{dev}/disable_ipv6": "0",  # last
}
_NO_SETTINGS6 = {"ipv6/conf/{dev}/disable_ipv6": "1"}


def chosen(o: Outside, mark: str, taken: Iterable[str]) -> Attached:
    """With the first free pair of addresses, from one on that its name chooses: so one that is freed is not soon
    another's, and what was written down by address stays true."""
    used = set(taken)
    first = digest("outside address", mark, o.ns)
    for i in range(_PLACES):
        gateway = IPv4Address(int(rules.RANGE.network_address) + 2 * ((first + i) % _PLACES))
        if str(gateway) not in used:
            return Attached(o, str(gateway + 1), str(gateway))
    raise CapacityError("this node has no address left for one more sliver's way to the world")


def taken() -> set[str]:
    """Addresses in the node's namespace that it has chosen already, whoever asked: two agents share it."""
    with Socket() as socket:
        seen = (address.cidr.partition("/")[0] for address in rtnl_addresses.addresses(socket))
        return {a for a in seen if ":" not in a and IPv4Address(a) in rules.RANGE}


def make(vif: Attached, pin: Path, mark: str, here: Seen | None) -> bool:
    """Make it, or put right what is not as it should be; this thread is in the node's namespace.  `here` is its end.
    Whether it is a new one.

    One that is new carries nothing before `raise_`: the rules at the node's end come first.
    """
    o, dev = vif.object, rules.dev_name(mark, vif.object.ns)
    new = not _is_pair(vif, pin, here)
    if new:
        remove(dev)
        _ip(pin, [f"link delete {OUTSIDE} group {OUTSIDE_GROUP}"], forgiving=True)
        _add(o, dev, rules.gateway_mac(mark, o.ns), pin)
    _set(dev, _settings(vif))
    with netns.back_home():
        netns.enter(pin)
        if 6 in o.grant.versions:
            _set(OUTSIDE, {"ipv6/conf/{dev}/disable_ipv6": "0"})
        with Socket() as socket:
            old = {way for way, _ in _default_routes(socket, o.index)}
    mine, theirs = _ipv6(vif, mark)
    _ip(None, [f"address replace {vif.gateway}/31 dev {dev}", f"link set {dev} alias {o.ns}", *mine])
    ways = _ways(vif)
    _ip(pin, [  # the first one where there is IPv6, which neither every kernel nor every MTU has
        f"link set {OUTSIDE} addrgenmode none",
        *(f"route delete {way} dev {OUTSIDE} proto {_PROTOCOL}" for way in sorted(old - ways.keys())),
    ], forgiving=True)  # fmt: skip
    _ip(pin, [
        f"link set {OUTSIDE} up",
        f"address replace {vif.address}/31 dev {OUTSIDE}",
        *theirs,
        *(f"route replace {w} via {via} dev {OUTSIDE} metric {_METRIC} proto {_PROTOCOL}" for w, via in ways.items()),
    ])  # fmt: skip
    return new


def _ipv6(vif: Attached, mark: str) -> tuple[list[str], list[str]]:
    """What ip(8) is to do with IPv6 at the node's end, and at the sliver's.

    The ends know each other's MAC address by themselves, so none of them has to believe the other.
    """
    o, near, far = vif.object, rules.ip6(vif.gateway), rules.ip6(vif.address)
    if 6 not in o.grant.versions:
        return [], [f"address flush dev {OUTSIDE} to {rules.RANGE6}"]
    dev, gateway_mac = rules.dev_name(mark, o.ns), rules.gateway_mac(mark, o.ns)
    return [
        f"address replace {near}/127 dev {dev} nodad",
        f"neighbor replace {far} lladdr {o.mac} dev {dev} nud permanent",
    ], [
        f"address replace {far}/127 dev {OUTSIDE} nodad",
        f"neighbor replace {near} lladdr {gateway_mac} dev {OUTSIDE} nud permanent",
    ]  # fmt: skip


def _set(dev: str, settings: Mapping[str, str]) -> None:
    for name, value in settings.items():
        with suppress(FileNotFoundError):  # a kernel without IPv6, or one that can't do that
            Path("/proc/sys/net", name.format(dev=dev)).write_text(value)


def _settings(vif: Attached) -> dict[str, str]:
    return _SETTINGS | (_SETTINGS6 if 6 in vif.object.grant.versions else _NO_SETTINGS6)


def _read(name: str, dev: str) -> str:
    try:
        return Path("/proc/sys/net", name.format(dev=dev)).read_text().strip()
    except OSError:  # as in `_set`; an interface that is not there is told of otherwise
        return ""


def _ways(vif: Attached) -> dict[str, str]:
    """Where to -> by which gateway, of its default routes: those that the grant lets it use, so that a program which
    tries the other IP version first hears at once that it leads nowhere."""
    via = {4: vif.gateway, 6: rules.ip6(vif.gateway)}
    return {_WAYS[version]: via[version] for version in sorted(vif.object.grant.versions)}


def raise_(vif: Attached, mark: str) -> None:
    """From now on it carries what the rules let through."""
    _ip(None, [f"link set {rules.dev_name(mark, vif.object.ns)} up"])


def remove(dev: str) -> None:
    """Both ends of it; this thread is in the node's namespace."""
    with Socket() as socket:
        socket.transact([rtnl.delete_link(dev)])


def strays(mark: str) -> set[str]:
    """The slivers that the node has an end for, whatever is written down of that."""
    with Socket() as socket:
        links = rtnl.links(socket)
    return {x.alias for x in links if x.group == OUTSIDE_GROUP and x.dev == rules.dev_name(mark, x.alias)}


def remnant(ns: str) -> Outside:
    """What the node still has for a sliver, whatever that is: nobody wants it so."""
    return Outside(ns, "", 0, OutsideGrant(()), whole=False)


def is_whole(vif: Attached, pin: Path, dev: str, here: Seen | None) -> bool | None:
    """Whether both ends are as they should be, of which `here` is the node's, by that name; None where the sliver has
    no such vif.  This thread is in the node's namespace."""
    settled = all(_read(name, dev) in (value, "") for name, value in _settings(vif).items())
    with netns.back_home():
        try:
            netns.enter(pin)
        except OSError:
            return None
        with Socket() as socket:
            there, routes = _looked(socket).get(OUTSIDE), _default_routes(socket, vif.object.index)
    if there is None:
        return None
    up = here is not None and here.up and there.up and _addresses(vif, vif.gateway) <= here.cidrs
    ours = (there.mac, there.index) == (vif.object.mac, vif.object.index)
    addressed = _addresses(vif, vif.address) <= there.cidrs
    ways = _ways(vif)
    routed = ways.items() <= routes and {way for way, _ in routes} <= ways.keys()
    return settled and up and ours and addressed and routed


def _default_routes(socket: Socket, outside: int) -> set[tuple[str, str]]:
    """Where to and by which gateway, of those with our protocol in a socket's namespace that lead nowhere but by that
    interface.  The sliver may have others besides."""
    routes = rtnl_routes.routes(socket, protocol=_PROTOCOL)
    return {(r.to, r.via) for r in routes if r.to in _WAYS.values() and [hop.index for hop in r.hops] == [outside]}


def _addresses(vif: Attached, address: str) -> set[str]:
    """Those of one end, by its IPv4 address."""
    return {f"{address}/31"} | ({f"{rules.ip6(address)}/127"} if 6 in vif.object.grant.versions else set())


class Seen:
    """One end."""

    def __init__(self, link: rtnl.SeenLink, cidrs: set[str]):
        self.up, self.mac, self.index, self.peer, self.cidrs = link.up, link.mac, link.index, link.peer, cidrs


def seen() -> dict[str, Seen]:
    """The node's ends, by name.  One look at all of them: each would have to be looked for among all interfaces."""
    with netns.back_home(), Socket() as home:
        return _looked(home)


def _looked(socket: Socket) -> dict[str, Seen]:
    links = [link for link in rtnl.links(socket) if link.group == OUTSIDE_GROUP]
    cidrs: dict[int, set[str]] = {}
    for address in rtnl_addresses.addresses(socket) if links else ():
        cidrs.setdefault(address.index, set()).add(address.cidr)
    return {link.dev: Seen(link, cidrs.get(link.index, set())) for link in links}


def _is_pair(vif: Attached, pin: Path, here: Seen | None) -> bool:
    """The two ends are there and belong together, and the sliver's has its own MAC address and index."""
    with netns.back_home():
        netns.enter(pin)
        with Socket() as socket:
            there = _looked(socket).get(OUTSIDE)
    if here is None or there is None or (here.peer, there.peer) != (there.index, here.index):
        return False
    return (there.mac, there.index) == (vif.object.mac, vif.object.index)


def _add(o: Outside, dev: str, gateway_mac: str, pin: Path) -> None:
    with netns.opened(Path("/proc/thread-self/ns/net")) as here, netns.opened(pin) as there, Socket() as socket:
        ends = (OUTSIDE, dev), (o.index, 0), (o.mac, gateway_mac)  # the kernel chooses only the second's index
        (errno,) = socket.transact([rtnl.add_veth((there, here), *ends, group=OUTSIDE_GROUP)])
    if errno:
        raise DriverError(f"the kernel refused a pair of interfaces: {os.strerror(errno)}")


def _ip(pin: Path | None, commands: list[str], forgiving: bool = False) -> None:
    """ip(8) in the node's namespace, or in that one."""
    with netns.back_home():
        if pin is not None:
            netns.enter(pin)
        try:
            done = subprocess.run(
                ["ip", *(["-force"] if forgiving else []), "-batch", "-"],
                input="\n".join(commands), capture_output=True, text=True, timeout=_PATIENCE_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired as e:
            raise DriverError(f"ip did not end within {_PATIENCE_S:g} s, doing {commands[0]!r}") from e
    if done.returncode and not forgiving:
        said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0]  # a killed one says nothing
        raise DriverError(f"ip refused {commands[0]!r}: {said}")
