"""What a machine's administrator permits a central: said before a token is spent, told, and for that central alone."""

from __future__ import annotations

import os
import ssl
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from vini.bus.joining import Token
from vini.cli.node import node_command
from vini.cli.permit import named_below
from vini.client import Client
from vini.model import ViniError
from vini.node import identity, join
from vini.node.files import permit
from vini.node.files.permit import Permit


class Machine:
    """One that joins centrals, without any."""

    def __init__(self, state: Path, monkeypatch: pytest.MonkeyPatch):
        self.state, self.spent = state, 0
        self.meets(b"A")
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(join, "join", self._join)
        monkeypatch.setattr(Client, "greeting", self._greeting)
        for name in ("VINI_STATE", "VINI_RUN"):
            monkeypatch.setenv(name, str(state))

    async def _join(self, *_: object) -> identity.Identity:
        self.spent += 1
        return identity.Identity("n1", "home", "https://c.example", b"", self.ca)

    async def _greeting(self, *_: object) -> object:
        class Greeting:
            pid = 1

        return Greeting()

    def meets(self, central: bytes) -> None:
        """From now on it joins this one."""
        self.ca = ssl.DER_cert_to_PEM_cert(central)
        self._token = str(Token("x" * 20, sha256(central).hexdigest()))

    def vini(self, *words: str) -> Result:
        return CliRunner().invoke(node_command, words)

    def join(self, *words: str) -> Result:
        return self.vini("join", "https://127.0.0.1:1", self._token, "--address", "127.0.0.1", *words)

    def permitted(self) -> Permit:
        now = identity.read(self.state)
        return permit.read(self.state, now.owner if now else "")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


@pytest.mark.parametrize("wrong", ["", "etc/vini", "/", "none"])
def test_what_makes_no_sense_is_told_before_the_token_is_spent(machine: Machine, wrong: str) -> None:
    told = machine.join("--permit-below", "/srv/conf", "--permit-below", wrong)
    assert isinstance(told.exception, ViniError) and machine.spent == 0
    assert identity.read(machine.state) is None and not (machine.state / "permit.json").exists()
    assert isinstance(machine.vini("permit", "--below", wrong, "--below", "/srv/conf").exception, ViniError)


def test_joining_tells_what_is_in_force_and_leaving_takes_it_back(machine: Machine) -> None:
    told = machine.join("--permit-below", "/srv/conf", "--permit-commands")
    assert "below /srv/conf, with commands" in told.output, told.output
    assert machine.permitted().below == ("/srv/conf",) and machine.permitted().commands
    machine.vini("leave")
    assert machine.permitted() == Permit()
    assert "below /etc/vini/conf.d, without commands" in machine.join().output


def test_what_one_central_may_another_may_not_also_where_nobody_left(machine: Machine) -> None:
    machine.join("--permit-below", "/srv/conf", "--permit-commands")
    machine.meets(b"B")
    assert "`vini node leave` first" in str(machine.join().exception)
    (identity.directory(machine.state) / "identity.json").unlink()  # as a disk loses it
    assert "below /etc/vini/conf.d, without commands" in machine.join().output
    assert machine.permitted().below == ("/etc/vini/conf.d",) and not machine.permitted().commands


def test_what_is_said_before_joining_is_for_the_central_that_is_joined_then(machine: Machine) -> None:
    machine.vini("permit", "--below", "none")
    assert "nowhere, without commands" in machine.join().output
    assert machine.permitted().owner == identity.read(machine.state).owner  # type: ignore[union-attr]
    machine.vini("leave")
    machine.meets(b"B")
    machine.join()
    assert machine.permitted().below == ("/etc/vini/conf.d",)


@pytest.mark.parametrize(("below", "warned"), [("/etc", True), ("/root/x", True), ("/usr", True), ("/srv/c", False)])
def test_where_files_alone_make_root_that_is_told(machine: Machine, below: str, warned: bool) -> None:
    assert ("can become root" in machine.vini("permit", "--below", below).output) == warned
    assert ("can become root" in machine.join("--permit-below", below).output) == warned


def test_nothing_said_is_not_nowhere() -> None:
    assert named_below(()) is None and named_below(("none",)) == ()
