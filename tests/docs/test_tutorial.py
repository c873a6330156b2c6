"""The tutorial, done as a reader does it: its files saved, its commands run in order in one shell."""

from __future__ import annotations

import os
import re
import subprocess
from typing import NamedTuple

import pages
import pytest
from own_place import OwnPlace

TUTORIAL = pages.ROOT / "docs" / "tutorial" / "first-network.md"
_END = "=== end of step"


class Step(NamedTuple):
    """A file to save, or a command with its shown output and exit code."""

    command: str
    shown: list[str]
    exit_code: int = 0
    file: str = ""


SOON = {"west -> north (ends here)": "west -> south -> east"}  # so for four seconds only, which a busy machine may miss


def steps(page_blocks: list[pages.Block]) -> list[Step]:
    """A yaml block after "Save this as `NAME`" is a file; each `$ ` line of a console block is a command."""
    out: list[Step] = []
    for block in page_blocks:
        name = re.search(r"Save this as `([\w.-]+)`", block.before)
        if block.language == "yaml" and name:
            out.append(Step(block.text, [], file=name[1]))
        if block.language != "console":
            continue
        for line in block.text.splitlines():
            if line.startswith("$ "):
                code = re.search(r"# exit code (\d+)", line)
                out.append(Step(line[2:], [], int(code[1]) if code else 0))
            else:
                out[-1].shown.append(line)
    return out


def must_occur(shown: list[str]) -> list[str]:
    """Shown lines that are the same at every run: not left out, not empty, without numbers."""
    return [_squeezed(x) for x in shown if x.strip() and "..." not in x and not re.search(r"\d", x)]


def _squeezed(text: str) -> str:
    return " ".join(text.split())


def _script(all_steps: list[Step]) -> str:
    lines = []
    for i, step in enumerate(all_steps):
        if step.file:
            lines.append(f"cat >{step.file} <<'END OF FILE'\n{step.command}END OF FILE")
        else:
            lines.append(step.command)
        lines.append(f'echo "{_END} {i} exit code $?"')
    return "\n".join(lines)


def test_steps_are_read_from_the_page() -> None:
    found = steps(pages.blocks(TUTORIAL))
    assert sum(bool(s.file) for s in found) == 2
    assert [s.command for s in found].count("vini down") == 1
    assert {s.exit_code for s in found} == {0, 1}
    assert "west -> south -> east" in {line for s in found for line in must_occur(s.shown)}


@pytest.mark.root
@pytest.mark.takes(960)
@pytest.mark.needs("frr")
@pytest.mark.needs("bird")
def test_the_tutorial_does_what_it_says(own: OwnPlace, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("tutorial")
    (directory / "vini").symlink_to(pages.ROOT / "vini")  # the reader is in VINI's directory
    todo = steps(pages.blocks(TUTORIAL))
    done = subprocess.run(
        ["bash", "-c", _script(todo)], cwd=directory, env={**os.environ, **own.environment, "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900,
    )  # fmt: skip
    outputs = re.split(rf"^{_END} \d+ exit code (\d+)\n", done.stdout, flags=re.MULTILINE)
    assert len(outputs) == 2 * len(todo) + 1, done.stdout
    for i, step in enumerate(todo):
        output, code = outputs[2 * i], int(outputs[2 * i + 1])
        assert code == step.exit_code, f"$ {step.command}\n{output}"
        lines = [_squeezed(x) for x in output.splitlines()]
        missing = [x for x in must_occur(step.shown) if x not in lines and SOON.get(x) not in lines]
        assert not missing, f"$ {step.command}\n{output}\nThe page also shows: {missing}"
