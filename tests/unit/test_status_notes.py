"""What `vini status` tells besides the state of slivers: a way to the world that is asked for and not granted."""

from __future__ import annotations

import pytest

from vini.cli import slices
from vini.model import OutsideGrant, Sliver, SliverStatus, Topology

LAB = Topology("lab", {"a": Sliver("a", outside=True), "b": Sliver("b"), "c": Sliver("c", outside=True)})
ROWS = [SliverStatus(f"lab.{s}", "ready") for s in "abc"]


class Granting:
    def __init__(self, grant: OutsideGrant | None):
        self._grant = grant

    def granted(self, slice_: str) -> OutsideGrant | None:
        assert slice_ == "lab"
        return self._grant


def test_what_is_asked_for_and_not_granted_is_told_with_the_command_that_grants_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shut_in = slices._shut_in(Granting(None), LAB)
    slices._print_status(LAB, ROWS, True, "", shut_in, verbose=False)
    said = capsys.readouterr().out
    assert "`outside: true` of a, c asks for: it is not granted" in said
    assert "`vini outside grant lab --to PREFIX`" in said
    assert slices._status_json(LAB, ROWS, True, "", shut_in)["not_granted"] == ["a", "c"]


def test_what_is_granted_or_not_asked_for_is_no_news(capsys: pytest.CaptureFixture[str]) -> None:
    assert slices._shut_in(Granting(OutsideGrant(("0.0.0.0/0",))), LAB) == []
    assert slices._shut_in(Granting(None), Topology("lab", {"b": Sliver("b")})) == []
    slices._print_status(LAB, ROWS, True, "", [], verbose=False)
    assert "grant" not in capsys.readouterr().out
