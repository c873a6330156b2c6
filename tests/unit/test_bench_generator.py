"""What the generator of `vini bench forward` calls a rate, on a machine that is told in numbers."""

from __future__ import annotations

import pytest

from vini.bench.generator import rate

_CALL_S = 0.02  # what a call of BPF_PROG_TEST_RUN takes besides its frames


class Path:
    """Takes so long for each frame that is sent, and lets so many of them through."""

    def __init__(self, frame_ns: float, share: float):
        self.frame_ns, self.share, self.now, self.arrived, self.calls = frame_ns, share, 0.0, 0, 0

    def send(self, frames: int) -> None:
        self.calls += 1
        self.now += _CALL_S + frames * self.frame_ns * 1e-9
        self.arrived += int(frames * self.share)


@pytest.mark.parametrize("frame_ns", [100, 400, 10_000])
def test_the_rate_is_that_of_the_path_and_not_of_how_often_the_kernel_was_called(frame_ns: float) -> None:
    path = Path(frame_ns, share=0.25)
    found = rate(path.send, lambda: path.arrived, lambda: path.now, seconds=1.0)
    assert found.sent_kpps == pytest.approx(1e6 / frame_ns, rel=0.025)
    assert found.arrived_kpps == pytest.approx(0.25e6 / frame_ns, rel=0.025)
    assert path.now < 3.0  # seconds of the path's own clock: a slow one is not sent for minutes
    assert path.calls < 8
