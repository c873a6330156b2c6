"""The pytest plugin, as a user's test suite meets it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from own_place import OwnPlace

pytest_plugins = ["pytester"]

TWO = """
    TWO = '''
    name: two
    slivers: [h1, h2]
    links: [h1 -- h2]
    '''
    import pytest
"""


@pytest.fixture
def place(own: OwnPlace, monkeypatch) -> OwnPlace:
    for name, value in own.environment.items():
        monkeypatch.setenv(name, value)
    return own


def slices(place: OwnPlace) -> list[str]:
    return list(place.client().topologies())


root = pytest.mark.root


@root
def test_marker_with_text_and_with_a_file_beside_the_test(place, pytester):
    pytester.makefile(".yaml", two="name: two\nslivers: [h1, h2]\nlinks: [h1 -- h2]\n")
    pytester.makepyfile(
        TWO
        + """
    @pytest.mark.vini(TWO)
    def test_text(vini_slice):
        assert vini_slice.ping("h1", "h2", count=1).ok
        assert vini_slice.name != "two"

    @pytest.mark.vini("two.yaml", timeout_s=60)
    def test_file(vini_slice):
        assert vini_slice.ping("h2", "h1", count=1).ok
    """
    )
    pytester.runpytest_subprocess("--strict-markers").assert_outcomes(passed=2)
    assert slices(place) == []


@root
def test_overridden_topology_and_network_for_a_module(place, pytester):
    pytester.makepyfile(
        """
    import pytest
    from vini import Network

    def line(*names):
        net = Network("line", routing="none")
        net.link(*net.hosts(*names))
        return net

    @pytest.fixture
    def vini_topology():
        return line("x", "y")

    @pytest.fixture(scope="module")
    def shared(vini_network):
        return vini_network(line("a", "b").topology)

    seen = set()

    def test_own(vini_slice):
        assert vini_slice.ping("x", "y", count=1).ok

    @pytest.mark.parametrize("n", [1, 2])
    def test_shared(shared, n):
        seen.add(shared.name)
        assert shared.ping("a", "b", count=1).ok
        assert len(seen) == 1
    """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=3)
    assert slices(place) == []


@root
def test_failure_reports_the_slivers(place, pytester):
    pytester.makepyfile(
        TWO
        + """
    COMMAND = "{run: 'echo said by the service; sleep 1000', service: true}"
    SERVICE = TWO.replace("[h1, h2]", "{h1: {commands: [" + COMMAND + "]}, h2: }", 1)

    @pytest.mark.vini(SERVICE)
    def test_fails(vini_slice):
        vini_slice.fail("h1", "h2")
        assert vini_slice.ping("h1", "h2", count=1).ok

    @pytest.fixture(scope="module")
    def shared(vini_network):
        return vini_network(TWO)

    def test_fails_too(shared):
        assert not shared.name

    def test_without_network():
        assert False
    """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        [
            "*vini slice pytest-*",
            "*2 of 2 slivers ready*",
            "*link h1--h2 has failed (silent), as asked*",
            "*said by the service*",
            "*vini slice pytest-*",
        ]
    )
    assert result.stdout.str().count("vini slice pytest-") == 2
    assert slices(place) == []


@root
def test_network_that_does_not_come_up_tells_why(place, pytester):
    pytester.makepyfile(
        TWO
        + """
    @pytest.mark.vini(TWO.replace("[h1, h2]", "{h1: {commands: 'echo the cause; exit 7'}, h2: }", 1), timeout_s=2)
    def test_it(vini_slice):
        pass
    """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*the cause*"])
    assert slices(place) == []


@root
def test_skips_name_what_is_missing(place, pytester):
    pytester.makepyfile(
        TWO
        + """
    @pytest.mark.vini(TWO, needs=("no-such-feature",))
    def test_it(vini_slice):
        assert False
    """
    )
    result = pytester.runpytest_subprocess("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*this machine lacks no-such-feature*"])
    assert slices(place) == []


def test_skips_without_root(pytester):
    pytester.makepyfile(
        "import os\nos.geteuid = lambda: 1000\n"
        + """
import pytest
@pytest.mark.vini("name: two\\nslivers: [h1]\\n")
def test_it(vini_slice):
    assert False
"""
    )
    result = pytester.runpytest_subprocess("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*a network needs root*sudo*"])


def test_mistakes_are_told_in_a_sentence(pytester):
    pytester.makepyfile(
        """
import pytest

def test_nothing_said(vini_slice):
    pass

@pytest.mark.vini("name: two\\nslivers: [h1]\\nlinks: [h1 -- h9]\\n")
def test_wrong(vini_slice):
    pass

@pytest.mark.vini("none.yaml")
def test_no_file(vini_slice):
    pass
"""
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(
        ["*test_nothing_said uses vini_slice but names no topology*", "*There is no sliver 'h9'*", "*none.yaml*"]
    )


def test_costs_nothing_when_unused(pytester):
    pytester.makepyfile(
        """
import sys

def test_it():
    assert {m for m in sys.modules if m.startswith("vini")} == {"vini", "vini.pytest_plugin"}
"""
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
    said = subprocess.run([sys.executable, "-m", "pytest", "--markers"], capture_output=True, text=True, env=os.environ)
    assert "@pytest.mark.vini(topology" in said.stdout
