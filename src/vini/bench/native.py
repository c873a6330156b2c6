"""The peer of forwarding benchmarks: three namespaces in a row, made by iproute2; in the middle the kernel forwards."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vini.bench.generator import Flow
from vini.model import Value, ViniError

_NAMES = ("vbnative-a", "vbnative-b", "vbnative-c")
_MACS = tuple(f"02:00:00:00:00:0{i}" for i in range(1, 5))
SOURCE, DESTINATION = "10.200.0.1", "10.200.1.2"


class Path3(Value, frozen=True):
    """Where packets start and end, and what they look like."""

    first: Path  # namespace of the sender
    first_dev: str
    middle: Path
    middle_dev: str  # faces the sender
    last: Path
    last_dev: str
    flow: Flow


@contextmanager
def native() -> Iterator[Path3]:
    """As long as it is used; what an earlier run left goes first."""
    _remove()
    a, b, c = _NAMES
    try:
        for name in _NAMES:
            _ip(f"netns add {name}")
        _ip(f"link add v0 netns {a} address {_MACS[0]} type veth peer name v1 netns {b} address {_MACS[1]}")
        _ip(f"link add v2 netns {b} address {_MACS[2]} type veth peer name v3 netns {c} address {_MACS[3]}")
        for name, dev, address in (
            (a, "v0", SOURCE),
            (b, "v1", "10.200.0.2"),
            (b, "v2", "10.200.1.1"),
            (c, "v3", DESTINATION),
        ):
            _ip(f"-n {name} address add {address}/24 dev {dev}")
            _ip(f"-n {name} link set {dev} up")
        _ip(f"-n {a} route add default via 10.200.0.2")
        _ip(f"-n {c} route add default via 10.200.1.1")
        _ip(f"-n {b} neighbour replace {DESTINATION} lladdr {_MACS[3]} dev v2 nud permanent")
        _run(["ip", "netns", "exec", b, "sysctl", "-qw", "net.ipv4.ip_forward=1"])
        at = [Path("/run/netns") / name for name in _NAMES]
        yield Path3(at[0], "v0", at[1], "v1", at[2], "v3", Flow(_MACS[0], _MACS[1], SOURCE, DESTINATION))
    finally:
        _remove()


def _remove() -> None:
    for name in _NAMES:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False, start_new_session=True)


def _ip(words: str) -> None:
    _run(["ip", *words.split()])


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ViniError(f"`{' '.join(argv)}` failed: {done.stderr.strip()}")
