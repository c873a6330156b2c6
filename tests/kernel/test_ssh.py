"""SSH into slivers on one machine, as OpenSSH's own programs see it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_place import eventually
from ssh_net import Net, free_port, greeter, heard, net_with

from vini.node import netns
from vini.node.ssh import authorized

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "ssh")]

PAIR = "name: pair\nslivers: [west, east]\nlinks: [west -- east]\n"
OTHER = "name: other\nslivers: [solo]\n"


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    with net_with(tmp_path_factory.mktemp, PAIR, OTHER) as made:
        yield made


# --- coming in --------------------------------------------------------------------------------


def test_vini_ssh_and_plain_ssh_run_commands_in_the_sliver_with_its_names_and_exit_codes(net: Net) -> None:
    assert net.vini("ssh", "-s", "pair", "west", "echo $VINI_NAME; hostname").split() == ["west", "west"]
    net.vini("ssh", "-s", "pair", "west", "exit 7", code=7)
    assert "to-east" in net.ssh("west.pair", "ip -br link")
    assert net.ssh("west.pair", "echo out; echo err >&2; kill -9 $$", code=137) == "out\nerr\n"
    assert net.ssh("west.pair", "getent hosts east")
    assert net.ssh("-l", "other", "solo.other", "echo $VINI_NAME") == "solo\n"  # the only one of its slice
    assert "Permission denied" in net.ssh("-l", "pair", "solo.other", "true", code=255)
    cgroup = net.ssh("west.pair", "cat /proc/self/cgroup")
    assert f"/{net.own.place.mark}/pair.west/exec/run-" in cgroup


def test_keys_of_the_users_own_open_his_slices_and_no_other_key_does(net: Net) -> None:
    mine, strange = net.home / ".ssh" / "mine", net.home / "strange"
    for path in (mine, strange):
        subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", path], check=True)
    net.vini("ssh-config", "-s", "pair")  # whoever asks for a way in, says with which keys
    plain = ("-F", "none", "-p", str(net.server().port), "-o", f"UserKnownHostsFile={net.home}/.ssh/vini/known_hosts",
             "-o", f"HostKeyAlias={net.own.place.mark}.this-machine", "-o", "IdentitiesOnly=yes")  # fmt: skip
    assert net.ssh(*plain, "-i", mine, "pair.east@127.0.0.1", "echo $VINI_SLIVER") == "pair.east\n"
    for user in ("pair.east", "pair.nobody", "../pair", "root"):
        who = mine if user != "pair.east" else strange
        said = net.ssh(*plain, "-o", "BatchMode=yes", "-i", who, "-l", user, "127.0.0.1", "true", code=255)
        assert "Permission denied (publickey)" in said
    mine.with_suffix(".pub").unlink()


def test_a_terminal_has_its_size_follows_its_changes_and_passes_ctrl_c_on(net: Net) -> None:
    ours, theirs = pty.openpty()
    resize(ours, 50, 132)
    does = "trap 'stty size' WINCH; trap 'echo interrupted; exit 9' INT; stty size; while sleep 0.05; do :; done"
    process = net.start("-tt", "west.pair", does, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    until(ours, "50 132")
    resize(ours, 20, 70)
    process.send_signal(signal.SIGWINCH)
    until(ours, "20 70")
    os.write(ours, b"\x03")
    until(ours, "interrupted")
    assert process.wait(60) == 9
    os.close(ours)


def resize(fd: int, rows: int, columns: int) -> None:
    import fcntl
    import struct
    import termios

    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def until(fd: int, text: str, within: float = 60.0) -> None:
    seen, end = "", time.monotonic() + within
    while text not in seen:
        assert time.monotonic() < end, seen
        if select.select([fd], [], [], 1)[0]:
            seen += os.read(fd, 4096).decode()


# --- files ------------------------------------------------------------------------------------


def test_scp_sftp_and_rsync_copy_there_and_back(net: Net, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    first = tmp_path / "first"
    first.write_bytes(os.urandom(3_000_000))
    net.ssh(first, f"west.pair:{there}/by-scp", program="scp")
    net.ssh("-r", f"west.pair:{there}", tmp_path / "back", program="scp")
    assert (tmp_path / "back" / "by-scp").read_bytes() == first.read_bytes()
    (tmp_path / "batch").write_text(f"put {first} {there}/by-sftp\nls {there}\n")
    assert "by-sftp" in net.ssh("-b", tmp_path / "batch", "west.pair", program="sftp")
    done = subprocess.run(["rsync", "-a", "-e", f"ssh -F {net.config}", f"west.pair:{there}/", tmp_path / "synced"],
                          env=net.environment, capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "synced" / "by-sftp").read_bytes() == first.read_bytes()


# --- forwarding -------------------------------------------------------------------------------


def test_ports_are_forwarded_inside_the_sliver_and_from_nowhere_else(net: Net) -> None:
    own, elsewhere = free_port(), free_port()
    servers = [net.serve("pair.west", 8081, "west"), net.serve("other.solo", 8082, "solo"), greeter("node", elsewhere)]
    try:
        with net.forwarding("-L", f"{own}:localhost:8081"):
            assert heard(own) == "west"
        for host, port in (("127.0.0.1", elsewhere), ("localhost", 8082), ("::1", elsewhere), ("10.255.255.1", 22)):
            blocked = free_port()
            with net.forwarding("-L", f"{blocked}:[{host}]:{port}"):
                assert heard(blocked) == ""
        assert heard(elsewhere) == "node"
    finally:
        for server in servers:
            server.kill()
            server.communicate()


def test_sockets_of_the_nodes_file_system_and_agents_are_not_forwarded(net: Net, tmp_path: Path) -> None:
    ours = free_port()
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "node"))
        s.listen()
        with net.forwarding("-L", f"{ours}:{tmp_path}/node"):
            assert heard(ours) == ""
    agent = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"SSH_AUTH_SOCK=([^;]+);.*SSH_AGENT_PID=(\d+)", agent, re.DOTALL)
    assert found
    try:
        net.environment["SSH_AUTH_SOCK"] = found[1]
        assert net.ssh("-A", "west.pair", "echo agent=$SSH_AUTH_SOCK") == "agent=\n"
    finally:
        del net.environment["SSH_AUTH_SOCK"]
        os.kill(int(found[2]), signal.SIGTERM)


def test_a_port_of_the_sliver_comes_back_to_the_client_and_is_not_one_of_the_node(net: Net) -> None:
    ours, port = free_port(), free_port()
    server = greeter("client", ours)
    try:
        with net.forwarding("-R", f"{port}:127.0.0.1:{ours}"):
            with netns.inside(net.own.place.netns("pair.west")):
                eventually(lambda: heard(port) == "client")
            with pytest.raises(ConnectionRefusedError):
                heard(port)
    finally:
        server.kill()
        server.communicate()


# --- what lasts, and what ends --------------------------------------------------------------------


def test_sessions_outlive_the_agent_and_a_hundred_come_in_at_once(net: Net) -> None:
    with net.forwarding() as process:
        net.own.kill_agent()
        before = resident(net.server().pid)
        many = [net.start("west.pair", "echo in; read x", stdin=subprocess.PIPE) for _ in range(100)]
        assert {p.stdout.readline() for p in many} == {"in\n"}  # all of them are in now
        assert resident(net.server().pid) - before < 100_000_000
        for p in many:
            p.communicate("\n", timeout=60)
        assert {p.returncode for p in many} == {0}
        assert process.stdin and process.stdout
        process.stdin.write("still\n")
        process.stdin.flush()
        assert process.stdout.readline() == "still\n"


def resident(pid: int) -> int:
    """Bytes of memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_key_that_is_taken_away_opens_nothing_and_whoever_is_in_with_it_is_put_out(net: Net) -> None:
    state = net.own.place.state
    before = authorized.read(state, "here")
    child = net.start("west.pair", "echo $$; exec sleep 1000", stdin=subprocess.PIPE)
    assert child.stdout
    pid = child.stdout.readline().strip()
    assert Path(f"/proc/{pid}").exists()
    try:
        authorized.write(state, "here", {k: v for k, v in before.items() if k != "pair"})
        _, said = child.communicate(timeout=60)
        assert child.returncode == 255
        assert "does not open this slice any more" in said
        eventually(lambda: not Path(f"/proc/{pid}").exists())
        assert "Permission denied" in net.ssh("west.pair", "true", code=255)
        assert net.ssh("solo.other", "echo in") == "in\n"
    finally:
        authorized.write(state, "here", before)
    assert net.ssh("west.pair", "echo in") == "in\n"


def test_a_server_that_was_killed_comes_back_as_the_same_host_at_the_same_port(net: Net) -> None:
    before = net.server()
    net.vini("agent", "start")
    os.kill(before.pid, signal.SIGKILL)
    eventually(lambda: net.server().pid != before.pid)
    eventually(lambda: net.ssh("west.pair", "echo in") == "in\n")
    assert (net.server().port, net.server().host_key) == (before.port, before.host_key)


def test_the_configuration_as_json_names_the_host_key(net: Net) -> None:
    rows = json.loads(net.vini("ssh-config", "-s", "pair", "--json"))
    assert [(r["sliver"], r["user"]) for r in rows] == [("west", "pair.west"), ("east", "pair.east")]
    assert {r["host_key"] for r in rows} == {net.server().host_key}
    assert (net.config.read_text()).count("Include vini/config") == 1


def test_the_command_of_a_client_that_hangs_up_ends(net: Net) -> None:
    process = net.start("-tt", "west.pair", "echo $$; exec sleep 1000", stdin=subprocess.PIPE)
    assert process.stdout
    pid = process.stdout.readline().strip()
    process.kill()
    process.communicate()
    eventually(lambda: not Path(f"/proc/{pid}").exists())
