"""Which routing protocols the configuration files of FRR and BIRD are about."""

from __future__ import annotations

import re

from vini.model import Value

# FRR's daemon -> our protocol; bfdd is the `bfd` switch
FRR_DAEMONS = {
    "ospfd": "ospf",
    "ospf6d": "ospf6",
    "isisd": "isis",
    "ripd": "rip",
    "ripngd": "ripng",
    "bgpd": "bgp",
    "babeld": "babel",
    "staticd": "static",
}
FRR_ALWAYS = frozenset({"zebra", "staticd", "mgmtd", "watchfrr"})  # started whatever is asked
_FRR_CONF = {
    "ospf": r"router ospf\b",
    "ospf6": r"router ospf6\b",
    "isis": r"router isis\b",
    "rip": r"router rip\b",
    "ripng": r"router ripng\b",
    "bgp": r"router bgp\b",
    "babel": r"router babel\b",
    "static": r"ip(?:v6)? route\b",
}
_BIRD_CONF = {
    "ospf": r"protocol ospf(?: v2)?(?! v3)\b",
    "ospf6": r"protocol ospf v3\b",
    "rip": r"protocol rip(?! ng)\b",
    "ripng": r"protocol rip ng\b",
    "bgp": r"protocol bgp\b",
    "babel": r"protocol babel\b",
    "static": r"protocol static\b",
}


class Configured(Value, frozen=True):
    """The protocols that a configuration is about; `asn` 0: no autonomous system named."""

    protocols: tuple[str, ...] = ()
    asn: int = 0
    bfd: bool = False


def of_frr_conf(text: str) -> Configured:
    """What an frr.conf configures."""
    return _configured(text, _FRR_CONF, r"^router bgp (\d+)", r"^[ \t]*(bfd$|.*\bbfd\b)")


def of_bird_conf(text: str) -> Configured:
    """What a bird.conf configures (BIRD 2 or later)."""
    return _configured(text, _BIRD_CONF, r"\blocal\b[^;\n]{0,100}\bas (\d+)", r"^[ \t]*(protocol bfd\b|bfd (on|yes)\b)")


def _configured(text: str, patterns: dict[str, str], asn: str, bfd: str) -> Configured:
    found = tuple(p for p, pattern in patterns.items() if re.search(rf"^[ \t]*{pattern}", text, re.MULTILINE))
    number = re.search(asn, text, re.MULTILINE)
    asn_number = int(number[1][:11]) if number else 0
    return Configured(found, asn_number if asn_number < 2**32 else 0, bool(re.search(bfd, text, re.MULTILINE)))


def frr_daemons(text: str) -> tuple[str, ...]:
    """The daemons that an FRR `daemons` file switches on, in its order."""
    return tuple(m[1] for m in re.finditer(r"^[ \t]*(\w+)[ \t]*=[ \t]*\"?yes\b", text, re.MULTILINE | re.IGNORECASE))
