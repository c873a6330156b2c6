"""A PostgreSQL that the network hides, as a cable that is pulled out: nobody says that it has gone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_place import eventually, run

from vini.store.database import Database, DatabaseError

sys.path.insert(0, str(Path(__file__).parent.parent / "central"))
import postgres

pytestmark = pytest.mark.root
_CUT = "add table ip cut; add chain ip cut hear { type filter hook input priority 0; policy drop; }"
_RELAY = """
import socket, sys, threading
def pump(a, b):
    while data := a.recv(65536):
        b.sendall(data)
listening = socket.create_server(("198.18.77.2", 5432))
print("ready", flush=True)
while True:
    one, _ = listening.accept()
    other = socket.socket(socket.AF_UNIX)
    other.connect(sys.argv[1])
    for pair in ((one, other), (other, one)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"""


class Far:
    """A PostgreSQL in a namespace of its own, at the end of a wire."""

    def __init__(self, host: str, wire: str, url: str):
        self.host, self.wire, self.url = host, wire, url

    def cut(self, *, off: bool) -> None:
        """At the far end, so that the near one sees its carrier as before."""
        run("ip", "netns", "exec", self.host, "nft", "flush", "ruleset")
        if off:
            run("ip", "netns", "exec", self.host, "nft", _CUT)


@pytest.fixture
def far() -> Iterator[Far]:
    if why := postgres.missing():
        pytest.skip(why)
    cluster, name, wire = postgres.Cluster(), f"vtdb{os.getpid()}", f"vtw{os.getpid()}"
    run("ip", "netns", "add", name)
    relay = None
    try:
        run("ip", "link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "address", "add", "198.18.77.1/30", "dev", wire)
        run("ip", "link", "set", wire, "up")
        for command in ("address add 198.18.77.2/30 dev eth0", "link set eth0 up", "link set lo up"):
            run("ip", "-n", name, *command.split())
        cluster.create("far")
        relay = subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, "-c", _RELAY, f"{cluster._directory}/.s.PGSQL.5432"],
            stdout=subprocess.PIPE,
        )
        assert relay.stdout and relay.stdout.readline() == b"ready\n"
        yield Far(name, wire, "postgresql://vini@198.18.77.2/far")
    finally:
        if relay:
            relay.kill()
            relay.wait()
        run("ip", "netns", "delete", name)
        run("ip", "link", "delete", wire, check=False)
        cluster.stop()


def test_who_asks_is_told_soon_and_who_asks_again_when_it_is_back_is_answered(far: Far) -> None:
    """TCP alone would wait for a quarter of an hour."""
    database = Database(far.url)
    database.migrate()

    def asks() -> bool:
        with database.reading() as tx:
            return tx.exec_driver_sql("SELECT 1").scalar() == 1

    assert asks()
    far.cut(off=True)
    started = time.monotonic()
    with pytest.raises(DatabaseError, match="See that it runs"):
        asks()
    assert time.monotonic() - started < 120
    far.cut(off=False)

    def again() -> bool:
        try:
            return asks()
        except DatabaseError:
            return False

    eventually(again, 60)
    assert all(asks() for _ in range(20)), "no connection of before is left that hangs"
    database.close()
