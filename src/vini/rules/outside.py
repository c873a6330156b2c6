"""What a slice may do in the world, and who has to have said so."""

from __future__ import annotations

import re
from ipaddress import IPv6Network, ip_network

from vini.model import Denied, OutsideGrant, Topology
from vini.rules.errors import Invalid

_WORD = re.compile(r"icmp|(tcp|udp)(/(\d{1,5})(-(\d{1,5}))?)?")
_MOST = 1000  # prefixes, and words
_CARRIERS = tuple(  # of IPv4 addresses, which would be reached past all that is said of IPv4
    map(IPv6Network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32",
                      "2002::/16"))
)  # fmt: skip


def check(grant: OutsideGrant) -> None:
    """Raises Invalid with what is wrong, and how it is written."""
    if not 0 < len(grant.to) <= _MOST:
        raise Invalid(f"A grant names 1 to {_MOST} prefixes, for example 0.0.0.0/0.")
    for prefix in grant.to:
        if not _is_prefix(prefix):
            raise Invalid(
                f"{prefix!r} is no prefix in its shortest form, for example 192.0.2.0/24, 0.0.0.0/0 or 2001:db8::/32."
            )
        if _carries_ipv4(prefix):
            raise Invalid(
                f"{prefix!r} has IPv4 addresses in it (NAT64, 6to4, Teredo) and never is let out; grant IPv4 prefixes."
            )
    if not 0 < len(grant.allow) <= _MOST:
        raise Invalid("A grant allows some of tcp, udp and icmp, for example tcp/443.")
    for word in grant.allow:
        if not _is_protocol(word):
            raise Invalid(f"{word!r} is no protocol; write tcp, udp, icmp, or with ports tcp/443, udp/5000-5999.")
    budgets = {
        "rate_kbit": grant.rate_kbit, "packets_per_s": grant.packets_per_s, "flows": grant.flows,
        "new_flows_per_s": grant.new_flows_per_s,
    }  # fmt: skip
    for name, value in budgets.items():
        if not 1 <= value <= 10**8:
            raise Invalid(f"The budget {name} is from 1 to 10**8, not {value}.")
    if not 0 <= grant.daily_mb <= 10**9:
        raise Invalid(f"The budget daily_mb is from 0 (not bounded) to 10**9, not {grant.daily_mb}.")


def refuse(wanted: Topology, before: Topology | None, grant: OutsideGrant | None) -> None:
    """Raises Denied where a topology asks for more of the world than the slice had and nobody granted that.

    What was asked for while there was a grant may stay in a topology: such slivers have no way to the world any more.
    """
    had = {name for name, s in (before.slivers if before else {}).items() if s.outside}
    new = [name for name, s in wanted.slivers.items() if s.outside and name not in had]
    if new and grant is None:
        raise Denied(
            f"Slice {wanted.name!r} may not reach the world, as its sliver {new[0]!r} asks by `outside: true`; "
            f"an operator grants it with `vini outside grant {wanted.name} --to PREFIX`."
        )


def _is_prefix(text: str) -> bool:
    try:
        return str(ip_network(text)) == text and "%" not in text  # a zone may have any text in it
    except ValueError:
        return False


def _carries_ipv4(prefix: str) -> bool:
    network = ip_network(prefix)
    return isinstance(network, IPv6Network) and any(network.subnet_of(carrier) for carrier in _CARRIERS)


def _is_protocol(word: str) -> bool:
    found = _WORD.fullmatch(word)
    if found is None:
        return False
    low, high = (int(found[i] or 0) for i in (3, 5))
    return found[2] is None or (0 < low <= 65535 and (found[4] is None or low <= high <= 65535))
