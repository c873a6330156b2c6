"""`vini logs`, its part on the node."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vini.node import logs


def said(directory: Path, lines: int = 100, *only: str) -> list[str]:
    argv = [sys.executable, "-I", "-S", logs.__file__, str(directory), str(lines), "0", "0", *only]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()


def test_the_last_lines_of_each_process_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "bird.log").write_text("".join(f"line {i}\n" for i in range(200_000)))
    (tmp_path / "zebra.log").write_text("one\nno end")
    (tmp_path / "bird.conf").write_text("no log\n")
    assert said(tmp_path, 2) == ["bird | line 199998", "bird | line 199999", "zebra | one", "zebra | no end"]
    assert said(tmp_path, 1, "zebra") == ["zebra | one", "zebra | no end"]


def test_what_a_sliver_puts_in_the_place_of_a_log_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret\n")
    (tmp_path / "a.log").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "b.log")
    (tmp_path / "c.log").mkdir()
    (tmp_path / "d.log").write_text("fine\n")
    assert said(tmp_path) == ["d | fine"]


def test_what_would_move_a_terminals_cursor_is_written_out(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"\x1b[2Jgone\x07\r\nna\xc3\xafve\t\xc2\x9b1m\xff\n")
    (tmp_path / "b\x1b]0;mine\x07.log").write_text("x\n")
    assert said(tmp_path) == ["a | \\x1b[2Jgone\\x07", "a | naïve\t\\x9b1m\\xff", "b\\x1b]0;mine\\x07 | x"]


def test_of_a_process_that_was_started_again_only_this_life_where_that_is_asked(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("--- started 1\nold\n--- started 2\nnew\nnewer\n")
    (tmp_path / "b.log").write_text("no mark\n")
    argv = [sys.executable, "-I", "-S", logs.__file__, str(tmp_path), "100", "0", "1"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout
    assert done.splitlines() == ["a | --- started 2", "a | new", "a | newer", "b | no mark"]


@pytest.fixture
def following(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    (tmp_path / "a.log").write_text("first\n")
    argv = [sys.executable, "-I", "-S", logs.__file__, str(tmp_path), "100", "1", "1"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


def test_what_comes_is_followed_also_anew_and_of_new_processes(
    tmp_path: Path, following: subprocess.Popen[str]
) -> None:
    out = following.stdout
    assert out
    assert out.readline() == "a | first\n"
    with (tmp_path / "a.log").open("a") as log:
        log.write("half ")
        log.flush()
        log.write("and half\n")
        log.flush()
        assert out.readline() == "a | half and half\n"
        os.truncate(tmp_path / "a.log", 0)
        log.write("anew\n")
    assert out.readline() == "a | anew\n"
    (tmp_path / "b.log").write_text("later\n")
    assert out.readline() == "b | later\n"
