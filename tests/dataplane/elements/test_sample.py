"""sample: take a random share of the packets another way."""

from frames import tcp

TEXT = """
input -> s :: sample({share}) -> out(to-b)
s[sampled] -> kernel
"""


def test_the_share_is_kept(start):
    program = start(TEXT.format(share="25%"))
    program.send(tcp(), repeat=10000)
    assert 2200 < program.packets("s.sampled") < 2800  # 2500; five standard deviations are 217


def test_nothing_and_everything(start):
    assert start(TEXT.format(share="0")).send(tcp()).went == "to-b"
    everything = start(TEXT.format(share="100%"))
    assert everything.send(tcp(), repeat=1000).went == "kernel"
    assert everything.packets("s.sampled") == 1000
