"""A user with a home of his own, his OpenSSH, and a place with slices that he logs in to."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from own_place import OwnPlace, place_below

from vini.node.ssh.place import Running, running
from vini.topology import parse


class Net:
    """A place, a user with a home of his own, and his OpenSSH."""

    def __init__(self, own: OwnPlace, home: Path):
        self.own, self.home = own, home
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("VINI_", "SSH_"))},
            **own.environment, "HOME": str(home), "VINI_LOGIN": str(home / "login.json"),
        }  # fmt: skip
        self.config = home / ".ssh" / "config"

    def vini(self, *words: str | Path, code: int = 0) -> str:
        done = subprocess.run([sys.executable, "-m", "vini.cli", *map(str, words)], env=self.environment,
                              capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)  # fmt: skip
        assert done.returncode == code, f"vini {words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + (done.stderr if code else "")

    def start(self, *words: str | Path, program: str = "ssh", **more) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [program, "-F", str(self.config), *map(str, words)], env=self.environment, text=True,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more},
        )  # fmt: skip

    def ssh(self, *words: str | Path, code: int = 0, program: str = "ssh") -> str:
        process = self.start(*words, program=program)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, f"{program} {words}: {process.returncode}\n{out}\n{err}"
        return out + (err if code else "")

    def server(self) -> Running:
        found = running(self.own.place)
        assert found
        return found

    @contextmanager
    def forwarding_to(self, where: str, *words: str) -> Iterator[subprocess.Popen[str]]:
        """ssh with these options, while it is in."""
        process = self.start(*words, "-T", where, "echo in; cat", stdin=subprocess.PIPE)
        try:
            assert process.stdout and process.stdout.readline() == "in\n"
            yield process
        finally:
            process.kill()
            process.communicate()

    def forwarding(self, *words: str):  # noqa: ANN201
        """To the sliver `west` of the slice `pair`."""
        return self.forwarding_to("west.pair", *words)

    def serve(self, sliver: str, port: int, says: str) -> subprocess.Popen[str]:
        """Somebody in a sliver who greets whoever calls."""
        return greeter(says, port, f"--net={self.own.place.netns(sliver)}")


def greeter(says: str, port: int, *where: str) -> subprocess.Popen[str]:
    text = (
        "import socket\n"
        f"s = socket.create_server(('127.0.0.1', {port}))\nprint('here', flush=True)\n"
        f"while True: c, _ = s.accept(); c.sendall({says!r}.encode()); c.close()"
    )
    enter = ["nsenter", *where, "--"] if where else []
    made = subprocess.Popen([*enter, sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
    assert made.stdout and made.stdout.readline() == "here\n"
    return made


@contextmanager
def net_with(mktemp: Callable[[str], Path], *texts: str) -> Iterator[Net]:
    """These slices are up, and the user's ssh(1) knows them."""
    with place_below(mktemp("ssh")) as own:
        made = Net(own, mktemp("home"))
        for text in texts:
            name = parse(text).name
            path = made.home / f"{name}.yaml"
            path.write_text(text)
            made.vini("up", path)
            made.vini("ssh-config", "-s", name, "--write")
        yield made


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        return int(s.getsockname()[1])


def heard(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as s:
        return s.makefile().read()
