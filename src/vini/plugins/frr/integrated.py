"""An integrated configuration, the user's own `frr.conf`: which lines are for which daemon (vtysh(1)).  Pure."""

from __future__ import annotations

from vini.model import Unsupported
from vini.plugins.frr.daemons import DAEMONS

# A line at the left margin that opens a block which only one daemon understands.
OWNER = {
    "router ospf": "ospfd", "router ospf6": "ospf6d", "router isis": "isisd", "router rip": "ripd",
    "router ripng": "ripngd", "router bgp": "bgpd", "router babel": "babeld", "bfd": "bfdd",
    "ip route": "staticd", "ipv6 route": "staticd",
    "router eigrp": "eigrpd", "router openfabric": "fabricd", "mpls ldp": "ldpd", "segment-routing": "pathd",
}  # fmt: skip


def named(text: str) -> list[str]:
    """The daemons that an integrated configuration needs besides zebra."""
    return [d for d in DAEMONS if any(_owner(line) == d for line in text.splitlines())]


def _owner(line: str) -> str:
    """The daemon that alone understands a line at the left margin; "" where there is none such."""
    words = line.split()
    return "" if line[:1].isspace() else OWNER.get(" ".join(words[:2]), OWNER.get(" ".join(words[:1]), ""))


def refuse_others(sliver: str, text: str) -> None:
    """Blocks of daemons that VINI does not run would be left out in silence.  Raises Unsupported where there is one."""
    for number, line in enumerate(text.splitlines(), 1):
        daemon = _owner(line)
        if daemon and daemon not in DAEMONS:
            raise Unsupported(
                f"The frr.conf of sliver {sliver} configures {daemon} (line {number}: {line.strip()}), which VINI does"
                f" not run; remove that block, or run {daemon} by a command of the sliver."
            )


def _owners(text: str) -> list[tuple[str, str]]:
    """Each line of an integrated configuration with the daemon whose block it is in; "" where it is for several."""
    owned, owner = [], ""
    for line in text.splitlines():
        if line.strip() and not line[0].isspace() and line.strip() != "exit":
            owner = _owner(line)
        owned.append((line, owner))
    return owned


def section(text: str, daemon: str) -> str:
    """An integrated configuration with the blocks of other daemons emptied: a line's number stays what it is.

    They have to go: a daemon that skips an unknown `router rip` would take the lines below it for its own.  So has
    `exit` behind any block that isn't the daemon's, where it leaves configuration itself.  Behind its own it is needed:
    in `router ospf6`, a line `interface ...` is another command than outside.
    """
    kept = (line if owner == daemon or (not owner and line.rstrip() != "exit") else "" for line, owner in _owners(text))
    return "".join(f"{line}\n" for line in kept)


def shared(text: str) -> str:
    """Patterns of the complaints about lines that are for several daemons."""
    numbers = (number for number, (_, owner) in enumerate(_owners(text), 1) if not owner)
    return "".join(f"on config line {number}:\n" for number in numbers)
