"""When a slice has settled: every expected destination can be reached, and routes have stood still."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from vini.experiment.network import Network

POLL_S = 0.2  # between two looks


async def settle(network: Network, slice_: str, calm_s: float, say: Callable[[str], None] = lambda _: None) -> None:
    """Return when the slice has converged and no route has changed for `calm_s`.

    Reachable alone is not yet settled: first ways are often detours until the last link state has
    come round, and right after a change of cost everything is still reachable the old way.
    """
    loop = asyncio.get_running_loop()
    before, since, why = await network.fib_entries(slice_), loop.time(), ""
    while True:
        good, reason = await network.converged(slice_)
        have = await network.fib_entries(slice_)
        if have != before or not good:
            before, since = have, loop.time()
        if loop.time() - since >= calm_s and good:
            return
        state = f"waiting until no route has changed for {calm_s:g} s" if good else f"not converged: {reason}"
        if state != why:
            say(state)
        why = state
        await asyncio.sleep(min(POLL_S, calm_s / 2) if good else POLL_S)
