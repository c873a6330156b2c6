"""Loading a program by bpf(2) where signals come in the middle of it."""

from __future__ import annotations

import os
import signal
import struct

import pytest

from vini.node import bpf

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

_ADD_ONE = struct.pack("=BBhi", 0x07, 0, 0, 1)  # r0 += 1
_LONG = struct.pack("=BBhi", 0xB7, 0, 0, 0) + 3000 * _ADD_ONE + struct.pack("=BBhi", 0x95, 0, 0, 0)
_SOON_S = 0.0005  # while the verifier is at it, which takes some milliseconds


def test_a_signal_while_the_verifier_reads_does_not_refuse_a_program() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: came.append(number))
    try:
        for _ in range(20):
            signal.setitimer(signal.ITIMER_REAL, _SOON_S)
            os.close(bpf.load_instructions("long", _LONG))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert came  # else nothing was tried
