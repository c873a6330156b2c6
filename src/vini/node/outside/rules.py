"""What stands between a slice's vifs to the world and the world, as nftables(8) reads it.  Pure.

Two tables for each slice on a node.  The one of the family netdev sees every frame that a sliver sends first, before
the node's stack, its connection tracking and its ARP do: there it is decided whether the frame is the sliver's own and
within the budgets, and whether it is for the node itself.  The other one, of the family inet, decides by the grant
where packets may go, and translates their source addresses.  Somebody else's packets with a sliver's address, which a
node that is a router would send on as the sliver's, it drops.

Fragments don't leave: those that never become a packet would fill the memory that the node has for its own.  Nor do
ICMP errors: one that quotes a packet of somebody else's connection would be believed, as it comes from the node.

IPv6 passes where the grant names prefixes of it, by rules of the same kind, and only TCP, UDP and ICMPv6 right behind
the IPv6 header: extension headers are fragments, ways past the destination (RFC 5095), or work for the node.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_network

from vini.model import OutsideGrant, Value
from vini.names import digest

PREFIX = "vinio"  # of the names of vifs at the node's end; the rest is a hash
RANGE = IPv4Network("198.18.0.0/15")  # for measurements of devices (RFC 2544), so in nobody's network: a /31 each
RANGE6 = IPv6Network("fd30:bc7a:e790::/48")  # unique and local (RFC 4193), by a number that was drawn once: a /127 each
_HERE = ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", str(RANGE), "224.0.0.0/3")  # never the world's
_SPECIAL = (  # IANA's registry of special-purpose IPv4 addresses (RFC 6890): what the public Internet does not have
    "10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16",
    "198.51.100.0/24", "203.0.113.0/24",
)  # fmt: skip
_HERE6 = (  # likewise; and those with an IPv4 address in them, which a translator or a tunnel would take out
    "::/8", "2001::/32", "2002::/16", "fe80::/10", "fec0::/10", "ff00::/8", str(RANGE6),
)  # fmt: skip
_SPECIAL6 = (  # all but 2000::/3, the public Internet, and what IANA keeps of that (RFC 6890)
    "::/3", "4000::/2", "8000::/1", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)  # fmt: skip
_TUNNELS = 4789  # UDP: VXLAN asks nobody who he is, at none of a node's addresses, of which the testbed knows one
GUARDS = {4: "inet", 6: "ip6"}  # IP version -> the family of the table with the rule for the whole node
COUNTERS = {
    "spoofed": "not the sliver's own: MAC or IP address, ARP, anything but IP",
    "refused": "where it may not go: not granted, or the node's own",
    "beyond": "over a budget: packets, bits, flows, bytes of the day",
    "unasked": "from the world, and no answer to anything",
}


class Port(Value, frozen=True):
    """The node's end of one sliver's vif."""

    ns: str
    dev: str
    mac: str  # of the sliver's end
    gateway_mac: str  # of this end
    address: str  # the sliver's
    gateway: str  # this end's


def ip6(address: str) -> str:
    """The IPv6 address that goes with an IPv4 one of RANGE, at either end: so it stays when that does."""
    return str(RANGE6.network_address + (int(IPv4Address(address)) - int(RANGE.network_address)))


def dev_name(mark: str, ns: str) -> str:
    """The name of the node's end of a sliver's vif: 15 characters, as long as there may be."""
    return f"{PREFIX}{digest('outside', mark, ns) % 16**10:010x}"


def gateway_mac(mark: str, ns: str) -> str:
    """A locally administered MAC address, other than any that slivers have."""
    return "06:" + (digest("outside mac", mark, ns) & 0xFFFFFFFFFF).to_bytes(5, "big").hex(":")


def table_name(mark: str, slice_: str) -> str:
    """Of both tables of a slice."""
    return f"{guard_name(mark)}.{slice_}"


def guard_name(mark: str) -> str:
    """Of the table with the rule for the whole node."""
    return f"vini.outside.{mark}"  # names of tables begin with a letter


def tables(
    mark: str, slice_: str, ports: Sequence[Port], grant: OutsideGrant, never: Iterable[str], used: int = 0,
    near: Iterable[str] = (),
) -> str:  # fmt: skip
    """The text that makes both tables, or makes them anew at one moment; `used` bytes of the day's are gone already.

    `near` has the IPv6 networks that the node is in: as private as those of IPv4 that have no public addresses.
    """
    second = _forward(table_name(mark, slice_), ports, grant, near)
    return f"{gone(mark, slice_, ['inet'])}{second}{entrances(mark, slice_, ports, grant, never, used)}"


def entrances(
    mark: str, slice_: str, ports: Sequence[Port], grant: OutsideGrant, never: Iterable[str], used: int = 0
) -> str:
    """Likewise, of the one that is bound to the vifs."""
    return gone(mark, slice_, ["netdev"]) + _ingress(table_name(mark, slice_), ports, grant, list(never), used)


def gone(mark: str, slice_: str, families: Iterable[str] = ("netdev", "inet")) -> str:
    """The text that takes them away, whether or not they are there."""
    name = table_name(mark, slice_)
    return "".join(f"add table {family} {name}\ndelete table {family} {name}\n" for family in families)


def guard(mark: str, version: int, theirs: Iterable[str] = ()) -> str:
    """A node that was no router of that IP version does not become one for others because some packets of ours pass
    through it.  What comes in by interfaces that somebody else lets forward goes on.

    What it bridges is none of that, but comes by here, too, with the bridge as both of its devices (br_netfilter, which
    hosts of containers and virtual machines have loaded).  That both are one bridge can't be asked for, so packets from
    one bridge to another are let through as well.
    """
    devs = ", ".join(
        f'"{dev}"' for dev in sorted(theirs) if re.fullmatch(r"[\w.-]+", dev)
    )  # as nft takes it for a name
    return f"""\
{unguard(mark, version)}table {GUARDS[version]} {guard_name(mark)} {{
  chain forward {{
    type filter hook forward priority -20; policy accept;
    {"meta nfproto != ipv4 accept" if version == 4 else ""}
    meta iifkind "bridge" meta oifkind "bridge" accept
    {f"iifname {{ {devs} }} accept" if devs else ""}
    iifname != "{PREFIX}*" oifname != "{PREFIX}*" drop
  }}
}}
"""


def unguard(mark: str, version: int) -> str:
    """The text that takes that away."""
    table = f"{GUARDS[version]} {guard_name(mark)}"
    return f"add table {table}\ndelete table {table}\n"


def _ingress(name: str, ports: Sequence[Port], grant: OutsideGrant, never: Sequence[str], used: int) -> str:
    day = f"quota today {{ over {grant.daily_mb * 10**6} bytes used {used} bytes; }}" if grant.daily_mb else ""
    spend = "quota name today counter name beyond drop" if grant.daily_mb else ""
    six = 6 in grant.versions
    chains = "".join(_entrance(port, six) for port in ports)
    return f"""\
table netdev {name} {{
  set never {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {_list(*_HERE, *_of(4, never))} }}; }}
  counter spoofed {{ }}
  counter refused {{ }}
  counter beyond {{ }}
  {_limits(grant)}
  {day}
  chain own {{
    ip daddr @never counter name refused drop
    fib daddr type != unicast counter name refused drop
    ip frag-off & 0x3fff != 0 counter name refused drop
    goto budgets
  }}
{_own6(never) if six else ""}  chain budgets {{
    limit name pps counter name beyond drop
    limit name bps counter name beyond drop
    {spend}
    accept
  }}
{chains}}}
"""


def _own6(never: Sequence[str]) -> str:
    """Where there is no route the node is to say so, by a packet that is to be forwarded: before the grant is asked,
    and out of what the node may say to all in a second, so not often."""
    return f"""\
  set never6 {{ type ipv6_addr; flags interval; auto-merge; elements = {{ {_list(*_HERE6, *_of(6, never))} }}; }}
  chain own6 {{
    ip6 daddr @never6 counter name refused drop
    fib daddr type != {{ unicast, unreachable }} counter name refused drop
    fib daddr type unreachable limit rate over 20/second burst 20 packets counter name refused drop
    ip6 nexthdr != {{ tcp, udp, icmpv6 }} counter name refused drop
    goto budgets
  }}
"""


def _entrance(port: Port, six: bool) -> str:
    return f"""\
  chain {port.dev} {{
    type filter hook ingress device "{port.dev}" priority -300; policy drop;
    ether saddr != {port.mac} counter name spoofed drop
    arp htype 1 arp ptype ip arp operation {{ request, reply }} arp saddr ether {port.mac} arp saddr ip {port.address} \
arp daddr ip {port.gateway} limit rate 20/second accept
    {_asks(port) if six else ""}
    ether daddr != {port.gateway_mac} counter name spoofed drop
    {f"ether type ip6 ip6 saddr {ip6(port.address)} goto own6" if six else ""}
    ether type != ip counter name spoofed drop
    ip saddr != {port.address} counter name spoofed drop
    goto own
  }}
"""


def _asks(port: Port) -> str:
    """It may ask for its gateway's MAC address (RFC 4861) and say nothing else: the node knows the sliver's by itself.
    Of a neighbour solicitation nft had no name for the target for long."""
    gateway = IPv6Address(ip6(port.gateway))
    asked = IPv6Address(int(IPv6Address("ff02::1:ff00:0")) | int(gateway) & 0xFFFFFF)
    return (
        f"ether type ip6 ip6 saddr {ip6(port.address)} ip6 daddr {{ {gateway}, {asked} }} ip6 nexthdr icmpv6 "
        "ip6 hoplimit 255 icmpv6 type nd-neighbor-solicit icmpv6 code 0 "
        f"@th,64,128 0x{int(gateway):032x} limit rate 20/second accept"
    )


def _limits(grant: OutsideGrant) -> str:
    """Bursts are what a tenth of a second holds, or some full segments, as veth pairs pass them whole; of bytes the
    kernel lets through a second's worth more at once (nft_limit_init)."""
    bytes_per_s = max(1, grant.rate_kbit * 125)
    return (
        f"limit pps {{ rate over {grant.packets_per_s}/second burst {max(5, grant.packets_per_s // 10)} packets; }}\n"
        f"  limit bps {{ rate over {bytes_per_s} bytes/second burst {max(200_000, bytes_per_s // 10)} bytes; }}"
    )


def _forward(name: str, ports: Sequence[Port], grant: OutsideGrant, near: Iterable[str]) -> str:
    devs = ", ".join(f'"{port.dev}"' for port in ports)
    where, source = _where("ip", _of(4, grant.to), _SPECIAL), _translated("ip", [port.address for port in ports])
    own = f"ip saddr {{ {', '.join(port.address for port in ports)} }}"
    strangers = f'{own} iifname != "{PREFIX}*" counter name unasked drop'
    six = 6 in grant.versions
    if six:
        own = f"ip6 saddr {{ {', '.join(ip6(port.address) for port in ports)} }}"
        strangers += f'\n    {own} iifname != "{PREFIX}*" counter name unasked drop'
        where += _where("ip6", _of(6, grant.to), (*_SPECIAL6, *near))
        source += _translated("ip6", [ip6(port.address) for port in ports])
    return f"""\
table inet {name} {{
  counter refused {{ }}
  counter beyond {{ }}
  counter unasked {{ }}
  {_limits(grant)}
  limit beginnings {{ rate over {grant.new_flows_per_s}/second burst {grant.new_flows_per_s} packets; }}
  chain forward {{
    type filter hook forward priority -10; policy accept;
    {strangers}
    iifname {{ {devs} }} goto leaving
    oifname {{ {devs} }} goto entering
  }}
  chain input {{
    type filter hook input priority -10; policy accept;
    {strangers}
  }}
  chain leaving {{
    oifname "{PREFIX}*" counter name refused drop
    ct state invalid counter name refused drop
    {where}counter name refused drop
  }}
  chain granted {{
    udp dport {_TUNNELS} counter name refused drop
    {_allowed(grant, six)}
    counter name refused drop
  }}
  chain flows {{
    ct state established accept
    limit name beginnings counter name beyond drop
    ct count over {grant.flows} counter name beyond drop
    accept
  }}
  chain entering {{
    ct state != {{ established, related }} counter name unasked drop
    limit name pps counter name beyond drop
    limit name bps counter name beyond drop
    accept
  }}
  chain source {{
    type nat hook postrouting priority 100; policy accept;
    {source}
  }}
}}
"""


def _where(ip: str, to: Sequence[str], special: Sequence[str]) -> str:
    """First what is named of the special prefixes, then none of these, then the others."""
    named: list[str] = []
    public: list[str] = []
    for prefix in to:
        (named if _is_among(prefix, special) else public).append(prefix)
    ways = ((named, "goto granted"), (special, "counter name refused drop"), (public, "goto granted"))
    return "".join(f"{ip} daddr {{ {_list(*prefixes)} }} {way}\n    " for prefixes, way in ways if prefixes)


def _translated(ip: str, addresses: Sequence[str]) -> str:
    return f'{ip} saddr {{ {", ".join(addresses)} }} oifname != "{PREFIX}*" masquerade\n    '


def _allowed(grant: OutsideGrant, six: bool) -> str:
    return "\n    ".join(_allow(word, six) for word in grant.allow)


def _allow(word: str, six: bool) -> str:
    protocol, _, ports = word.partition("/")
    if protocol == "icmp":
        return "icmp type echo-request goto flows" + "\n    icmpv6 type echo-request goto flows" * six
    return f"{protocol} dport {ports} goto flows" if ports else f"meta l4proto {protocol} goto flows"


def _of(version: int, prefixes: Iterable[str]) -> list[str]:
    return [p for p in prefixes if (":" in p) == (version == 6)]


def _list(*prefixes: str) -> str:
    """As a set of nftables takes those of one version: without any that overlap."""
    if ":" in prefixes[0]:
        without_zone = (p.partition("%")[0] for p in prefixes)
        return ", ".join(str(n) for n in collapse_addresses(map(IPv6Network, without_zone)))
    return ", ".join(str(n) for n in collapse_addresses(map(IPv4Network, prefixes)))


def _is_among(prefix: str, prefixes: Iterable[str]) -> bool:
    return any(ip_network(prefix).subnet_of(ip_network(p)) for p in prefixes)  # type: ignore[arg-type]
