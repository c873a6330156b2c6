"""Nodes and centrals of other versions: what a message has in addition is passed over, what it lacks has a default."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import structs

from vini import bus
from vini.bus import frames
from vini.model import Netns, Ride, SliceSpec, SliverStatus
from vini.rules.interfaces import NodeInterface

SPEC = SliceSpec("home_line", "n1", 7, frozenset({Netns("home_line.a")}))


def wire(message: bus.Message) -> dict[str, Any]:
    """As it is said, to be changed."""
    body: dict[str, Any] = msgspec.msgpack.decode(msgspec.msgpack.encode(message))
    return body


def heard(said: dict[str, Any], of: Any) -> Any:
    _, raw = frames.decode(msgspec.msgpack.encode((3, said)))
    return frames.understood(raw, of)


SAID = [
    (bus.Greeting("1.0", 4, "n1", frozenset({"bird"}), {"home_line": 7}), bus.ToCentral),
    (bus.Report((SliverStatus("home_line.a", "ready"),), slice="home_line", generation=7, accepted=7), bus.ToCentral),
    (bus.Accept(SPEC), bus.ToNode),
    (bus.Proof("n1", b"s", bus.Greeting("1.0", 4, "n1", frozenset(), {})), bus.ToCentral),
    (bus.Challenge(b"nonce"), bus.ToNode),
    (bus.Clock(1.0, 2.0), bus.ToCentral),
    (bus.Acts(()), bus.ToCentral),
]
each = pytest.mark.parametrize(
    "message, of", SAID, ids=lambda x: type(x).__name__ if isinstance(x, bus.Message) else ""
)


def test_an_interface_with_more_than_this_version_knows_is_understood() -> None:
    said = wire(SAID[0][0]) | {"interfaces": [{"name": "eth0", "mtu": 1500, "colour": "blue"}]}
    assert heard(said, bus.ToCentral).interfaces == (NodeInterface("eth0", mtu=1500),)


def test_an_act_with_more_than_this_version_knows_is_understood() -> None:
    said = {"message": "acts", "acts": [{"generation": 1, "due": 1.0, "began": 1.0, "done": 2.0, "mood": "calm"}]}
    assert heard(said, bus.ToCentral) == bus.Acts((bus.Act(1, 1.0, 1.0, 2.0),))


@each
def test_what_a_newer_version_says_in_addition_is_passed_over(message: bus.Message, of: Any) -> None:
    assert heard({**wire(message), "mood": {"deep": [1, 2]}, "shoe_size": 42}, of) == message


def test_what_an_older_version_does_not_say_yet_has_its_default() -> None:
    greeting = {"message": "greeting", "version": "0.1", "pid": 1, "node": "n1", "capabilities": [], "generations": {}}
    assert heard(greeting, bus.ToCentral) == bus.Greeting("0.1", 1, "n1", frozenset(), {})
    assert heard({"message": "report", "slivers": []}, bus.ToCentral) == bus.Report(())
    accept = {"message": "accept", "spec": {"slice": "home_line", "node": "n1", "generation": 7, "objects": []}}
    assert heard(accept, bus.ToNode) == bus.Accept(SliceSpec("home_line", "n1", 7))
    assert heard({"message": "challenge", "nonce": b"n"}, bus.ToNode).wire == bus.WIRE


def test_a_status_with_more_than_this_version_knows_is_understood() -> None:
    said = wire(bus.Report((SliverStatus("home_line.a", "ready"),), slice="home_line"))
    said["slivers"][0]["since"] = 12.5
    assert heard(said, bus.ToCentral).slivers == (SliverStatus("home_line.a", "ready"),)


def test_a_spec_with_more_than_this_version_knows_is_taken_without_that() -> None:
    """What a slice can do without, as what becomes of links whose path fails, stands beside its objects."""
    ride = Ride("a-b", "home_line.a", "to-b", "n2")
    said = wire(bus.Accept(structs.replace(SPEC, rides=(ride,))))
    said["spec"]["colour"] = {"of": ["paint"]}
    said["spec"]["rides"][0]["fare"] = 2.5
    assert heard(said, bus.ToNode) == bus.Accept(structs.replace(SPEC, rides=(ride,)))


REFUSED = {"object": "asks for `colour` of an object", "kind": "asks for an object of the kind 'wormhole'"}


@pytest.mark.parametrize("where", REFUSED)
def test_an_object_that_asks_for_more_than_this_version_can_do_is_refused_and_not_half_made(where: str) -> None:
    """Unlike words, wishes must not be passed over: the node would hold something else than was asked."""
    said = wire(bus.Accept(SPEC))
    (netns,) = said["spec"]["objects"]
    netns.update({"colour": "red"} if where == "object" else {"kind": "wormhole"})
    with pytest.raises(bus.Foreign, match=f"can't be understood: it {REFUSED[where]}, which is not known here"):
        heard(said, bus.ToNode)
