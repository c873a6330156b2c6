"""Each Python example runs as its user runs it, says what it should, and leaves nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "python"
SAYS = {
    "triangle.py": (
        r"a > b > c \| a -> c: 3 of 3 answered.*\na > c \| a -> c: 3 of 3 answered.*\n"
        r"a > b > c \| a -> c: 3 of 3 answered.*\n10\.\S+ via "
    ),
    "abilene_failure.py": (
        r"before: washington -> seattle: 3 of 3 answered, RTT 7\d\.\d+/.*\n"
        r"after:  washington -> seattle: 3 of 3 answered, RTT 9\d\.\d+/.*\n"
        r"\d+ of \d+ pings were lost; routing went round it \d+\.\d s after the cut\.\n\[\{'t': "
    ),
    "delay_sweep.py": r"delay_ms.*rtt_ms.*mbit",
}
NEEDS = {"triangle.py": ["bird"], "abilene_failure.py": ["frr"], "delay_sweep.py": ["iperf3"]}


def test_every_example_is_tested():
    assert {p.name for p in FOLDER.glob("*.py")} == set(SAYS) == set(NEEDS)


@pytest.mark.root
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.needs(*NEEDS[n])) for n in SAYS])
def test_example(name, own):
    argv = [sys.executable, str(FOLDER / name)]
    done = subprocess.run(argv, env={**os.environ, **own.environment}, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert re.search(SAYS[name], done.stdout, re.DOTALL if name == "delay_sweep.py" else 0), done.stdout
    assert own.client().slices() == []
