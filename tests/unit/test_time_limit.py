"""A test that hangs ends."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import time_limit


def test_what_hangs_is_ended_and_so_is_what_cleans_up_after_it(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_limit, "LIMIT_S", 0.1)
    monkeypatch.setattr(time_limit, "AGAIN_S", 1.0)
    ended = []
    with (tmp_path / "said").open("wb") as said:
        monkeypatch.setitem(request.config.stash, time_limit.STDERR, said.fileno())  # type: ignore[arg-type]
        with (
            pytest.raises(pytest.fail.Exception, match="has not ended within 0.1 s"),
            time_limit._limited(request.node),
        ):
            try:
                time.sleep(60)
            finally:
                ended.append("the test")
                threading.Event().wait(60)
    assert ended == ["the test"]
    assert (tmp_path / "said").read_text().count(f"{request.node.nodeid} has not ended") == 2
    assert "in wait" in (tmp_path / "said").read_text()
