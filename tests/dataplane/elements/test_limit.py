"""limit: let through what keeps to a rate."""

from frames import tcp

TEXT = """
input -> l :: limit({limit}) -> out(to-b)
l[exceed] -> kernel
"""


def test_a_burst_passes_and_no_more(start):
    program = start(TEXT.format(limit="1pps, burst=2000"))  # three packets: two may come too early
    went = [program.send(tcp()).went for _ in range(10)]
    assert went == ["to-b"] * 3 + ["kernel"] * 7
    assert (program.packets("l.conform"), program.packets("l.exceed")) == (3, 7)


def test_time_gives_new_turns(start):
    program = start(TEXT.format(limit="1pps, burst=0"))
    assert [program.send(tcp()).went for _ in range(2)] == ["to-b", "kernel"]
    program.write("l.bucket", "0", "0")  # as if the turn had been long ago
    assert program.send(tcp()).went == "to-b"


def test_a_rate_of_bits_counts_bytes(start):
    program = start(TEXT.format(limit="1kbit, burst=3600000"))
    frame = tcp() + bytes(1000)
    program.send(frame)
    (row,) = program.read("l.bucket")
    first = int(row[1])
    program.send(frame)
    (row,) = program.read("l.bucket")
    assert int(row[1]) - first == len(frame) * 8 * 1_000_000  # a bit takes 1 ms


def test_a_large_segment_takes_the_turns_of_its_parts(start, hook):
    program = start(TEXT.format(limit="1pps, burst=3600000"))
    program.send(tcp())
    first = int(program.read("l.bucket")[0][1])
    program.send(tcp() + bytes(3000), gso_size=1000)
    turns = 4 if hook == "tc" else 1
    assert int(program.read("l.bucket")[0][1]) - first == turns * 10**9
