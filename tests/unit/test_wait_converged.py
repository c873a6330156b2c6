"""What is said of a slice that does not converge."""

from __future__ import annotations

import pytest

from vini.client.slices import Slices
from vini.model import SliverStatus, ViniError


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "can't be reached. `vini neighbors`"),
        (1, "can't be reached. Link a--b0 has failed: substrate link east is down: new fibre. `vini neighbors`"),
        (5, "Link a--b2 has failed: substrate link east is down: new fibre. So have 2 more. `vini neighbors`"),
    ],
)
async def test_links_that_failed_with_what_they_ride_on_are_named(count: int, said: str) -> None:
    faults = {f"a--b{i}": "substrate link east is down: new fibre" for i in range(count)}

    class Waiting(Slices):  # type: ignore[misc]
        async def converged(self, slice_: str) -> tuple[bool, str]:  # noqa: ARG002
            return False, "1 of the expected pairs can't be reached"

        async def status(self, slice_: str) -> list[SliverStatus]:
            return [SliverStatus(f"{slice_}.a", "ready", faults=faults), SliverStatus(f"{slice_}.b", "ready")]

    Waiting.__abstractmethods__ = frozenset()
    with pytest.raises(ViniError) as told:
        await Waiting(lambda _: None).wait_converged("s", 0.0)
    assert said in str(told.value)
