"""Many WireGuards in one pass: which come up, and in which order with what slivers may send by them."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from vini.model import DriverError, Wireguard, WireguardPeer
from vini.node.drivers import wireguard
from vini.node.drivers.share import ShareDriver
from vini.node.drivers.wireguard import WireguardDriver
from vini.node.place import Place
from vini.node.shares.detour import _There

WGS = [Wireguard(f"{s}._wireguard", "wg", "key", 20_000 + i, "10.0.0.1/32", 1420, ()) for i, s in enumerate("abc")]
NAMES = [o.ns for o in WGS]
KNOWN = "b._wireguard"  # it is up


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done, in its order."""
    told: list[str] = []
    monkeypatch.setattr(wireguard, "Socket", nullcontext)
    monkeypatch.setattr(wireguard.netns, "inside", nullcontext)
    monkeypatch.setattr(WireguardDriver, "_make", lambda _self, _home, o: o.ns == KNOWN)
    monkeypatch.setattr(wireguard, "_raise", lambda _there, o: told.append(o.ns))
    return told


def ensured(monkeypatch: pytest.MonkeyPatch, told: list[str], why: dict[str, str] | DriverError) -> set[str]:
    """Which failed."""

    def learn(_: ShareDriver) -> dict[str, str]:
        told.append("learn")
        if isinstance(why, DriverError):
            raise why
        return why

    monkeypatch.setattr(ShareDriver, "learn", learn)
    failed = WireguardDriver(Place("t", Path("/nowhere"), Path("/nowhere"))).ensure(WGS)
    return {ns for _, ns, *_ in failed}


def test_the_shares_learn_of_all_at_once_before_any_comes_up(monkeypatch: pytest.MonkeyPatch, told: list[str]) -> None:
    assert ensured(monkeypatch, told, {}) == set()
    assert told == ["learn", *NAMES]


def test_one_whose_detour_failed_stays_down_and_no_other(monkeypatch: pytest.MonkeyPatch, told: list[str]) -> None:
    assert ensured(monkeypatch, told, {"a._wireguard": "no", KNOWN: "no"}) == {"a._wireguard"}
    assert told == ["learn", *NAMES[1:]]


def test_where_the_shares_can_learn_nothing_no_new_one_comes_up(
    monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    assert ensured(monkeypatch, told, DriverError("No.")) == set(NAMES) - {KNOWN}
    assert told == ["learn", KNOWN]


def test_a_peer_without_an_endpoint_or_an_address_is_nowhere_exempt() -> None:
    peers = [("10.0.0.1", "192.0.2.1"), ("10.0.0.2", ""), ("", "192.0.2.3"), ("10.0.0.4", "198.51.100.1")]
    there = _There(1, None, tuple(WireguardPeer("key", *p) for p in peers), {})
    assert there.exempt(["192.0.2.0/24"]) == ("10.0.0.1",)
