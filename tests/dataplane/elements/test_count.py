"""count: count packets."""

from frames import tcp

TEXT = "input -> seen :: count -> kernel"


def test_packets_and_bytes_are_counted(start):
    program = start(TEXT)
    frame = tcp()
    assert program.send(frame, repeat=3).packet == frame
    assert program.read("seen.passed") == [("3", str(3 * len(frame)))]


def test_a_large_segment_is_several_packets(start, hook):
    program = start(TEXT)
    program.send(tcp() + bytes(2000), gso_size=1000)
    assert program.packets("seen.passed") == (3 if hook == "tc" else 1)
