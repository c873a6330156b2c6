"""The routing daemon `pyrip` for VINI: what a router asks for, as files and a process."""

from __future__ import annotations

import json
import re
from ipaddress import ip_interface
from pathlib import Path

from vini.daemons import RouterPlugin
from vini.model import Adjacency, AnyObject, File, Process, Ready, Router, Unsupported
from vini.plugins.intent import active, digest

SPEAKER = Path(__file__).with_name("speaker.py").read_text()
NEIGHBORS = "{run}/pyrip/neighbors"


def objects(router: Router) -> tuple[AnyObject, ...]:
    """The speaker, its configuration, and the process that runs one with the other."""
    if router.routing.bfd or router.routing.raw:
        raise Unsupported(f"pyrip has neither bfd nor raw files; give sliver {router.name} the daemon frr or bird.")
    config = json.dumps({
        "devices": [v.dev for v in active(router, "rip")],
        "connected": sorted(
            {
                str(ip_interface(a).network)
                for a in (*router.loopbacks, *(a for v in router.vifs for a in v.addresses))
                if ":" not in a
            }
        ),
        "source": next((a.partition("/")[0] for a in router.loopbacks if ":" not in a), ""),
    })  # fmt: skip
    return (
        File(router.ns, "pyrip/speaker.py", SPEAKER),
        File(router.ns, "pyrip/config.json", config),
        Process(
            router.ns,
            "pyrip",
            ("python3", "{run}/pyrip/speaker.py", "{run}/pyrip/config.json", NEIGHBORS),
            config=digest(config, SPEAKER),  # another text means a restart; with `reload=` it would be told instead
            ready=Ready(("cat", NEIGHBORS), r"^pyrip runs"),
        ),
    )


def adjacencies_argv(router: Router) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The speaker writes its neighbours into a file."""
    return (("rip", ("cat", NEIGHBORS)),) if "rip" in router.routing.protocols else ()


def adjacencies(protocol: str, output: str) -> tuple[Adjacency, ...]:
    """Lines `10.0.0.1 to-denver`."""
    rows = re.findall(r"^([0-9.]+) (\S+)$", output, re.MULTILINE)
    return tuple(Adjacency(protocol, address, dev, "up", True) for address, dev in rows)


PLUGIN = RouterPlugin(objects, adjacencies_argv, adjacencies, speaks=frozenset({"rip"}))
