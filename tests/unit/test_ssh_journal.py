"""Who logged in at a node's own port: written down there, and told once."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from vini.node.ssh import authorized, journal
from vini.node.ssh.journal import Journal
from vini.node.ssh.through import came, is_carried, source_of
from vini.rules.logins import Login


@pytest.fixture
def state(tmp_path: Path) -> Path:
    authorized.directory(tmp_path).mkdir()
    own(tmp_path, "A n1")
    return tmp_path


def own(state: Path, owner: str) -> None:
    (state / "uplink").mkdir(exist_ok=True)
    (state / "uplink" / ".owner").write_text(owner)


def login(user: str = "s.a", seconds: float = -1.0) -> Login:
    return Login(0, user, "ada", "192.0.2.1", 1.0, seconds)


def test_what_one_process_writes_another_tells_from_any_number_on(state: Path) -> None:
    server, agent = Journal(state), Journal(state)
    assert (agent.newest(), agent.after(0)) == (0, ())
    server.note(login("s.a"))
    server.note(login("s.a", 2.0))
    first, second = agent.after(0)
    assert (first.user, first.seconds, second.seconds) == ("s.a", -1.0, 2.0)
    assert 0 < first.number < second.number == agent.newest()
    assert agent.after(first.number) == (second,) and agent.after(second.number) == ()


def test_numbers_go_up_also_where_the_clock_goes_back(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Journal(state).note(login())
    before = Journal(state).newest()
    monkeypatch.setattr(journal.time, "time_ns", lambda: 1000)
    Journal(state).note(login())
    assert Journal(state).newest() == before + 1


def test_another_central_hears_nothing_of_it(state: Path) -> None:
    Journal(state).note(login())
    agent = Journal(state)
    assert len(agent.after(0)) == 1
    own(state, "B n1")
    assert (agent.newest(), agent.after(0)) == (0, ())


def test_a_line_that_a_crash_cut_is_passed_over_and_files_stay_small(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_FULL", 2000)
    for _ in range(100):
        Journal(state).note(login())
    with (authorized.directory(state) / "logins").open("ab") as file:
        file.write(b'{"owner": "A n1", "log')
    kept = Journal(state).after(0)
    assert 10 < len(kept) < 60
    assert sum(f.stat().st_size for f in authorized.directory(state).iterdir()) < 5000


def test_an_old_server_beside_a_new_one_gets_numbers_that_go_up_in_the_order_of_lines(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = Journal(state), Journal(state)
    old.note(login())
    monkeypatch.setattr(journal.time, "time_ns", lambda: 10**30)
    new.note(login())
    monkeypatch.setattr(journal.time, "time_ns", lambda: 1000)
    old.note(login())
    new.note(login())
    threads = [threading.Thread(target=lambda j=j: [j.note(login()) for _ in range(50)]) for j in (old, new)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = [line.login.number for line in journal._lines((authorized.directory(state) / "logins").read_bytes())]
    assert len(numbers) == 104 and numbers == sorted(set(numbers))


def test_numbers_of_an_older_version_that_are_out_of_order_are_told_in_order(state: Path) -> None:
    at = authorized.directory(state) / "logins"
    for number in (7, 3, 5):
        line = journal._Line("A n1", Login(number, "s.a", "ada", "192.0.2.1", 1.0))
        with at.open("ab") as file:
            file.write(journal.msgspec.json.encode(line) + b"\n")
    assert [r.number for r in Journal(state).after(3)] == [5, 7]


def test_a_line_after_one_that_a_crash_cut_is_whole(state: Path) -> None:
    Journal(state).note(login())
    with (authorized.directory(state) / "logins").open("ab") as file:
        file.write(b'{"owner": "A n1", "log')
    Journal(state).note(login("s.b"))
    assert [r.user for r in Journal(state).after(0)] == ["s.a", "s.b"]


def carried(slice_: str, source: str, uid: int = 0, gone: bool = False) -> bool:
    """What is thought of a connection from there, of a process of that user."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        child = os.fork()
        if child == 0:
            os.setuid(uid)
            ours = socket.socket()
            ours.bind((source, 0))
            ours.connect(server.getsockname())
            if gone:
                ours.close()
            else:
                ours.recv(1)
            os._exit(0)
        ours, peer = server.accept()
        with ours:
            if gone:
                os.waitpid(child, 0)
            found = is_carried(slice_, came(peer, ours.getsockname()))
        if not gone:
            os.waitpid(child, 0)
        return found


@pytest.mark.root
def test_only_the_agents_own_socket_proves_that_the_central_knows_who_comes() -> None:
    of = source_of("princeton_iias")
    assert carried("princeton_iias", of)
    assert not carried("princeton_iias", of, uid=65534), "a user of the machine may take that address, too"
    assert not carried("princeton_iias", of, uid=65534, gone=True) and not carried("princeton_iias", of, gone=True)
    assert not carried("princeton_iias", "127.0.0.1") and not carried("mit_other", of)
    assert not is_carried("princeton_iias", came(None, None))
