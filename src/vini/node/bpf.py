"""The two eBPF programs at a shaped vif's exit, made from instructions and loaded by bpf(2) itself.

No compiler and no libbpf: a program of nine instructions needs neither (bpf(2), linux/bpf.h,
tc-bpf(8) for direct-action return values).
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

from vini.node.place import GROUP

REDIRECT = "vini_redirect"
DROP = "vini_drop"
MARK = GROUP  # the socket mark of what the element sends: it has been delayed already and may pass
TAP_BIT = 1 << 25  # a vif's TAP has the vif's index with this bit; the indexes that we choose are below 2**24

_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}
_MAP_CREATE, _PROG_LOAD, _PROG_GET_FD_BY_ID, _SCHED_CLS = 0, 5, 13, 3
_SKB_MARK, _SKB_IFINDEX = 8, 40  # offsets in struct __sk_buff
_REDIRECT_CALL = 23  # bpf_redirect(ifindex, flags)
_LOG_BYTES = 1 << 18  # room for what the verifier says of a program that it takes, too
_UNSPEC, _SHOT = -1, 2  # TC_ACT_: go on as if there were no filter; drop


def _instruction(code: int, dst: int = 0, src: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("=BBhI", code, dst | src << 4, offset, immediate & 0xFFFFFFFF)


_EXIT = _instruction(0x95)


def _load_word(dst: int, offset: int) -> bytes:
    return _instruction(0x61, dst, 1, offset)  # r1 is the context


def _set(dst: int, value: int) -> bytes:
    return _instruction(0xB7, dst, immediate=value)


PROGRAMS = {
    DROP: _set(0, _SHOT) + _EXIT,
    REDIRECT: b"".join(
        (
            _load_word(2, _SKB_MARK),
            _instruction(0x15, 2, offset=5, immediate=MARK),  # if r2 == MARK goto pass
            _load_word(1, _SKB_IFINDEX),
            _instruction(0x47, 1, immediate=TAP_BIT),  # r1 |= TAP_BIT
            _set(2, 0),
            _instruction(0x85, immediate=_REDIRECT_CALL),
            _EXIT,
            _set(0, _UNSPEC),  # pass:
            _EXIT,
        )
    ),
}


def load(name: str) -> int:
    """A descriptor of that program, the caller's to close.  OSError with the verifier's words if refused."""
    return load_instructions(name, PROGRAMS[name])


def load_instructions(name: str, program: bytes) -> int:
    """The same, of a program for traffic control that somebody else made."""
    instructions = ctypes.create_string_buffer(program)
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    log = ctypes.create_string_buffer(_LOG_BYTES)
    attributes = struct.pack(
        "=IIQQIIQII16s",
        _SCHED_CLS,
        len(program) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(licence),
        1,
        len(log),
        ctypes.addressof(log),
        0,
        0,
        name.encode(),
    )
    fd = _bpf(_PROG_LOAD, attributes)
    if fd < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"bpf(2) refused {name}: {os.strerror(errno)} {log.value.decode()}".strip())
    return fd


def create_map(kind: int, key_bytes: int, value_bytes: int, entries: int, flags: int = 0) -> int:
    """A descriptor of a new map, the caller's to close."""
    return _opened("a map", _MAP_CREATE, struct.pack("=IIIII", kind, key_bytes, value_bytes, entries, flags))


def by_id(program: int) -> int:
    """A descriptor of the loaded program that has this number, the caller's to close."""
    return _opened(f"program {program}", _PROG_GET_FD_BY_ID, struct.pack("=III", program, 0, 0))


def _opened(what: str, command: int, attributes: bytes) -> int:
    fd = _bpf(command, attributes)
    if fd < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"bpf(2) refused {what}: {os.strerror(errno)}")
    return fd


def _bpf(command: int, attributes: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.syscall(_SYSCALL[platform.machine()], command, ctypes.c_char_p(attributes), len(attributes))
    return fd
