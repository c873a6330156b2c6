"""The shipped new architecture carries what real programs send: full-sized packets of TCP, both ways."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from own_place import OwnPlace, eventually

from vini.api.files import load

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "programs")]
EXAMPLE = Path(__file__).parents[2] / "examples" / "flat-ids.yaml"
SIZE = 2_000_000
ANSWER = """
import socket
with socket.create_server(("10.3.0.1", 7)) as server:
    with server.accept()[0] as peer:
        got = b"".join(iter(lambda: peer.recv(65536), b""))
        peer.sendall(got)
"""
ASK = f"""
import os, socket
sent = os.urandom({SIZE})
with socket.create_connection(("10.3.0.1", 7), timeout=60, source_address=("10.1.0.1", 0)) as peer:
    peer.sendall(sent)
    peer.shutdown(socket.SHUT_WR)
    got = b"".join(iter(lambda: peer.recv(65536), b""))
print("same" if got == sent else f"{{len(got)}} of {{len(sent)}}")
"""


async def test_tcp_goes_both_ways_by_identifiers(own: OwnPlace) -> None:
    client = own.client()
    topology, _ = load(EXAMPLE)
    await client.up(topology)
    server = subprocess.Popen(client.enter(topology.name, "east", ["python3", "-c", ANSWER]))
    listening = client.enter(topology.name, "east", ["ss", "-Hltn", "sport = :7"])
    eventually(lambda: subprocess.run(listening, capture_output=True, check=True).stdout)
    asking = client.enter(topology.name, "west", ["python3", "-c", ASK])
    asked = subprocess.run(asking, capture_output=True, text=True, timeout=90, check=False)
    assert (asked.stdout.strip(), asked.stderr) == ("same", "")
    assert server.wait(timeout=30) == 0
    by_identifier = (await client.maps(topology.name, "middle")).packets
    assert by_identifier > 2 * SIZE / 1500
