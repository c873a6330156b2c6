"""FRR's daemons: which one speaks which protocol, where they are, and how they are spoken to."""

from __future__ import annotations

BIN = "/usr/lib/frr"  # Debian's place; not on PATH
DIR = "{run}/frr"
DAEMON = {
    "ospf": "ospfd", "ospf6": "ospf6d", "isis": "isisd", "rip": "ripd", "ripng": "ripngd", "bgp": "bgpd",
    "babel": "babeld",
}  # fmt: skip
DAEMONS = ("zebra", "staticd", "bfdd", *DAEMON.values())
VTYSH = ("vtysh", "--vty_socket", DIR, "--config_dir", DIR)
