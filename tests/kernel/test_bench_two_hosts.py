"""Where the second host of `vini bench forward` takes packets in."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
from own_place import eventually

from vini.bench import two_hosts
from vini.bench.ours import alone

pytestmark = [
    pytest.mark.alone,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two processors"),
]


def taken_in_on() -> list[set[int]]:
    """Processors of the threads that take in what comes by the cable."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended
            if (process / "comm").read_text().startswith("napi/vbcable"):
                found.append(os.sched_getaffinity(int(process.name)))
    return found


def test_after_a_row_on_one_processor_the_second_host_has_its_own_again() -> None:
    own = max(os.sched_getaffinity(0))
    eventually(lambda: not taken_in_on())  # an earlier benchmark's cable: the kernel takes it away in its own time
    with alone(), two_hosts._joined():
        assert taken_in_on() == [{own}]
        with two_hosts.sending_alone():
            with two_hosts.on_one_processor():
                assert taken_in_on() == []
            assert taken_in_on() == [{own}]
