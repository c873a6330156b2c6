"""Each Python example runs as its user runs it, says what it should, and leaves nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "python"
SAYS = {
    "triangle.py": (
        r"a > b > c \| a -> c: 3 of 3 answered.*\na > c \| a -> c: 3 of 3 answered.*\n"
        r"a > b > c \| a -> c: 3 of 3 answered.*\n10\.\S+ via "
    ),
    "abilene_failure.py": (
        r"before: washington -> seattle: 3 of 3 answered, RTT 7\d\.\d+/.*\n"
        r"after:  washington -> seattle: 3 of 3 answered, RTT 9\d\.\d+/.*\n"
        r"[1-9]\d* of \d+ pings were lost.\nRouting went round it \d+\.\d s after the cut\.\n\[\{'t': "
    ),
    "delay_sweep.py": r"(\d+ ms one way: left -> right: [\d.]+ Mbit/s .*\n){4}(.*\n)*.*delay_ms(.*\n)*.*mbit",
}
NEEDS = {"triangle.py": ["bird"], "abilene_failure.py": ["frr"], "delay_sweep.py": ["iperf3"]}
MEASURES, ALONE = {"delay_sweep.py"}, (pytest.mark.alone, pytest.mark.waits)


def test_every_example_is_tested():
    assert {p.name for p in FOLDER.glob("*.py")} == set(SAYS) == set(NEEDS)


@pytest.mark.root
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.needs(*NEEDS[n]), *(ALONE if n in MEASURES else [])]) for n in SAYS],
)
def test_example(name, own):
    argv = [sys.executable, str(FOLDER / name)]
    done = subprocess.run(argv, env={**os.environ, **own.environment}, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert re.match(SAYS[name], done.stdout), done.stdout
    assert own.client().topologies() == {}
    if name == "delay_sweep.py":  # a window over a round trip: four times the delay, a quarter of the throughput
        mbit = [float(x) for x in re.findall(r"right: ([\d.]+) Mbit/s", done.stdout)]
        assert mbit == sorted(mbit, reverse=True) and 3 < mbit[1] / mbit[3] < 5


def blocks(page: str) -> list:
    """The Python programs in a how-to, named after the heading that they stand under."""
    text = (ROOT / "docs" / "how-to" / page).read_text()
    found = re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [pytest.param(m[1], id=re.findall(r"^#+ (.*)", text[: m.start()], re.MULTILINE)[-1]) for m in found]


@pytest.mark.root
@pytest.mark.needs("bird")
@pytest.mark.parametrize("program", blocks("python.md"))
def test_how_to_python(program, own, tmp_path):
    file = tmp_path / "program.py"
    file.write_text(program)
    environment = {**os.environ, **own.environment}
    done = subprocess.run(
        [sys.executable, str(file)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert own.client().topologies() == {}


@pytest.mark.root
@pytest.mark.needs("bird", "frr")
@pytest.mark.parametrize("program", blocks("pytest.md"))
def test_how_to_pytest(program, own, tmp_path):
    file = tmp_path / "test_program.py"
    file.write_text(program)
    argv = [sys.executable, "-m", "pytest", f"--rootdir={ROOT}", "-p", "no:cacheprovider", str(file)]
    environment = {**os.environ, **own.environment}
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and "skipped" not in done.stdout, done.stdout
    assert own.client().topologies() == {}
