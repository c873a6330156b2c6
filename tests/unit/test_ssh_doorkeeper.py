"""What a user name means to a node's SSH server, and what no key opens."""

from __future__ import annotations

from pathlib import Path

import pytest

from vini import bus
from vini.model import NotFound
from vini.node import netns, running
from vini.node.place import Place
from vini.node.ssh import authorized
from vini.node.ssh.journal import Journal
from vini.node.ssh.server import Doorkeeper, _Connection
from vini.node.ssh.through import Came

KEY = "ssh-ed25519 AAAA"
BELOW = ("_tunnels", "_wireguard")  # what carries a slice's links: who enters is root of the node


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Slice s has one sliver here, and what carries its links; all of that is there."""
    made = Place("t", tmp_path, tmp_path)
    monkeypatch.setattr(Place, "netns", lambda _, ns: tmp_path / "names" / ns)
    monkeypatch.setattr(netns, "pinned", lambda directory, _: [*BELOW, "a"] if directory.name == "s" else [])
    for name in ("a", *BELOW):
        (tmp_path / "names" / f"s.{name}").mkdir(parents=True)
    authorized.write(tmp_path, "central", {"s": bus.Admission(keys=(bus.AuthorizedKey(KEY, "ada"),))})
    return made


def test_a_members_key_opens_slivers_and_nothing_below_them(place: Place) -> None:
    door = Doorkeeper(place, running.in_sliver(place))
    assert door.opens("s.a", KEY) and door.opens("s", KEY) and not door.opens("s.a", "ssh-ed25519 BBBB")
    assert door.place_of("s") == ("s", "s.a")
    for name in BELOW:
        assert not door.opens(f"s.{name}", KEY) and not door.may_stay(f"s.{name}", KEY)
        with pytest.raises(NotFound, match="here are"):
            door.place_of(f"s.{name}")


@pytest.mark.parametrize("name", BELOW)
def test_nothing_is_run_nor_read_below_slivers_whoever_asks(place: Place, name: str) -> None:
    with pytest.raises(NotFound, match="is not there"):
        running.in_sliver(place)(bus.Run(f"s.{name}", ("id",)))
    with pytest.raises(NotFound, match="is not there"):
        running.reads_logs(place)(bus.Logs(f"s.{name}"))


def test_who_was_noted_to_come_is_noted_to_go_also_where_the_slice_has_ended(place: Place) -> None:
    (place.state / "uplink").mkdir()
    (place.state / "uplink" / ".owner").write_text("A n1")
    one = _Connection(Doorkeeper(place, running.in_sliver(place)))
    one._user, one._key, one._came = "s.a", KEY, Came("192.0.2.1")
    one.auth_completed()
    authorized.write(place.state, "central", {})
    one.connection_lost(None)
    assert [(r.person, r.seconds >= 0) for r in Journal(place.state).after(0)] == [("ada", False), ("ada", True)]
    other = _Connection(Doorkeeper(place, running.in_sliver(place)))
    other._user, other._key = "s.a", KEY
    other.auth_completed()
    other.connection_lost(None)
    assert len(Journal(place.state).after(0)) == 2, "of a slice that is none of the central's nothing is noted"
