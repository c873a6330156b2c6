"""The broker of a sliver as its processes see it: what they get, and what a hostile one does not."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from own_place import OwnPlace, eventually, place_below
from ssh_net import free_port

from vini.node import cgroup
from vini.node.broker import door, guest
from vini.topology import parse

pytestmark = [pytest.mark.root, pytest.mark.needs("cgroup2", "containers")]
FILE = """
name: mine
slivers:
  box: {runtime: container, resources: {memory: 96MB, pids: 60}}
  twin: {runtime: container}
  plain: {commands: ["$VINI_SLIVER_DIR/vini/vini-ask self"]}
  bare: {}
links: [box -- twin, box -- plain, plain -- bare]
"""
# A client that says whatever it is told to: `talk(line, ...)` sends lines and returns the replies.
CLIENT = """
import json, os, socket, sys, time
def opened():
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.settimeout(30)
    s.connect(os.environ["VINI_SLIVER_DIR"] + "/vini/broker.sock")
    return s
def talk(*lines):
    s = opened()
    f = s.makefile("rb")
    out = []
    for line in lines:
        s.sendall((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\\n")
        out.append(json.loads(f.readline() or b'"hung up"'))
    return out
"""


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPlace]:
    with place_below(tmp_path_factory.mktemp("broker")) as own:
        asyncio.run(own.client().up(parse(FILE)))
        for sliver in ("box", "twin", "plain", "bare"):
            eventually(lambda s=sliver: (door.home(own.place, f"mine.{s}") / door.SOCKET).exists())
        yield own


def vini(own: OwnPlace, *words: str, code: int = 0) -> str:
    done = subprocess.run([sys.executable, "-m", "vini.cli", *words], env={**os.environ, **own.environment},
                          capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)  # fmt: skip
    assert done.returncode == code, (words, done.stdout, done.stderr)
    return done.stdout + (done.stderr if code else "")


def inside(own: OwnPlace, sliver: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """As `vini exec` runs it."""
    environment = {**os.environ, "VINI_SLIVER_DIR": str(own.place.sockets(f"mine.{sliver}"))}
    return subprocess.run(own.client().enter("mine", sliver, argv), env=environment, capture_output=True, text=True,
                          timeout=60, stdin=subprocess.DEVNULL)  # fmt: skip


def ask(own: OwnPlace, sliver: str, *words: str) -> dict:
    done = inside(own, sliver, "sh", "-c", '"$VINI_SLIVER_DIR/vini/vini-ask" "$@"', "sh", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def python(own: OwnPlace, sliver: str, text: str) -> str:
    done = inside(own, sliver, "/usr/bin/python3", "-c", CLIENT + textwrap.dedent(text))
    assert done.returncode == 0, done.stderr
    return done.stdout


def end(own: OwnPlace, sliver: str) -> None:
    """All that was started by `enter`: who runs inside a container is not ended with the command that began it."""
    cgroup.kill(cgroup.of(own.place, f"mine.{sliver}", "exec"))


def agents_files(own: OwnPlace) -> int:
    return len(list(Path(f"/proc/{own.agents()[0]}/fd").iterdir()))


# --- what they get ------------------------------------------------------------------------------


def test_a_process_learns_who_it_is_and_what_it_may_take_in_both_runtimes(there: OwnPlace) -> None:
    box, plain = ask(there, "box", "self"), ask(there, "plain", "self")
    assert (box["slice"], box["sliver"], box["node"], box["runtime"]) == ("mine", "box", "local", "container")
    assert (box["limits"]["memory_mb"], box["limits"]["pids"], box["expires"]) == (96, 60, None)
    assert (plain["sliver"], plain["runtime"], plain["limits"]) == ("plain", "light", {})
    assert {"to-twin", "to-plain"} <= ask(there, "box", "load")["vifs"].keys()
    assert "port" not in ask(there, "box", "help")["may"]
    assert '"sliver": "plain"' in eventually(lambda: vini(there, "logs", "plain"))  # a command of the slice asked too


def test_each_start_of_a_container_and_of_a_process_is_written_down(there: OwnPlace) -> None:
    eventually(lambda: "the container was started" in vini(there, "logs", "box", "boot"))
    cgroup.kill(cgroup.of(there.place, "mine.box", "container"))
    eventually(lambda: vini(there, "logs", "box", "boot").count("the container was started") == 2)
    assert "vini-ask self` was started" in vini(there, "logs", "plain", "boot")
    eventually(lambda: inside(there, "box", "true").returncode == 0)


def test_who_watches_hears_of_changes(there: OwnPlace) -> None:
    command = there.client().enter("mine", "box", ["/run/vini/vini-ask", "watch"])
    watching = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    assert watching.stdout
    try:
        assert "watching" in watching.stdout.readline()
        eventually(lambda: vini(there, "link", "box", "twin", "--cost", "7") or True)
        told = json.loads(watching.stdout.readline())
        assert told["event"] == "changed"
        assert told["generation"] == there.spec("mine").generation
    finally:
        end(there, "box")
        watching.communicate(timeout=60)


def test_a_port_of_the_node_is_had_where_it_was_granted_and_only_then(there: OwnPlace) -> None:
    port = free_port()
    refused = inside(there, "box", "/run/vini/vini-ask", "port", str(port), "true")
    assert refused.returncode == 1
    assert "is not granted to this slice; it has none" in refused.stderr
    assert "Denied" in python(there, "box", f'print(talk({{"ask": "port", "tcp": {port}}})[0]["error"])')
    assert "is no grant" in vini(there, "grant", "udp:53", code=2)
    vini(there, "grant", f"tcp:{port}")
    assert json.loads(vini(there, "grant", "--json"))["grants"] == [f"tcp:{port}"]
    serves = "import os, socket; s = socket.socket(fileno=3); assert os.environ['LISTEN_FDS'] == '1'; " \
             "c, _ = s.accept(); c.sendall(b'from the box'); c.close()"  # fmt: skip
    command = there.client().enter("mine", "box", ["/run/vini/vini-ask", "port", str(port), "python3", "-c", serves])
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as server:
        assert eventually(lambda: heard(port)) == "from the box"
        assert server.wait(60) == 0
    assert f"asked for TCP port {port} of the node: given" in vini(there, "logs", "box", "broker")
    assert vini(there, "grant", "--none") == ""
    assert inside(there, "box", "/run/vini/vini-ask", "port", str(port), "true").returncode == 1


def heard(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as s:
        return s.makefile().read()


def test_a_socket_of_the_node_can_not_be_turned_against_the_node(there: OwnPlace) -> None:
    port = free_port()
    vini(there, "grant", f"tcp:{port}")
    with socket.create_server(("127.0.0.1", 0)) as victim:
        vini(there, "agent", "status")
        at = victim.getsockname()[1]
        with calling(port):
            said = python(there, "box", f"""
            import ctypes
            libc = ctypes.CDLL(None, use_errno=True)
            s = opened()
            s.sendall(b'{{"ask": "port", "tcp": {port}}}\\n')
            _, fds, _, _ = socket.recv_fds(s, 4096, 1)
            listener = socket.socket(fileno=fds[0])
            accepted, _ = listener.accept()
            libc.connect(accepted.fileno(), bytes(28), 28)  # AF_UNSPEC: it is connected no more (connect(2))
            listener.shutdown(socket.SHUT_RDWR)
            for name, one in (("accepted", accepted), ("listener", listener)):
                for option in (26, 27):  # SO_ATTACH_FILTER, SO_DETACH_FILTER
                    try:
                        one.setsockopt(socket.SOL_SOCKET, option, bytes(16))
                        print("the filter is off")
                    except OSError as e:
                        print(name, e.strerror)
                for to in (({at}, "open"), (1, "closed")):
                    one.settimeout(1)
                    try:
                        one.connect(("::ffff:127.0.0.1", to[0]))
                        print(name, "CONNECTED")
                    except OSError as e:
                        print(name, to[1], e)
                    libc.connect(one.fileno(), bytes(28), 28)
                try:
                    one.setsockopt(socket.SOL_SOCKET, 36, 1)  # SO_MARK
                    print("marked")
                except OSError as e:
                    print(name, e.strerror)
            """)  # fmt: skip
        victim.settimeout(0.1)
        with pytest.raises(TimeoutError):
            victim.accept()
    assert said.count("Operation not permitted") == 6, said
    assert said.count("timed out") == 4, said  # whether a port is open can't be told either
    vini(there, "grant", "--none")


@contextmanager
def calling(port: int) -> Iterator[None]:
    """Meanwhile somebody calls there again and again.

    Who is hung up on before his own connect(2) has looked can't tell that from a port that nobody listens at yet.
    """
    over = threading.Event()

    def call() -> None:
        while not over.wait(0.02):
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=20).close()

    caller = threading.Thread(target=call)
    caller.start()
    try:
        yield
    finally:
        over.set()
        caller.join(60)


# --- hostile ones -----------------------------------------------------------------------------------


def test_what_is_no_request_is_told_so_and_the_next_is_answered(there: OwnPlace) -> None:
    said = python(there, "box", r"""
        good = {"ask": "help"}
        lines = [b"", b"{", b"[]", b"null", b'{"ask": "reboot"}', b'{"ask": ["help"]}', b"\x00\xff", b"[" * 3000,
                 b'{"ask": "port", "tcp": "22"}', b'{"ask": "row", "table": "../x", "key": "00"}',
                 b'{"ask": "row", "table": "t", "key": "zz"}', b'{"ask": "port", "tcp": 99999999999999999999999}']
        said = talk(*lines, good)
        print([r["error"] for r in said[:-1]], "may" in said[-1]["ok"])
        s = opened()
        s.sendall(b"x" * 5000)
        print(s.recv(4096))
    """)  # fmt: skip
    assert said.count("'Invalid'") == 10, said
    assert "'NotFound', 'Invalid', 'Denied'" in said, said
    assert "True" in said
    assert "4096 bytes at most" in said


def test_a_flood_is_bounded_and_the_neighbours_are_answered(there: OwnPlace) -> None:
    floods = CLIENT + textwrap.dedent("""
        print("begins", flush=True)
        hoard = []
        while True:
            try:
                s = opened()
                s.setblocking(False)
                hoard.append(s)
                for _ in range(1000):
                    s.send(b'{"ask": "load"}\\n' * 50)
            except OSError:
                pass
            if len(hoard) > 200:
                hoard.clear()
    """)
    command = there.client().enter("mine", "box", ["/usr/bin/python3", "-c", floods])
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as flood:
        try:
            assert flood.stdout and flood.stdout.readline() == "begins\n"
            before = agents_files(there)
            for sliver in ("twin", "plain", "bare"):
                assert ask(there, sliver, "self")["sliver"] == sliver
            assert vini(there, "exec", "twin", "--", "echo", "in") == "in\n"
            assert agents_files(there) - before < 2 * guest.BURST
        finally:
            end(there, "box")
    assert eventually(lambda: ask(there, "box", "self"))["sliver"] == "box"
    assert "hung up on a process" in vini(there, "logs", "box", "broker") or "too fast" in vini(there, "logs", "box")


def test_descriptors_that_are_sent_are_not_kept_and_those_that_are_given_are_not_leaked(there: OwnPlace) -> None:
    port = free_port()
    vini(there, "grant", f"tcp:{port}")
    before = agents_files(there)
    said = python(
        there,
        "twin",
        f"""
        s = opened()
        mine = [os.open("/", os.O_RDONLY) for _ in range(50)]
        for _ in range(4):
            socket.send_fds(s, [b'{{"ask": "help"}}\\n'], mine)
            print(s.recv(4096)[:5])
        for _ in range(5):
            s.sendall(b'{{"ask": "port", "tcp": {port}}}\\n')
            _, fds, _, _ = socket.recv_fds(s, 4096, 4)
            print(len(fds))
            for fd in fds:
                os.close(fd)
        s.sendall(b'{{"ask": "port", "tcp": {port}}}\\n')  # and goes without taking it
    """,
    )
    assert said.split() == ["b'{\"ok\"'"] * 4 + ["1"] * 5
    eventually(lambda: agents_files(there) <= before)
    with socket.socket() as s:
        eventually(lambda: s.bind(("127.0.0.1", port)) or True)
    vini(there, "grant", "--none")


def test_nobody_comes_in_by_the_door_of_another_sliver(there: OwnPlace) -> None:
    other = door.home(there.place, "mine.bare") / door.SOCKET
    said = python(
        there,
        "plain",
        f"""
        s = socket.socket(socket.AF_UNIX)
        s.connect({str(other)!r})
        print(s.makefile().read())
    """,
    )
    assert "does not live in this sliver" in said
    assert "No such file" in inside(there, "box", "ls", str(other)).stderr
    with socket.socket(socket.AF_UNIX) as s:  # nor does root of the node
        s.connect(str(other))
        assert "does not live in this sliver" in s.makefile().read()


def test_the_socket_is_there_again_after_vandalism_and_nothing_it_led_to_is_harmed(
    there: OwnPlace, tmp_path: Path
) -> None:
    for words in ("rm -f broker.sock", "touch x", "chmod 0 broker.sock", "mv /run/vini /run/other", "rmdir /run/vini"):
        assert inside(there, "box", "sh", "-c", f"cd /run/vini; {words}").returncode != 0
    at = door.home(there.place, "mine.plain") / door.SOCKET
    target = tmp_path / "target"
    target.write_text("precious")
    for spoil in (lambda: at.symlink_to(target), lambda: at.mkdir(), lambda: at.write_text("no socket"), lambda: None):
        at.unlink() if not at.is_dir() else at.rmdir()
        spoil()
        assert eventually(lambda: ask(there, "plain", "self"))["sliver"] == "plain"
    assert target.read_text() == "precious"


def test_an_agent_that_is_killed_and_started_again_answers_in_the_running_container(there: OwnPlace) -> None:
    first = inside(there, "box", "stat", "-c", "%i", "/proc/1/ns/pid").stdout
    there.kill_agent()
    with subprocess.Popen(there.client().enter("mine", "box", ["/run/vini/vini-ask", "self"]), text=True,
                          stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as waiting:  # fmt: skip
        vini(there, "agent", "start")
        out, _ = waiting.communicate(timeout=60)
    assert json.loads(out)["sliver"] == "box"
    assert inside(there, "box", "stat", "-c", "%i", "/proc/1/ns/pid").stdout == first
