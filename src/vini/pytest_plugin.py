"""pytest plugin: a network as a test fixture.

    @pytest.mark.vini("examples/abilene.yaml")
    def test_reach(vini_slice):
        assert vini_slice.ping("seattle", "washington").ok

It imports nothing of ours until a test asks for a network, so that other tests start as fast as without it.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from vini.api import Network
    from vini.model import Topology

MARKER = (
    "vini(topology, *, needs=(), timeout_s=120.0): the network of the fixture vini_slice: a topology file "
    "(relative to the test's file, or to the rootdir), the text of one, a vini.Network or a vini.Topology; "
    "skipped where the machine lacks a capability in `needs`"
)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", MARKER)


class Networks:
    """Brings networks up for tests, each as a slice of its own name, and takes them down at the end of the scope."""

    def __init__(self, rootdir: Path, beside: Path):
        self._rootdir, self._beside = rootdir, beside
        self.up: list[Network] = []

    def __call__(
        self, topology: str | Path | Network | Topology, *, needs: tuple[str, ...] = (), timeout_s: float = 120.0
    ) -> Network:
        """The network, up, ready and converged.  Skips the test where this machine can't have it."""
        from vini.model import Unsupported

        network = self._network(topology)
        if os.geteuid() != 0:
            pytest.skip("a network needs root: VINI makes network namespaces; run pytest with sudo")
        try:
            network.up(timeout_s=timeout_s)
        except Unsupported as e:
            _raise_if_impossible(network.topology)
            pytest.skip(f"this machine can't have the network: {e}")
        self.up.append(network)
        if missing := sorted(set(needs) - network.capabilities()):
            pytest.skip(f"this machine lacks {', '.join(missing)}")
        return network

    def _network(self, given: Any) -> Network:
        """A new network under a name of its own, so that no slice of the machine's user is touched."""
        from vini.api import Network
        from vini.model import Topology

        name = f"pytest-{os.getpid()}-{os.urandom(4).hex()}"
        match given:
            case Network():
                return Network.of(given.topology, name=name)
            case Topology():
                return Network.of(given, name=name)
            case str() if "\n" in given:
                return Network.parse(given, name=name)
            case str() | os.PathLike():
                return Network.load(self._found(Path(given)), name=name)
        raise pytest.UsageError(f"A topology is a file, a text, a vini.Network or a vini.Topology, not {given!r}.")

    def _found(self, path: Path) -> Path:
        beside = self._beside / path
        return beside if beside.exists() else self._rootdir / path

    def end(self) -> None:
        """Take them down; those that the tests took down themselves are gone already."""
        from contextlib import ExitStack

        with ExitStack() as stack:  # also those after one that fails to go
            for network in self.up:
                if network.is_up:
                    stack.callback(network.down)


def _raise_if_impossible(topology: Topology) -> None:
    """What no machine could do is the test's mistake: to skip would hide it."""
    from vini.embed import embed
    from vini.model import Node
    from vini.node.probe import FEATURES

    embed(topology, [Node("able", frozenset(f.name for f in FEATURES))], 1)


@pytest.fixture
def vini_topology(request: pytest.FixtureRequest) -> Any:
    """The topology of `vini_slice`; override it, or give `@pytest.mark.vini(...)`."""
    marker = request.node.get_closest_marker("vini")
    if marker is None or len(marker.args) != 1:
        raise pytest.UsageError(
            f"{request.node.nodeid} uses vini_slice but names no topology: "
            'write @pytest.mark.vini("topology.yaml") above it, or a fixture vini_topology.'
        )
    return marker.args[0]


@pytest.fixture
def vini_slice(request: pytest.FixtureRequest, vini_topology: Any) -> Iterator[Network]:
    """A network of the test's own, up, ready and converged; down at the end."""
    marker = request.node.get_closest_marker("vini")
    networks = _networks(request)
    try:
        yield networks(vini_topology, **(marker.kwargs if marker else {}))
    finally:
        networks.end()


@pytest.fixture(scope="module")
def vini_network(request: pytest.FixtureRequest) -> Iterator[Networks]:
    """A function that brings up a network for all tests of a module: `net = vini_network("abilene.yaml")`."""
    networks = _networks(request)
    try:
        yield networks
    finally:
        networks.end()


def _networks(request: pytest.FixtureRequest) -> Networks:
    return Networks(request.config.rootpath, request.path.parent)


# --- when a test fails ----------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to a failed test's report how the slivers of its networks are, and what their daemons said last."""
    report = yield
    if report.failed and call.when in ("setup", "call"):
        for network in _of(item):
            report.sections.append((f"vini slice {network.name}", _diagnosis(network)))
    return report


def _of(item: pytest.Item) -> list[Network]:
    """The networks that are up among a test's fixtures."""
    found: dict[int, Network] = {}
    for value in getattr(item, "funcargs", {}).values():
        networks = value.up if isinstance(value, Networks) else [value]
        found |= {id(n): n for n in networks if _is_network(n) and n.is_up}
    return list(found.values())


def _is_network(value: object) -> bool:
    import sys

    api = sys.modules.get("vini.api")  # not imported: then nothing is one
    return api is not None and isinstance(value, api.Network)


def _diagnosis(network: Network) -> str:
    from vini.model import ViniError

    try:
        return network.diagnosis()
    except ViniError as e:
        return f"It could not be asked: {e}"
