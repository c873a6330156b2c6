"""When the kernel has taken down the namespaces that nobody holds any more.

Deleting a namespace only unpins it; one kernel thread takes down all that were let go, with their
interfaces, in batches and in order.  So a veth pair into one more namespace, let go after all others,
tells: when its end on our side has vanished, every namespace let go before it is down.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from vini.model import ViniError
from vini.node import netns, rtnl
from vini.node.netlink import Socket

_POLL_S = 0.001
_LIMIT_S = 120.0


def wait_finished(mark: str) -> None:
    """Return when every namespace of this machine that was let go before this call is down."""
    watched, last = (Path(f"/run/netns/{mark}-finished.{name}") for name in ("watched", "last"))
    watched.parent.mkdir(exist_ok=True)
    with netns.back_home():
        try:
            netns.create(last)
            netns.create(watched)
            with Socket() as socket:
                _join(socket, watched, last)
                netns.delete(last)
                _until_only_lo(socket)
        finally:
            netns.delete(last)
            netns.delete(watched)


def _join(socket: Socket, a: Path, b: Path) -> None:
    fds = (os.open(a, os.O_RDONLY), os.open(b, os.O_RDONLY))
    try:
        request = rtnl.add_veth(fds, ("veth0", "veth0"), (2, 2), ("02:00:00:00:00:01", "02:00:00:00:00:02"))
        (errno,) = socket.transact([request])
    finally:
        for fd in fds:
            os.close(fd)
    if errno:
        raise OSError(errno, f"making a veth pair: {os.strerror(errno)}")


def _until_only_lo(socket: Socket) -> None:
    deadline = time.monotonic() + _LIMIT_S
    while len(socket.dump(rtnl.dump_links())) > 1:
        if time.monotonic() > deadline:
            raise ViniError(f"The kernel has not taken down deleted network namespaces within {_LIMIT_S:g} s.")
        time.sleep(_POLL_S)
