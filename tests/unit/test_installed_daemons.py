"""Routing daemons of other distributions: found when they are named, and what is said when one can't be used."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vini import daemons
from vini.embed import embed
from vini.model import File, Node, NotFound, Process, TopologyError, Unsupported
from vini.plugins import router_plugin
from vini.topology import dump, parse, schema

GOOD = """
from vini.daemons import RouterPlugin
from vini.model import File, Process

def objects(router):
    return (File(router.ns, "mine/conf", router.router_id), Process(router.ns, "mine", ("mine",)))

PLUGIN = RouterPlugin(objects, lambda r: (), lambda p, o: (), speaks=frozenset({"rip"}))
"""
TEXT = "name: t\nrouting: {protocols: rip, daemon: mine}\nlinks: [a -- b]\nslivers: [a, b]\n"
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """`install(code)`: a distribution that brings the daemon `mine`, as pip leaves it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(code: str, distribution: str = "vini_mine") -> None:
        (tmp_path / f"{distribution}.py").write_text(code)
        info = tmp_path / f"{distribution}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[vini.routers]\nmine = {distribution}:PLUGIN\n")
        sys.modules.pop(distribution, None)
        daemons.forget()

    yield make
    daemons.forget()


def test_an_installed_daemon_is_read_checked_and_compiled(install: Install) -> None:
    install(GOOD)
    topology = parse(TEXT)
    assert topology.slivers["a"].routing and topology.slivers["a"].routing.daemon == "mine"
    assert parse(dump(topology)) == topology
    objects = embed(topology, [Node("n")])["n"].objects  # it needs no capability of the node
    assert {o.name for o in objects if isinstance(o, Process)} == {"mine"}
    assert {o.path for o in objects if isinstance(o, File)} == {"mine/conf"}
    with pytest.raises(TopologyError, match="not speak ospf. .write 'daemon: frr', which does; mine speaks rip"):
        parse(TEXT.replace("rip", "ospf"))


def test_a_name_that_nobody_brings_gets_the_nearest(install: Install) -> None:
    with pytest.raises(TopologyError, match=r"line 2.*'mine' is not a valid word here"):
        parse(TEXT)
    install(GOOD)
    with pytest.raises(TopologyError, match=r"'mien' is not a valid word here. \(did you mean 'mine'\?\)"):
        parse(TEXT.replace("mine", "mien"))
    with pytest.raises(NotFound, match="no routing daemon 'gone'; there are: frr, bird, mine"):
        router_plugin("gone")  # a slice that was stored while it was installed


WRONG = {
    "import nothing_there": "'mine' of vini_mine 1.2 can't be loaded .*nothing_there",
    "PLUGIN = 3": "'mine' of vini_mine 1.2 is no vini.daemons.RouterPlugin but int",
    GOOD.replace("return (", "return router.nonsense and ("): "of vini_mine 1.2 fails for sliver a .*nonsense",
    GOOD.replace("File(router.ns", 'File("t.b"'): "of vini_mine 1.2 gives sliver a .*no file or process of it",
}


@pytest.mark.parametrize("code", WRONG)
def test_a_daemon_that_can_not_be_used_is_a_sentence_about_its_distribution(install: Install, code: str) -> None:
    install(code)
    with pytest.raises(Unsupported, match=WRONG[code]):
        embed(parse(TEXT), [Node("n")])


def test_a_name_that_two_bring_belongs_to_nobody(install: Install) -> None:
    install(GOOD)
    install(GOOD, "other_mine")
    with pytest.raises(Unsupported, match="other_mine 1.2 and vini_mine 1.2 both bring a routing daemon 'mine'"):
        parse(TEXT)


def test_the_built_in_ones_are_found_without_a_search() -> None:
    code = (
        "import sys; from vini.topology import parse; from vini.plugins import router_plugin;"
        "parse('name: t\\nrouting: {protocols: rip, daemon: bird}\\nslivers: [a]'); router_plugin('frr');"
        "assert 'importlib.metadata' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_schema_lets_any_daemon_pass() -> None:
    assert "{'enum': ['frr', 'bird']}, {'type': 'string'" in str(schema()["$defs"]["routing-section"])
