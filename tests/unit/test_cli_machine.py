"""What the machine refuses a command is told in a sentence; it is no bug in VINI."""

from __future__ import annotations

import errno
import os

import click
import pytest

from vini import cli


@pytest.mark.parametrize(
    "number, says, code",
    [
        (errno.ENOSPC, "'/srv/x' can't be written: its disk is full. Make room there", 1),
        (errno.EROFS, "'/srv/x' can't be written: its disk may only be read now; see `mount`", 1),
        (errno.EACCES, "'/srv/x' may not be used by you: run this with sudo", 4),
        (errno.EBADF, "This is a bug in VINI (OSError: ", 1),
    ],
)
def test_a_machine_that_refuses(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], number: int, says: str, code: int
) -> None:
    @click.command()
    def broken() -> None:
        raise OSError(number, os.strerror(number), "/srv/x")

    monkeypatch.setattr(cli, "vini", broken)
    monkeypatch.setattr("sys.argv", ["vini"])
    monkeypatch.setattr(cli, "_write_no_more", lambda: None)
    monkeypatch.delenv("VINI_DEBUG", raising=False)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code
    assert says in capfd.readouterr().err
