"""A data plane over a TUN device: the kernel leads packets into it by a route, and takes what comes out of it.

Answers pings to any address of a prefix, as a far network would.  In a topology:

    m: {forward: true, program: {process: "exec python3 /path/to/tun-echo.py 10.77.0.0/16"}}
"""

import fcntl
import os
import struct
import subprocess
import sys

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def tun(name: str) -> int:
    """A TUN device of this network namespace, which lives for as long as its descriptor."""
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


def checksum(octets: bytes) -> int:
    """RFC 1071."""
    octets += b"\0" * (len(octets) % 2)
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def answer(packet: bytearray) -> bool:
    """Make an answer of an ICMP echo request; False where it is none."""
    head = (packet[0] & 15) * 4
    if packet[0] >> 4 != 4 or packet[9] != 1 or packet[head] != 8:
        return False
    packet[12:16], packet[16:20] = packet[16:20], packet[12:16]
    packet[head : head + 4] = bytes(4)
    packet[head + 2 : head + 4] = struct.pack("!H", checksum(bytes(packet[head:])))
    return True


def main(prefix: str) -> None:
    device = tun("tun0")
    subprocess.run(["ip", "link", "set", "tun0", "up"], check=True)
    subprocess.run(["ip", "route", "add", prefix, "dev", "tun0"], check=True)
    while True:
        packet = bytearray(os.read(device, 65536))
        if answer(packet):
            os.write(device, packet)


main(sys.argv[1])
