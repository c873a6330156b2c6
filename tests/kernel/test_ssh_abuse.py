"""A member of a slice who wants more of SSH than his slivers: what he tries, and that it gets him nothing."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from string import ascii_uppercase

import asyncssh
import pytest
from own_place import eventually
from ssh_net import Net, free_port, greeter, heard, net_with

from vini.node.ssh import fairness

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "ssh", "containers")]
MINE = "name: mine\ndefaults: {sliver: {runtime: container}}\nslivers: [box, twin]\nlinks: [box -- twin]\n"
THEIRS = "name: theirs\nslivers: [solo]\n"


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    with net_with(tmp_path_factory.mktemp, MINE, THEIRS) as made:
        yield made


@asynccontextmanager
async def connected(net: Net, user: str = "mine.box") -> AsyncIterator[asyncssh.SSHClientConnection]:
    """By a client that says whatever it is told to."""
    identity = net.own.place.state / "ssh" / "id_ed25519"
    async with asyncio.timeout(60), asyncssh.connect(
        "127.0.0.1", net.server().port, username=user, client_keys=[str(identity)], known_hosts=None, config=[]
    ) as made:  # fmt: skip
        yield made


# --- the environment ----------------------------------------------------------------------------


async def test_what_would_change_how_programs_run_on_the_node_is_not_taken_from_the_client(net: Net) -> None:
    at = "/smuggled"
    smuggled = {
        **dict.fromkeys(("LD_PRELOAD", "LD_LIBRARY_PATH", "PATH", "BASH_ENV", "ENV", "VINI_RUN", "PYTHONPATH"), at),
        "TZDIR": at, "LANGX": at, "LC_ALL\nLD_PRELOAD": at, "LC_CTYPE": "a\nb", "IFS": at, "VINI_SLIVER": "theirs.solo",
    }  # fmt: skip
    for user in ("mine.box", "theirs.solo"):
        async with connected(net, user) as conn:
            said = str((await conn.run("env", env={**smuggled, "LC_ALL": "C.UTF-8", "TZ": "UTC"})).stdout)
        assert not [w for w in ("/smuggled", "LANGX", "TZDIR", "LD_", "a\nb", "IFS") if w in said]
        assert "theirs.solo" not in said or user == "theirs.solo"
    assert "LC_ALL=C.UTF-8\n" in said
    assert "TZ=UTC\n" in said


async def test_an_environment_without_end_takes_no_memory_and_harms_nobody(net: Net) -> None:
    letters = (f"LC_{a}{b}{c}" for a in ascii_uppercase for b in ascii_uppercase for c in "ABCDE")
    many = dict.fromkeys(letters, "x" * 900)  # more than a program can be given
    async with connected(net) as conn:
        assert (await conn.run("echo in", env=many)).stdout == "in\n"


# --- commands and subsystems ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["netconf", "sftp; id", "../sftp", "sftp\0", "SFTP"])
async def test_there_is_no_subsystem_but_sftp(net: Net, name: str) -> None:
    async with connected(net) as conn:
        with pytest.raises(asyncssh.ChannelOpenError):
            await conn.create_process(subsystem=name)
        assert (await conn.run("echo still")).stdout == "still\n"


async def test_commands_that_no_program_can_be_given_are_refused_and_the_connection_stays(net: Net) -> None:
    async with connected(net) as conn:
        with pytest.raises(asyncssh.ChannelOpenError):
            await conn.run("echo a\0b")
        long = await conn.run("echo " + "x" * 200_000)
        assert long.exit_status == 255
        assert "can't be started" in str(long.stderr)
        assert (await conn.run("$(reboot) `id`; exit 3")).exit_status == 3  # a shell's, in the container


async def test_signals_reach_what_runs_and_how_it_ended_is_told(net: Net) -> None:
    async with connected(net) as conn:
        does = "trap 'echo usr1; exit 5' USR1; echo ready; while sleep 0.05; do :; done"
        process = await conn.create_process(does)
        assert await process.stdout.readline() == "ready\n"
        process.send_signal("USR1")
        done = await process.wait()
        assert (done.stdout, done.exit_status) == ("usr1\n", 5)
        shell = await conn.create_process(term_type="../../../tmp/x", term_size=(4_000_000_000, 4_000_000_000))
        shell.change_terminal_size(100, 40)
        shell.stdin.write("stty size; echo $TERM; exit 9\n")
        done = await shell.wait()
        assert done.exit_status == 9
        assert "/tmp/x" not in str(done.stdout)


def test_output_that_nobody_reads_waits_in_the_sliver_and_not_in_the_server(net: Net) -> None:
    process = net.start("box.mine", "echo in; exec cat /dev/zero")
    try:
        assert process.stdout and process.stdout.readline() == "in\n"
        before = resident(net)
        assert net.ssh("box.mine", "head -c 300000000 /dev/zero | tail -c 3") == "\0\0\0"
        assert resident(net) - before < 60_000_000
    finally:
        process.kill()
        process.communicate()


def resident(net: Net) -> int:
    return int(Path(f"/proc/{net.server().pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --- files ------------------------------------------------------------------------------------


def test_paths_by_sftp_and_scp_lead_nowhere_but_into_the_sliver(net: Net, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the node's")
    mine = tmp_path / "mine"
    mine.write_text("mine")
    net.ssh("box.mine", f"ln -s {tmp_path} /root/out; ln -s /proc/1/root{tmp_path} /root/deep; ln -s / /root/up")
    tricks = [str(secret), f"/../../../..{secret}", "out/secret", "deep/secret", f"up/..{secret}",
              f"/proc/1/root{secret}", f"/proc/self/root/..{secret}"]  # fmt: skip
    for path in tricks:
        for words in (("-q",), ("-q", "-O")):  # by sftp, and as scp did it before
            net.ssh(*words, f"box.mine:{path}", tmp_path / "got", program="scp", code=1)
    assert not (tmp_path / "got").exists()
    net.ssh("-q", mine, f"box.mine:/../../..{tmp_path}/put", program="scp", code=1)  # no such directory there
    batch = tmp_path / "batch"
    batch.write_text(f"put {mine} /../../../tmp/put\nsymlink {secret} /tmp/link\n-get /tmp/link {tmp_path}/got\n")
    net.ssh("-b", batch, "box.mine", program="sftp")
    assert not (tmp_path / "got").exists()
    assert net.ssh("box.mine", "cat /tmp/put") == "mine"
    assert not Path("/tmp/put").exists()


# --- forwarding -------------------------------------------------------------------------------


def test_nothing_of_the_node_or_of_another_slice_is_reached_by_forwarding(net: Net) -> None:
    port, agent = free_port(), net.own.place.run / "agent.socket"
    servers = [greeter("node", port), net.serve("theirs.solo", 8085, "solo")]
    try:
        for target in (f"127.0.0.1:{port}", "localhost:8085", f"0.0.0.0:{port}", f"[::ffff:127.0.0.1]:{port}",
                       f"2130706433:{port}", f"localhost.:{port}", f"127.1:{port}", str(agent),
                       f"@/vini:{port}"):  # fmt: skip
            ours = free_port()
            with net.forwarding_to("box.mine", "-L", f"{ours}:{target}"):
                assert heard(ours) == "", target
        socks = free_port()
        with net.forwarding_to("box.mine", "-D", str(socks)):
            asked = ["curl", "-s", "-m", "10", "--socks5-hostname", f"127.0.0.1:{socks}", f"http://127.0.0.1:{port}/"]
            assert subprocess.run(asked, capture_output=True).stdout == b""
        assert heard(port) == "node"
    finally:
        for server in servers:
            server.kill()
            server.communicate()


async def test_sockets_in_the_nodes_file_system_are_neither_made_nor_reached(net: Net, tmp_path: Path) -> None:
    async with connected(net) as conn:
        with pytest.raises(asyncssh.ChannelOpenError):
            await conn.open_unix_connection(str(net.own.place.run / "agent.socket"))
        with pytest.raises(asyncssh.ChannelListenError):
            await conn.start_unix_server(lambda *_: None, str(tmp_path / "made"))
        with pytest.raises(asyncssh.ChannelOpenError):
            await conn.open_tun()
    assert not (tmp_path / "made").exists()


def test_agents_and_displays_stay_with_the_client_unless_he_is_let(net: Net) -> None:
    net.environment["DISPLAY"] = "localhost:0"
    try:
        assert net.ssh("-X", "box.mine", "echo display=$DISPLAY agent=$SSH_AUTH_SOCK").split() == ["display=", "agent="]
    finally:
        del net.environment["DISPLAY"]


async def test_no_connection_has_more_sessions_and_forwarded_connections_than_it_may(net: Net) -> None:
    async with connected(net) as conn:
        sessions = [await conn.create_process("cat") for _ in range(fairness.PER_CONNECTION)]
        with pytest.raises(asyncssh.ChannelOpenError):
            await conn.create_process("cat")
        with pytest.raises(asyncssh.ChannelOpenError):
            await conn.open_connection("127.0.0.1", 9)
        ended = sessions.pop()
        ended.close()
        await ended.wait_closed()
        assert (await conn.run("echo again")).stdout == "again\n"


async def test_who_is_never_answered_holds_up_nobody_else_and_asks_for_no_more_than_he_may(net: Net) -> None:
    swallowed = "203.0.113.9"
    net.ssh("box.mine", f"ip route replace {swallowed} dev to-twin && "
                        f"ip neigh replace {swallowed} lladdr 02:00:00:00:00:99 dev to-twin nud permanent")  # fmt: skip
    server = net.serve("theirs.solo", 8086, "solo")
    try:
        async with connected(net) as conn, connected(net, "theirs.solo") as other:
            asked = [
                asyncio.create_task(conn.open_connection(swallowed, 9)) for _ in range(fairness.PER_CONNECTION + 10)
            ]
            while sum(task.done() for task in asked) < 10:  # those that are too many are told so
                await asyncio.sleep(0.01)
            reader, _ = await other.open_connection("127.0.0.1", 8086)
            assert await reader.read() == b"solo"
            done = [task for task in asked if task.done()]
            assert len(done) == 10, "the others wait"
            assert {type(task.exception()) for task in done} == {asyncssh.ChannelOpenError}
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
    finally:
        server.kill()
        server.communicate()


# --- logins -----------------------------------------------------------------------------------


def test_a_crowd_of_strangers_from_one_address_keeps_nobody_out_who_comes_from_another(net: Net) -> None:
    port = net.server().port
    crowd = []
    try:
        for _ in range(fairness.STRANGERS + 50):
            s = socket.socket()
            s.bind(("127.9.9.9", 0))
            s.connect(("127.0.0.1", port))
            crowd.append(s)
        assert net.ssh("-o", "BindAddress=127.8.8.8", "box.mine", "echo in") == "in\n"
        eventually(lambda: "hung up on 127.9.9.9" in (net.own.place.state / "ssh.log").read_text())
        assert "hung up on 127.8.8.8" not in (net.own.place.state / "ssh.log").read_text()
    finally:
        for s in crowd:
            s.close()


async def test_a_client_that_tries_key_after_key_is_hung_up_on(net: Net) -> None:
    keys = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(fairness.TRIES + 10)]
    with pytest.raises((asyncssh.Error, OSError)):
        await asyncssh.connect("127.0.0.1", net.server().port, username="mine.box", client_keys=keys,
                               known_hosts=None, config=[])  # fmt: skip
    assert f"it offered {fairness.TRIES} keys" in (net.own.place.state / "ssh.log").read_text()
    assert net.ssh("box.mine", "echo in") == "in\n"


# --- terminals --------------------------------------------------------------------------------


def test_a_containers_terminal_follows_each_change_of_the_clients(net: Net) -> None:
    """It is another than the node's, which crun makes, and whose size crun copies but once."""
    ours, theirs = pty.openpty()
    process = net.start("-tt", "box.mine", "while read -r _; do stty size; done; exit 9",
                        stdin=theirs, stdout=theirs, stderr=theirs)  # fmt: skip
    os.close(theirs)
    for rows, columns in ((50, 132), (20, 70)):
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        process.send_signal(signal.SIGWINCH)
        said = ""
        while f"{rows} {columns}" not in said:
            os.write(ours, b"\n")
            said += os.read(ours, 4096).decode()
            time.sleep(0.05)
    os.write(ours, b"\x04")
    assert process.wait(60) == 9
    os.close(ours)
