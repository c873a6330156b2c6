"""Each packet test runs at both hooks, unless its element can't."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from running import Running


@pytest.fixture(params=["tc", "xdp"])
def hook(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def start(hook: str) -> Iterator[Callable[[str], Running]]:
    """`start(text)`: the program, loaded at the hook until the test ends."""
    if os.geteuid() or not shutil.which("clang"):
        pytest.skip("compiles by clang, and loads into the kernel, which only root may")
    with ExitStack() as stack:
        yield lambda text, **options: Running(stack, hook, text, **options)
