"""What is printed is for people, whoever said it."""

from __future__ import annotations

import pytest

from vini.cli import out

HOSTILE = "\x1b[2J\x1b]0;mine\x07\x9b1m\udcff\rgone"
SHOWN = r"\x1b[2J\x1b]0;mine\x07\x9b1m\udcff\x0dgone"


@pytest.mark.parametrize("say", [out.line, out.note, out.complain, lambda text: out.table(("HEAD",), [(text,)])])
def test_what_would_move_a_terminals_cursor_is_written_out(say, capfd: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    assert SHOWN in "".join(capfd.readouterr())


def test_what_people_write_stays_as_it_is() -> None:
    assert out.plain("naïve\tÜmläute, 北京\nnext") == "naïve\tÜmläute, 北京\nnext"
