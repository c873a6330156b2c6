"""OpenVPN between two containers: a tenant's own tunnel, by the TUN device that each of them has."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest
from own_place import OwnPlace, eventually, run

from vini.topology import parse

pytestmark = [
    pytest.mark.root,
    pytest.mark.needs("cgroup2", "containers", "ping"),
    pytest.mark.skipif(not shutil.which("openvpn"), reason="needs the package openvpn (packages-tests.txt)"),
]
ENDS = {"a": ("b", "server", "10.9.0.1", "10.9.0.2"), "b": ("a", "client", "10.9.0.2", "10.9.0.1")}


def certificate(at: Path, name: str) -> str:
    """A key, and a certificate that vouches for itself; tells its fingerprint, by which the other end knows it."""
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "9",
        "-keyout", at / f"{name}.key", "-out", at / f"{name}.crt", "-subj", f"/CN={name}")  # fmt: skip
    told = run("openssl", "x509", "-in", at / f"{name}.crt", "-noout", "-fingerprint", "-sha256")
    return told.strip().rpartition("=")[2]


def topology(at: Path) -> str:
    fingerprints = {name: certificate(at, name) for name in ENDS}
    slivers = ""
    for name, (other, role, own, far) in ENDS.items():
        command = (
            f"exec openvpn --dev tun0 --local {name} --remote {other} --proto udp --ifconfig {own} {far} --dh none "
            f"--tls-{role} --cert /etc/vpn/crt --key /etc/vpn/key --peer-fingerprint {fingerprints[other]}"
        )
        files = "".join(
            f"      /etc/vpn/{what}: |\n"
            + "".join(f"        {row}\n" for row in (at / f"{name}.{what}").read_text().split("\n"))
            for what in ("crt", "key")
        )
        slivers += f"  {name}:\n    runtime: container\n    files:\n{files}"
        slivers += f"    commands: [{{run: '{command}', service: true}}]\n"
    return f"name: vpn\nslivers:\n{slivers}links: [a -- b]\n"


def test_two_containers_have_a_tunnel_of_their_own(own: OwnPlace, tmp_path: Path) -> None:
    client = own.client()
    asyncio.run(client.up(parse(topology(tmp_path))))

    def says(sliver: str, *argv: str) -> str:
        done = subprocess.run(client.enter("vpn", sliver, argv), capture_output=True, text=True, timeout=60)
        return done.stdout

    eventually(lambda: " 1 received" in says("a", "ping", "-c1", "-W2", "-I", "tun0", "10.9.0.2"))
    assert " 1 received" in says("b", "ping", "-c1", "-W2", "-I", "tun0", "10.9.0.1")
    before = sent(says("a", "cat", "/proc/net/dev"))
    says("a", "ping", "-q", "-c", "20", "-i", "0.02", "-s", "1000", "10.9.0.2")
    assert sent(says("a", "cat", "/proc/net/dev")) - before >= 20 * 1000, "it goes by the link between them"
    assert run("ip", "link", "show", "tun0", check=False, both=True).count("does not exist") == 1, "the node has none"


def sent(table: str) -> int:
    """Bytes that left by the link."""
    row = next(r for r in table.splitlines() if r.strip().startswith("to-b:"))
    return int(row.partition(":")[2].split()[8])
