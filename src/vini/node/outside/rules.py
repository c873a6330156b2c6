"""What stands between a slice's vifs to the world and the world, as nftables(8) reads it.  Pure.

Two tables for each slice on a node.  The one of the family netdev sees every frame that a sliver sends first, before
the node's stack, its connection tracking and its ARP do: there it is decided whether the frame is the sliver's own and
within the budgets, and whether it is for the node itself.  The other one, of the family inet, decides by the grant
where packets may go, and translates their source addresses.

Fragments don't leave: those that never become a packet would fill the memory that the node has for its own.  Nor do
ICMP errors: one that quotes a packet of somebody else's connection would be believed, as it comes from the node.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, collapse_addresses

from vini.model import OutsideGrant, Value
from vini.names import digest

PREFIX = "vinio"  # of the names of vifs at the node's end; the rest is a hash
RANGE = IPv4Network("198.18.0.0/15")  # for measurements of devices (RFC 2544), so in nobody's network: a /31 each
_HERE = ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", str(RANGE), "224.0.0.0/3")  # never the world's
_SPECIAL = (  # IANA's registry of special-purpose IPv4 addresses (RFC 6890): what the public Internet does not have
    "10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16",
    "198.51.100.0/24", "203.0.113.0/24",
)  # fmt: skip
COUNTERS = {
    "spoofed": "not the sliver's own: MAC or IP address, ARP, anything but IPv4",
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
    mark: str, slice_: str, ports: Sequence[Port], grant: OutsideGrant, never: Iterable[str], used: int = 0
) -> str:
    """The text that makes both tables, or makes them anew at one moment; `used` bytes of the day's are gone already."""
    name = table_name(mark, slice_)
    first = _ingress(name, ports, grant, never, used)
    return f"{gone(mark, slice_)}{first}{_forward(name, ports, grant)}"


def gone(mark: str, slice_: str) -> str:
    """The text that takes them away, whether or not they are there."""
    name = table_name(mark, slice_)
    return "".join(f"add table {family} {name}\ndelete table {family} {name}\n" for family in ("netdev", "inet"))


def guard(mark: str) -> str:
    """A node that was no router does not become one for others because some packets of ours pass through it.

    What it bridges is none of that, but comes by here, too, with the bridge as both of its devices (br_netfilter, which
    hosts of containers and virtual machines have loaded).  That both are one bridge can't be asked for, so packets from
    one bridge to another are let through as well.
    """
    return f"""\
{unguard(mark)}table inet {guard_name(mark)} {{
  chain forward {{
    type filter hook forward priority -20; policy accept;
    meta iifkind "bridge" meta oifkind "bridge" accept
    iifname != "{PREFIX}*" oifname != "{PREFIX}*" drop
  }}
}}
"""


def unguard(mark: str) -> str:
    """The text that takes that away."""
    return f"add table inet {guard_name(mark)}\ndelete table inet {guard_name(mark)}\n"


def _ingress(name: str, ports: Sequence[Port], grant: OutsideGrant, never: Iterable[str], used: int) -> str:
    day = f"quota today {{ over {grant.daily_mb * 10**6} bytes used {used} bytes; }}" if grant.daily_mb else ""
    spend = "quota name today counter name beyond drop" if grant.daily_mb else ""
    chains = "".join(_entrance(port) for port in ports)
    return f"""\
table netdev {name} {{
  set never {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {", ".join(_merged([*_HERE, *never]))} }}; }}
  counter spoofed {{ }}
  counter refused {{ }}
  counter beyond {{ }}
  {_limits(grant)}
  {day}
  chain own {{
    ip daddr @never counter name refused drop
    fib daddr type != unicast counter name refused drop
    ip frag-off & 0x3fff != 0 counter name refused drop
    limit name pps counter name beyond drop
    limit name bps counter name beyond drop
    {spend}
    accept
  }}
{chains}}}
"""


def _entrance(port: Port) -> str:
    return f"""\
  chain {port.dev} {{
    type filter hook ingress device "{port.dev}" priority -300; policy drop;
    ether saddr != {port.mac} counter name spoofed drop
    arp htype 1 arp ptype ip arp operation {{ request, reply }} arp saddr ether {port.mac} arp saddr ip {port.address} \
arp daddr ip {port.gateway} limit rate 20/second accept
    ether type != ip counter name spoofed drop
    ether daddr != {port.gateway_mac} counter name spoofed drop
    ip saddr != {port.address} counter name spoofed drop
    goto own
  }}
"""


def _limits(grant: OutsideGrant) -> str:
    """Bursts are what a tenth of a second holds, or some full segments, as veth pairs pass them whole; of bytes the
    kernel lets through a second's worth more at once (nft_limit_init)."""
    bytes_per_s = max(1, grant.rate_kbit * 125)
    return (
        f"limit pps {{ rate over {grant.packets_per_s}/second burst {max(5, grant.packets_per_s // 10)} packets; }}\n"
        f"  limit bps {{ rate over {bytes_per_s} bytes/second burst {max(200_000, bytes_per_s // 10)} bytes; }}"
    )


def _forward(name: str, ports: Sequence[Port], grant: OutsideGrant) -> str:
    devs = ", ".join(f'"{port.dev}"' for port in ports)
    addresses = ", ".join(port.address for port in ports)
    named = _merged(p for p in grant.to if _is_special(p))
    public = _merged(p for p in grant.to if not _is_special(p))
    where = f"ip daddr {{ {', '.join(named)} }} goto granted\n    " if named else ""
    where += f"ip daddr {{ {', '.join(_SPECIAL)} }} counter name refused drop"
    where += f"\n    ip daddr {{ {', '.join(public)} }} goto granted" if public else ""
    return f"""\
table inet {name} {{
  counter refused {{ }}
  counter beyond {{ }}
  counter unasked {{ }}
  {_limits(grant)}
  limit beginnings {{ rate over {grant.new_flows_per_s}/second burst {grant.new_flows_per_s} packets; }}
  chain forward {{
    type filter hook forward priority -10; policy accept;
    iifname {{ {devs} }} goto leaving
    oifname {{ {devs} }} goto entering
  }}
  chain leaving {{
    oifname "{PREFIX}*" counter name refused drop
    ct state invalid counter name refused drop
    {where}
    counter name refused drop
  }}
  chain granted {{
    {_allowed(grant)}
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
    ip saddr {{ {addresses} }} oifname != "{PREFIX}*" masquerade
  }}
}}
"""


def _allowed(grant: OutsideGrant) -> str:
    return "\n    ".join(_allow(word) for word in grant.allow)


def _allow(word: str) -> str:
    protocol, _, ports = word.partition("/")
    if protocol == "icmp":
        return "icmp type echo-request goto flows"
    return f"{protocol} dport {ports} goto flows" if ports else f"meta l4proto {protocol} goto flows"


def _merged(prefixes: Iterable[str]) -> list[str]:
    """As a set of nftables takes them: without any that overlap."""
    return [str(n) for n in collapse_addresses(map(IPv4Network, prefixes))]


def _is_special(prefix: str) -> bool:
    return any(IPv4Network(prefix).subnet_of(IPv4Network(s)) for s in _SPECIAL)
