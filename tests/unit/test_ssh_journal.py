"""Who logged in at a node's own port: written down there, and told once."""

from __future__ import annotations

from pathlib import Path

import pytest

from vini.node.ssh import authorized, journal
from vini.node.ssh.journal import Journal
from vini.node.ssh.through import is_through, source_of
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


def test_what_came_through_the_central_is_known_by_its_address() -> None:
    assert is_through(source_of("princeton_iias"))
    assert not any(map(is_through, ("127.0.0.1", "192.0.2.1", "::1")))
