"""classify: sort packets by their Ethernet protocol."""

from frames import ARP, IP6, ethernet, tcp

TEXT = """
input -> sort :: classify(ip, 0x86dd)
sort[ip] -> out(to-b)
sort[1] -> out(to-c)
sort[other] -> kernel
"""


def test_each_protocol_leaves_by_its_own_output(start):
    program = start(TEXT)
    assert program.send(tcp()).went == "to-b"
    assert program.send(ethernet(bytes(40), IP6)).went == "to-c"
    assert program.send(ethernet(bytes(28), ARP)).went == "kernel"


def test_what_the_kernel_gets_is_unchanged(start):
    frame = ethernet(bytes(28), ARP)
    assert start(TEXT).send(frame).packet == frame
