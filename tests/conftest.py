"""What every test may rely on: skips that say what is missing, a place of one's own, golden files."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
pytest.register_assert_rewrite(*(p.stem for p in TESTS.glob("*.py")))  # a failure in them says what was what, too

import kernel_machine  # noqa: E402
import time_limit  # noqa: E402
from own_place import OwnPlace, place_below  # noqa: E402

from vini.node import probe  # noqa: E402

GOLDEN = TESTS / "unit" / "golden"
LONGEST_FIRST = ("hosts", "examples", "kernel", "central", "dataplane", "docs", "unit")  # directories of tests
capabilities = cache(probe.capabilities)


def pytest_configure(config: pytest.Config) -> None:
    """A shell that starts us in the background makes us, and so all programs that tests interrupt, ignore SIGINT.

    SIGTERM, which timeout(1) sends, ends us as tidily as Ctrl-C: fixtures take down what they made on the machine.
    """
    config.pluginmanager.register(kernel_machine)
    config.pluginmanager.register(time_limit)
    if not config.getoption("--kernel-machine"):  # there, all is read-only
        _compile_once()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Which may take longer than others.  Where several run at a time: machines with other kernels first, then the
    files with the longest tests, so that short ones fill the end.

    With `--no-loadscope-reorder`; else xdist takes the files with the most tests first, and those are the quickest.
    """
    for item in items:
        if item.get_closest_marker("other_kernel"):  # many tests, each with a limit of its own
            item.add_marker(pytest.mark.takes(2000))
        elif config.getoption("--chaos-rounds"):
            item.add_marker(pytest.mark.takes(0))
    if hasattr(config, "workerinput"):
        items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    other_kernel = item.get_closest_marker("other_kernel") is not None
    return -1 if other_kernel else LONGEST_FIRST.index(item.path.relative_to(TESTS).parts[0])


def pytest_collection_finish() -> None:
    """What was collected stays until the end: no search for garbage goes through it again, nor does one in a child that
    a test forks, which would copy it all."""
    gc.collect()
    gc.freeze()


def _compile_once() -> None:
    """Keep what Python compiles, even where the environment asks it not to, as images of containers like to do.

    Else each agent and each command that a test starts compiles all of VINI: that doubles what its start takes.
    """
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regen-golden", action="store_true", help="write tests/unit/golden/*.txt anew, for people to review"
    )
    parser.addoption(
        "--chaos-rounds", type=int, default=0, help="how often a testbed's processes are killed; 100 takes minutes"
    )
    parser.addoption("--chaos-seed", type=int, default=0, help="which of them, and when, as a failed run printed it")
    kernel_machine.add_options(parser)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("makes network namespaces, which only root may")
    for marker in item.iter_markers("needs"):
        for feature in marker.args:
            if feature not in capabilities():
                remedy = next((f.remedy for f in probe.FEATURES if f.name == feature), "no such feature")
                pytest.skip(f"this machine lacks {feature}: {remedy}")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden(name, text)`: the text is that of tests/unit/golden/<name>.txt."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / f"{name}.txt"
        if request.config.getoption("--regen-golden"):
            path.write_text(text)
        assert path.exists(), f"{path} is missing; make it with `pytest --regen-golden`, and read it"
        assert text == path.read_text(), f"{path} differs; if the new text is right: `pytest --regen-golden`"

    return check


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPlace]:
    """A place of the test's own on the real machine; the test fails when it leaves something there."""
    with place_below(tmp_path_factory.mktemp("own")) as place:
        yield place


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPlace]:
    """One place, and one agent, for all tests of a module."""
    with place_below(tmp_path_factory.mktemp("ours")) as place:
        yield place
