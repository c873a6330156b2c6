"""`needs_kernel(feature)`: such tests run here, or in a machine with another kernel where this one lacks the feature.

A pytest plugin, registered by conftest.py.  Two tests (test_in_user_mode_linux.py, test_in_qemu.py) boot a machine
each and run in it, by `--kernel-machine`, all tests that need something that this kernel lacks and that one has.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

TESTS = Path(__file__).parent
ROUGH = "User Mode Linux" in Path("/proc/cpuinfo").read_text()  # we run in it: its clock ticks 100 times a second


class Feature(NamedTuple):
    """Something a kernel may lack."""

    trial: str  # a command; succeeds in a throw-away network namespace of a kernel that has it
    modules: tuple[str, ...]  # that provide it, without those that they name as needed


_SHARES = ("vxlan", "ifb", "sch_htb", "act_mirred", "sch_ingress", "cls_bpf")  # of what slivers send by tunnels
FEATURES = {
    "netem": Feature(
        "ip link set lo up && tc qdisc add dev lo root netem delay 1ms",
        ("sch_netem", "sch_ingress", "cls_bpf"),  # the latter two for the silent fault and Gates
    ),
    "gretap": Feature(
        "ip link add trial type gretap local 127.0.0.1 remote 127.0.0.1", ("ip_gre", "ip6_gre", *_SHARES)
    ),
    "vrf": Feature("ip link add trial type vrf table 10", ("vrf",)),
    "cgroup2_limits": Feature(
        "unshare --mount sh -c 'mount -t cgroup2 none /run && grep \"cpu.*memory.*pids\" /run/cgroup.controllers'", ()
    ),
    "cgroup2_io": Feature(
        "unshare --mount sh -c 'test -e /dev/loop-control && mount -t cgroup2 none /run && "
        'grep "cpu.*io.*memory\\|cpu.*memory.*io\\|io.*cpu.*memory" /run/cgroup.controllers\'',
        ("loop", "overlay"),
    ),
    "wireguard": Feature("ip link add trial type wireguard", ("wireguard", *_SHARES)),
    "nft_inet": Feature(
        "nft 'table inet t { chain c { type filter hook input priority 0; counter; }; }'",
        ("crc32c_generic", "nf_tables"),  # the latter asks for CRC-32C by an alias
    ),
}
MACHINES = {  # by the time that a boot takes
    "user-mode-linux": frozenset({"netem", "gretap", "vrf", "cgroup2_limits", "cgroup2_io"}),
    "qemu": frozenset(FEATURES),
}
NOT_NEEDED = ("anyio", "hypothesispytest", "xdist", "xdist.looponfail")  # plugins that take a slow machine seconds
OUTCOME = "in a machine"  # a property of the test that boots one: "MACHINE: TEST OUTCOME", of each that ran in it


@cache
def here() -> frozenset[str]:
    """The features that the kernel we run on has, found out by trying."""
    return frozenset(name for name, feature in FEATURES.items() if _succeeds(feature.trial))


def _succeeds(command: str) -> bool:
    return subprocess.run(["unshare", "-n", "sh", "-c", command], capture_output=True).returncode == 0


def needs(item: pytest.Item) -> frozenset[str]:
    """The features in a test's marks; a word that is none of them ends the session."""
    words = frozenset(word for mark in item.iter_markers("needs_kernel") for word in mark.args)
    if unknown := sorted(words - FEATURES.keys()):
        raise pytest.UsageError(f"{item.nodeid} needs_kernel({', '.join(unknown)}); known are: {', '.join(FEATURES)}")
    return words


def machine_for(features: frozenset[str]) -> str:
    """The quickest one that has them all."""
    return next(name for name, has in MACHINES.items() if features <= has)


# --- hooks of pytest -------------------------------------------------------------------------------


def add_options(parser: pytest.Parser) -> None:
    parser.addoption("--kernel-machine", choices=[*MACHINES], help="what the tests run in: only those made for it")
    parser.addoption("--lacked", default="", help="with it: only tests that need one of these features: a,b")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    machine, lacked = config.getoption("--kernel-machine"), set(config.getoption("--lacked").split(","))
    wanted = []
    for item in items:
        features = needs(item)
        if not machine or (features & lacked and machine_for(features) == machine):
            wanted.append(item)
    if len(wanted) < len(items):
        config.hook.pytest_deselected(items=[i for i in items if i not in wanted])
        items[:] = wanted


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A machine that lacks what it is for fails the test; so trials that find nothing anywhere come to light."""
    features = needs(item)
    if lacks := ", ".join(sorted(features - here())):
        if machine := item.config.getoption("--kernel-machine"):
            pytest.fail(f"{machine} should have {lacks}; the trial in tests/kernel_machine.py fails there")
        pytest.skip(f"this kernel lacks {lacks}: tests/kernel/test_in_*.py, in {machine_for(features)}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    calls = [r for of in terminalreporter.stats.values() for r in of if getattr(r, "when", "") == "call"]
    if lines := [str(value) for r in calls for name, value in r.user_properties if name == OUTCOME]:
        terminalreporter.section("tests on other kernels")
        for line in lines:
            terminalreporter.write_line(line)


# --- for the tests that boot a machine --------------------------------------------------------------


def own(machine: str) -> frozenset[str]:
    """The features that no quicker machine has: each test made for this one names at least one of them."""
    names = list(MACHINES)
    return MACHINES[machine].difference(*(MACHINES[quicker] for quicker in names[: names.index(machine)]))


def modules(machine: str) -> list[str]:
    """The names of those that its tests need; whole testbeds are on a bridge."""
    always = ["veth", "bridge"] if machine == "user-mode-linux" else ["veth"]
    return [*always, *(module for feature in sorted(MACHINES[machine]) for module in FEATURES[feature].modules)]


def run_in(
    machine: str, boot: Callable[[Sequence[str]], tuple[int, str]], record: Callable[[str, object], None]
) -> None:
    """Boot it for all tests made for it, tell how each ended, and fail when one failed or none passed."""
    lacked = sorted(MACHINES[machine] - here())
    if not lacked:
        pytest.skip(f"this kernel has all that {machine} is for: such tests ran on it")
    argv = ["env", "COLUMNS=250", sys.executable, "-m", "pytest", "-vv", "--color=no", "-p", "no:cacheprovider"]
    argv += [word for plugin in NOT_NEEDED for word in ("-p", f"no:{plugin}")]
    argv += [f"--kernel-machine={machine}", f"--lacked={','.join(lacked)}", *_files(own(machine))]
    # Here first, without running them: so all is compiled, which takes more than ten times as long in there.
    subprocess.run([*argv, "--collect-only"], cwd=TESTS.parent, capture_output=True)
    status, output = boot(argv)
    if status == pytest.ExitCode.NO_TESTS_COLLECTED:
        pytest.skip(f"no test for {machine} needs any of {', '.join(lacked)}")
    told = output.replace("\r", "")
    ended = re.findall(r"^(tests/\S+::.*?) ((?:PASSED|FAILED|ERROR|SKIPPED).*?) *\[", told, re.MULTILINE)
    for test, outcome in ended:
        record(OUTCOME, f"{machine}: {test} {outcome}")
    assert status == 0, output
    assert "PASSED" in {outcome for _, outcome in ended}, output


def _files(features: frozenset[str]) -> list[str]:
    """The test files that name one of them in a mark; reading only these saves a slow machine seconds."""
    mark = re.compile(r"needs_kernel\([^)]*\"(?:" + "|".join(sorted(features)) + r")\"")
    return [str(p.relative_to(TESTS.parent)) for p in sorted(TESTS.rglob("test_*.py")) if mark.search(p.read_text())]
