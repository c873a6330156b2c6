"""What a process needs that holds thousands of connections for months."""

from __future__ import annotations

import gc
import resource
from asyncio import sslproto

_TLS_BUFFER = 1 << 14  # bytes, what a TLS record has at most (RFC 8446, 5.1); asyncio would keep 256 KiB for each
_GC = (20_000, 10, 200)  # a look at all objects takes a quarter of a second with a thousand nodes, so it must be rare


def prepare() -> None:
    """Call it before the first connection."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # 1024 is what systemd and shells give
    sslproto.SSLProtocol.max_size = _TLS_BUFFER
    gc.set_threshold(*_GC)
