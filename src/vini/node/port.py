"""What the link element needs of the kernel for one vif: a TAP to read from and a packet socket to send by.

To be called inside the vif's namespace.  Sources: Documentation/networking/tuntap.rst, packet(7).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EBUSY

from vini.node import netlink as nl
from vini.node.bpf import TAP_BIT
from vini.node.netlink import Socket
from vini.node.place import GROUP

_TUNSETPERSIST = 0x400454CB
_TUNSETIFF, _TUNSETOFFLOAD, _TUNSETVNETHDRSZ, _TUNSETIFINDEX = 0x400454CA, 0x400454D0, 0x400454D8, 0x400454DA
_TAP_FLAGS = 0x0002 | 0x1000 | 0x4000  # IFF_TAP, IFF_NO_PI, IFF_VNET_HDR
_VNET_HEADER = 10  # bytes; struct virtio_net_hdr, which packet sockets have too
_SEGMENTS = 0x01 | 0x02 | 0x04 | 0x08  # TUN_F_CSUM, _TSO4, _TSO6, _TSO_ECN
_UDP_SEGMENTS = 0x20 | 0x40  # TUN_F_USO4, _USO6: Linux 6.2
_SOL_PACKET, _PACKET_VNET_HDR = 263, 15
_SO_ATTACH_FILTER, _SO_SNDBUFFORCE, _SO_COOKIE = 26, 32, 57
_SEND_BUFFER = 16 << 20  # bytes; what our own kernel still has to hand over to the peer
_EXPERIMENTAL = 0x88B5  # IEEE 802 local experimental ethertype 1
_LINK_BODY = struct.Struct("=BxHiII")
_IFF_UP, _UP_WITHOUT_ARP = 0x01, 0x81  # IFF_UP, IFF_UP | IFF_NOARP
_TXQLEN, _GROUP, _GSO_MAX_SIZE = 13, 27, 41
_WHOLE, _SPLIT = 65536, 512  # bytes of the largest segment; the kernel wants at least a TCP header's room
QUEUE = 2048  # packets between the kernel and the element, which comes round far more often than they fill it


@contextmanager
def opened(dev: str, index: int) -> Iterator[tuple[int, int, int]]:
    """The vif's TAP, a packet socket on the vif, and that socket's cookie; ours until passed on, closed at the end.

    A TAP that is there already is taken over, or made anew where it is still held: an element closes
    them one after the other.  OSError where the kernel refuses.
    """
    if index & TAP_BIT:
        raise OSError(f"the index of {dev}, {index}, is too high")
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        try:
            _make_tap(tap, index)
        except OSError as e:
            if e.errno != EBUSY:
                raise
            with Socket() as rtnetlink:
                rtnetlink.transact([deleted(index)])
            _make_tap(tap, index)
        with _packet_socket(dev) as out:
            yield tap, out.fileno(), int.from_bytes(out.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8), sys.byteorder)
    finally:
        os.close(tap)


def _make_tap(fd: int, index: int) -> None:
    name = f"shape{index:x}"
    fcntl.ioctl(fd, _TUNSETIFINDEX, struct.pack("=I", index | TAP_BIT))
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("=16sH22x", name.encode(), _TAP_FLAGS))
    fcntl.ioctl(fd, _TUNSETPERSIST, 1)
    fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("=i", _VNET_HEADER))
    try:
        fcntl.ioctl(fd, _TUNSETOFFLOAD, _SEGMENTS | _UDP_SEGMENTS)
    except OSError:
        fcntl.ioctl(fd, _TUNSETOFFLOAD, _SEGMENTS)
    _no_ipv6(name)


def _no_ipv6(name: str) -> None:
    """Else the kernel would announce itself through the TAP, and that would leave by the vif."""
    try:
        fd = os.open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", os.O_WRONLY)
    except FileNotFoundError:  # no IPv6 in this kernel
        return
    try:
        os.write(fd, b"1")
    finally:
        os.close(fd)


def _packet_socket(dev: str) -> socket.socket:
    """Sends whole frames with vnet headers; our own filter knows it by its cookie, and lets them pass.

    It is bound to a protocol that nobody speaks, and takes in nothing: only so does it hear when
    the vif goes away.
    """
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    try:
        out.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
        out.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER)
        _take_nothing(out)
        out.bind((dev, _EXPERIMENTAL))
    except OSError:
        out.close()
        raise
    return out


def _take_nothing(out: socket.socket) -> None:
    """Attach the classic BPF program `ret #0` (socket(7), SO_ATTACH_FILTER)."""
    instruction = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))
    program = struct.pack("@HP", 1, ctypes.addressof(instruction))
    out.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def deleted(index: int) -> bytes:
    """The request that deletes the TAP of a vif."""
    return nl.message(nl.DELLINK, 0, _LINK_BODY.pack(0, 0, index | TAP_BIT, 0, 0))


def disowned(index: int) -> bytes:
    """The request that takes our mark off the TAP of a vif, which somebody is closing."""
    body = _LINK_BODY.pack(0, 0, index | TAP_BIT, 0, _IFF_UP)
    return nl.message(nl.SETLINK, 0, body + nl.u32(_GROUP, 0))


def configured(index: int) -> bytes:
    """The request that marks the TAP of a vif as ours and brings it up, without ARP."""
    body = _LINK_BODY.pack(0, 0, index | TAP_BIT, _UP_WITHOUT_ARP, _UP_WITHOUT_ARP)
    return nl.message(nl.SETLINK, 0, body + nl.u32(_TXQLEN, QUEUE) + nl.u32(_GROUP, GROUP))


def splitting(index: int, splits: bool) -> bytes:
    """The request by which the kernel hands large segments to the TAP as they are, or as frames of the MTU's size.

    Where packets are lost or counted one by one, or take their turn at a rate, each frame must be its own.
    """
    body = _LINK_BODY.pack(0, 0, index | TAP_BIT, 0, 0)
    return nl.message(nl.SETLINK, 0, body + nl.u32(_GSO_MAX_SIZE, _SPLIT if splits else _WHOLE))
