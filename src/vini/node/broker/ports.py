"""TCP ports of the node for slivers: a socket that listens there, made by the agent, whose descriptor a process gets.

A socket belongs to the network namespace that it was made in, whoever holds it: it could be told to stop listening and
to connect instead, to the node's own services say.  So a filter that can't be taken off, and that accepted connections
inherit, throws away what answers a connection that begins here: it never comes about.  What is left to its holder is to
accept, and to see the names and addresses of the node's interfaces (netdevice(7)).
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct

from vini.model import Conflict, ViniError
from vini.node.undo import closed_on_failure

_BACKLOG = 64
_SO_ATTACH_FILTER, _SO_LOCK_FILTER = 26, 44  # socket(7); not in Python
_B, _W, _AND, _JEQ, _RET = 0x30, 0x20, 0x54, 0x15, 0x06  # linux/bpf_common.h, linux/filter.h
_FLAGS, _SEQUENCE = 13, 4  # offsets in a TCP header (RFC 9293), which is where the filter begins to see a segment
_SYN_ACK, _RST = 0x12, 0x04
_ALL = 0xFFFFFFFF
_FILTER = (
    (_B, 0, 0, _FLAGS),
    (_AND, 0, 0, _SYN_ACK),
    (_JEQ, 6, 0, _SYN_ACK),  # who answers a SYN of ours: to the last line
    (_B, 0, 0, _FLAGS),
    (_AND, 0, 0, _RST),
    (_JEQ, 2, 0, 0),
    (_W, 0, 0, _SEQUENCE),
    (_JEQ, 1, 0, 0),  # who refuses one: a RST without a sequence number (RFC 9293, 3.5.2)
    (_RET, 0, 0, _ALL),
    (_RET, 0, 0, 0),
)


def listening(port: int) -> socket.socket:
    """At all addresses of the machine.  Raises Conflict where the port is taken."""
    try:
        made = _bound(socket.AF_INET6, port) if socket.has_dualstack_ipv6() else _bound(socket.AF_INET, port)
        with closed_on_failure(made):
            _filter(made)
            made.listen(_BACKLOG)
    except OSError as e:
        if e.errno == errno.EADDRINUSE:
            raise Conflict(f"Port {port} of the node is taken already; ask for another of yours.") from e
        raise ViniError(f"Port {port} of the node can't be had: {e.strerror}.") from e
    return made


def _bound(family: socket.AddressFamily, port: int) -> socket.socket:
    with closed_on_failure(socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
    return made


def _filter(made: socket.socket) -> None:
    code = b"".join(struct.pack("=HBBI", *line) for line in _FILTER)
    room = ctypes.create_string_buffer(code)
    program = struct.pack("@HP", len(_FILTER), ctypes.addressof(room))  # struct sock_fprog
    made.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    made.setsockopt(socket.SOL_SOCKET, _SO_LOCK_FILTER, 1)
