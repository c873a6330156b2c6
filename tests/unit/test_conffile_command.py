"""`vini conffile set` sends a text as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from vini.cli import conffile
from vini.rules.nouns import ConfFile


def test_ends_of_lines_stay_as_they_are_and_what_is_no_text_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []

    class Remote:
        def call(self, _: str, __: str, ___: type, body: dict[str, Any]) -> ConfFile:
            sent.append(body["text"])
            return ConfFile(1, body["path"], body["text"], 0o644, "root", True)

    monkeypatch.setattr(conffile, "remote", Remote)
    (tmp_path / "a").write_bytes(b"one\r\ntwo\rthree\n")
    for file, typed in ((str(tmp_path / "a"), b""), ("-", b"one\r\n")):
        told = CliRunner().invoke(conffile.conffile_command, ["set", "/etc/vini/conf.d/a", file], input=typed)
        assert told.exit_code == 0, told.output
    assert sent == ["one\r\ntwo\rthree\n", "one\r\n"]
    (tmp_path / "a").write_bytes(b"\xff")
    told = CliRunner().invoke(conffile.conffile_command, ["set", "/etc/vini/conf.d/a", str(tmp_path / "a")])
    assert told.exit_code == 2 and "is no text" in told.output and len(sent) == 2
